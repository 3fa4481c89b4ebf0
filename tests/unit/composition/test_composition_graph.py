"""Stages, edges and the parent's own parameters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_lume.composition import (
    ComposingFlow,
    Edge,
    FlowOfFlowsSpec,
    MappedParameter,
    ParameterSpec,
    SubflowSignature,
    load_yaml,
    validate,
)
from prefect_lume.errors import CompositionError


def test_upstreams_chain_becomes_three_stages(upstream_file, signatures):
    """A chain runs one by one, and what is not mapped is the parent's."""
    graph = validate(load_yaml(upstream_file), signatures)
    assert [[flow.name for flow in level] for level in graph.levels] == [
        ["flow1"],
        ["flow2"],
        ["flow3"],
    ]
    assert graph.edges == (
        Edge("flow1", "flow2", "file_rep", "file"),
        Edge("flow2", "flow3", "text1", "db"),
    )
    assert list(graph.exposed) == [
        "flow1__text1",
        "flow1__count",
        "flow2__words",
        "flow2__title",
        "flow3__text2",
    ]
    exposed = graph.exposed["flow1__text1"]
    assert (exposed.subflow, exposed.parameter) == ("flow1", "text1")
    assert exposed.spec.required
    assert graph.exposed["flow1__count"].spec.default == 1


def test_a_constant_is_not_exposed(signatures):
    """A parameter with a constant is settled."""
    spec = FlowOfFlowsSpec(
        name="chain",
        project_name="test",
        composing_flows=[ComposingFlow(name="flow1", parameters={"text1": "a"})],
    )
    assert list(validate(spec, signatures).exposed) == ["flow1__count"]


def test_slugs_name_the_exposed_parameters(signatures):
    """A name that is no identifier is exposed by its slug, and both are known."""
    spec = FlowOfFlowsSpec(
        name="chain",
        project_name="test",
        composing_flows=[ComposingFlow(name="first one", flow_name="flow1")],
    )
    graph = validate(spec, {"first one": signatures["flow1"]})
    assert graph.exposed["first_one__text1"].subflow == "first one"


def _build(positions, edges) -> tuple[FlowOfFlowsSpec, dict[str, SubflowSignature]]:
    flows, signatures = [], {}
    for index, position in enumerate(positions):
        upstreams = sorted({up for up, down in edges if down == index})
        names = {f"p{up}": f"f{up}" for up in upstreams}
        flows.append(
            ComposingFlow(
                name=f"f{index}",
                position=position,
                mapped_parameters={
                    parameter: MappedParameter(parent_flow_name=upstream)
                    for parameter, upstream in names.items()
                },
            )
        )
        signatures[f"f{index}"] = SubflowSignature(
            f"f{index}", "", {name: ParameterSpec(name) for name in names}
        )
    spec = FlowOfFlowsSpec(name="p", project_name="t", composing_flows=flows)
    return spec, signatures


@st.composite
def _graphs(draw):
    count = draw(st.integers(1, 8))
    positions = draw(
        st.lists(st.integers(1, 4), min_size=count, max_size=count),
    )
    index = st.integers(0, count - 1)
    edges = draw(st.sets(st.tuples(index, index), max_size=12))
    return positions, {(up, down) for up, down in edges if up != down}


@settings(deadline=None)
@given(_graphs())
def test_stages_respect_positions_and_mappings(case):
    """Whatever the graph: it is refused for a reason, or runs in a right order."""
    positions, edges = case
    spec, signatures = _build(positions, edges)
    try:
        graph = validate(spec, signatures)
    except CompositionError as exc:
        later = any(positions[up] > positions[down] for up, down in edges)
        circle = any("circle" in problem.message for problem in exc.problems)
        assert later or circle
        return
    stage = {
        int(flow.name[1:]): number
        for number, level in enumerate(graph.levels)
        for flow in level
    }
    assert sorted(stage) == list(range(len(positions)))
    assert all(graph.levels)
    for up, down in edges:
        assert stage[up] < stage[down]
    for one in stage:
        for other in stage:
            if positions[one] < positions[other]:
                assert stage[one] < stage[other]
            if positions[one] == positions[other] and stage[one] > stage[other]:
                # Nothing waits without a reason.
                waits = {up for up, down in edges if down == one}
                assert any(stage[up] == stage[one] - 1 for up in waits)


@settings(deadline=None)
@given(_graphs())
def test_the_drawing_shows_everything_inside_its_width(case):
    """Every subflow and mapping is in the pictures, and no line is too wide."""
    spec, signatures = _build(*case)
    try:
        graph = validate(spec, signatures)
    except CompositionError:
        return
    text, chart = graph.describe(), graph.to_mermaid()
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("●") == len(spec.composing_flows)
    assert text.count("◀─") == chart.count("-->") == len(graph.edges)


@pytest.mark.parametrize("position", [1, 2, 7])
def test_equal_positions_run_together(position):
    """Subflows at one position, without a mapping between them, share a stage."""
    spec, signatures = _build([position, position, position], set())
    assert len(validate(spec, signatures).levels) == 1


def test_a_mapping_orders_equal_positions():
    """Inside one position the mapping says who is first."""
    spec, signatures = _build([1, 1, 1], {(2, 0)})
    levels = validate(spec, signatures).levels
    assert [[flow.name for flow in level] for level in levels] == [["f1", "f2"], ["f0"]]
