"""The pictures of a flow-of-flows."""

from __future__ import annotations

from prefect_lume.composition import (
    ComposingFlow,
    FlowOfFlowsSpec,
    from_parameter_schema,
    load_yaml,
    validate,
)


def test_the_drawing_of_upstreams_chain(upstream_file, signatures):
    """Stages from top to bottom, where each value comes from, what is left to give."""
    graph = validate(load_yaml(upstream_file), signatures)
    version = graph.spec.version
    assert (
        graph.describe()
        == f"""\
flow_of_flows  (project test, version {version})
3 subflows in 3 stages

── stage 1 ─────────────────────────────────────────────────────────────────────
  ● flow1                                                             flow flow1

── stage 2 ─────────────────────────────────────────────────────────────────────
  ● flow2                                                             flow flow2
      file_rep ◀─file── flow1.save_text_file

── stage 3 ─────────────────────────────────────────────────────────────────────
  ● flow3                                                             flow flow3
      text1 ◀─db──── flow2.save_db_result → outputs['output1']

── parameters of the parent ────────────────────────────────────────────────────
  flow1__text1  string, required
  flow1__count  integer = 1
  flow2__words  integer = 0
  flow2__title  string = null
  flow3__text2  anything
"""
    )


def test_stages_that_run_together_constants_and_deployments_are_shown(signatures):
    """One line says how many run at the same time, what is constant and where."""
    spec = FlowOfFlowsSpec(
        name="chain",
        project_name="test",
        composing_flows=[
            ComposingFlow(name="a", flow_name="flow1", position=1),
            ComposingFlow(
                name="b",
                flow_name="flow1",
                position=1,
                parameters={"text1": "é" * 100},
                prefect_deployment="flow1/gpu",
            ),
        ],
    )
    graph = validate(spec, dict.fromkeys("ab", signatures["flow1"]))
    text = graph.describe(width=60)
    assert "── stage 1, 2 at the same time ──" in text
    assert "Prefect deployment flow1/gpu" in text
    assert '      text1 = "éé' in text
    assert max(map(len, text.splitlines())) == 60


def test_mermaid_survives_any_name(signatures):
    """Names that mean something to Mermaid are escaped, and ids are our own."""
    name = 'end"]; click x | y #'
    spec = FlowOfFlowsSpec(
        name="chain",
        project_name="test",
        composing_flows=[
            {"name": name, "flow_name": "flow1"},
            {"name": "b", "mapped_parameters": {"p": {"parent_flow_name": name}}},
        ],
    )
    known = {
        name: signatures["flow1"],
        "b": from_parameter_schema("b", {"properties": {"p": {}}}),
    }
    assert (
        validate(spec, known).to_mermaid()
        == """\
flowchart TD
  subgraph stage1["stage 1"]
    s0["end#34;]; click x #124; y #35;<br/>flow1"]
  end
  subgraph stage2["stage 2"]
    s1["b"]
  end
  s0 -->|"p (raw)"| s1
"""
    )
