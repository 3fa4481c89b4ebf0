"""The parent flow's signature, and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from prefect_lume.composer import FlowOfFlows, Subflow
from prefect_lume.errors import (
    CompositionError,
    InvalidInputError,
    NotFoundError,
    PackageError,
)

Mapped = Callable[..., dict[str, Any]]


@pytest.fixture
def chain(flows: ModuleType, mapped: Mapped) -> FlowOfFlows:
    """Two subflows, one fed by the other."""
    return FlowOfFlows.of(
        "chain",
        "test",
        [
            flows.generate,
            Subflow(
                flows.consume,
                "second take",
                mapped_parameters={
                    "values": mapped("generate", "numbers"),
                    "note": mapped("generate", "save_text", "file"),
                    "result": mapped("generate", "store_numbers", "db"),
                    "made": mapped("generate"),
                },
            ),
        ],
        description="Two flows.",
    )


def test_the_parent_is_a_typed_flow(chain: FlowOfFlows) -> None:
    """Unmapped parameters keep type, default, enum and description."""
    parent = chain.compose()
    schema = parent.parameters.model_dump_for_openapi()
    found = schema["properties"]
    assert list(found) == [
        "generate__n",
        "generate__kind",
        "second_take__peak",
        "second_take__scale",
        "run_subflows",
    ]
    assert found["generate__n"]["type"] == "integer"
    assert found["generate__n"]["default"] == 4
    assert found["generate__n"]["description"] == "How many numbers."
    assert found["generate__kind"]["enum"] == ["linear", "square"]
    assert found["run_subflows"]["enum"] == ["in-process", "deployments"]
    assert schema["required"] == ["second_take__peak"]
    assert not schema.get("definitions")
    assert (parent.name, parent.version) == ("chain", chain.spec.version)
    assert parent.description == "Two flows."
    assert not parent.isasync


def test_values_are_validated_against_the_subflows_types(chain: FlowOfFlows) -> None:
    """A value of a wrong type is refused by the name of the parent's parameter."""
    parent = chain.compose()
    with pytest.raises(ParameterTypeError, match=r"generate__n.*integer"):
        parent.validate_parameters({"generate__n": "many", "second_take__peak": 1})
    with pytest.raises(ParameterTypeError, match="run_subflows"):
        parent.validate_parameters({"run_subflows": "?", "second_take__peak": 1})
    cast = parent.validate_parameters({"generate__n": "5", "second_take__peak": 1})
    assert cast["generate__n"] == 5


def test_the_entry_point_is_the_callers_variable(chain: FlowOfFlows) -> None:
    """A Prefect deployment made of the parent finds it in the caller's module."""
    parent = chain.compose("my_parent")
    assert parent.fn.__module__ == __name__
    assert parent.fn.__qualname__ == "my_parent"


def test_all_problems_are_reported_at_once(flows: ModuleType) -> None:
    """Unknown task, unknown parameter and a later parent come together, with lines."""
    text = """
name: chain
project_name: test
composing_flows:
  - name: echo
    mapped_parameters:
      value: {parent_flow_name: generate}
  - name: generate
    parameters: {colour: red}
  - name: asynchronous
    mapped_parameters:
      values: {parent_flow_name: generate, parent_task_name: number}
"""
    given = {name: getattr(flows, name) for name in ("echo", "generate")}
    given["asynchronous"] = "lume_chain_flows:asynchronous"
    with pytest.raises(CompositionError) as caught:
        FlowOfFlows.from_yaml(text, given).validate()
    shown = str(caught.value)
    assert len(caught.value.problems) == 3
    assert {problem.line for problem in caught.value.problems} == {7, 9, 12}
    assert "'colour'" in shown
    assert "Did you mean 'numbers'?" in shown


def test_flows_that_cannot_be_used_are_refused(flows: ModuleType) -> None:
    """A generator flow, a function, and a wrong entry point say what is wrong."""
    from prefect import flow

    @flow
    def yields() -> Any:
        yield 1

    with pytest.raises(InvalidInputError, match="yields"):
        FlowOfFlows.of("a", "p", [yields]).validate()
    text = "name: a\nproject_name: p\ncomposing_flows:\n  - name: echo\n"
    for wrong, message in [
        ("lume_chain_flows.echo", "module:attribute"),
        ("lume_chain_flows:nothing", "nothing"),
        ("lume_chain_flows:Colour", "not a flow"),
        ("no_such_module_at_all:echo", "No module named"),
    ]:
        with pytest.raises(PackageError, match=message):
            FlowOfFlows.from_yaml(text, {"echo": wrong}).validate()
    with pytest.raises(InvalidInputError, match="is a method"):
        FlowOfFlows.from_yaml(text, {"echo": flows.Path.cwd}).validate()  # type: ignore[dict-item]


def test_a_missing_file_is_named() -> None:
    """A YAML file that does not exist is not taken for YAML text."""
    with pytest.raises(NotFoundError, match=r"nowhere\.yaml"):
        FlowOfFlows.from_yaml("nowhere.yaml")


def test_the_drawing_names_every_mapping(chain: FlowOfFlows) -> None:
    """describe() draws stages, mappings and the parent's parameters."""
    shown = chain.describe(100)
    assert "generate.save_text" in shown
    assert "second_take__scale" in shown


def test_an_error_in_a_file_that_prefect_imports_is_printed(tmp_path, capsys):
    """Prefect says only that it found no object: the cause is on the error stream."""
    from prefect.utilities.importtools import import_object

    file = tmp_path / "deployable.py"
    file.write_text(
        "from prefect_lume import FlowOfFlows\n"
        "parent = FlowOfFlows.from_yaml('absent.yaml').compose()\n"
    )
    with pytest.raises(Exception, match="deployable"):
        import_object(f"{file}:parent")
    assert "absent.yaml" in capsys.readouterr().err


def test_an_error_outside_an_import_by_prefect_is_only_raised(capsys):
    """In a script or a notebook the error is raised, and nothing is printed."""
    with pytest.raises(NotFoundError):
        FlowOfFlows.from_yaml("absent.yaml")
    assert capsys.readouterr().err == ""
