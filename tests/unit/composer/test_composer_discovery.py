"""The tasks of a flow, found without running it."""

from __future__ import annotations

from types import ModuleType

from prefect import flow, task

from prefect_lume.composer.discovery import find_tasks
from prefect_lume.composer.signatures import signature_of
from prefect_lume.composition import FLOW_RETURN


@task
def plain() -> float:
    """Return a number."""
    return 1.0


@task(name="has a name")
def named() -> list[int]:
    """Return a list."""
    return [helper()]


@task
def inner() -> int:
    """Return what a task called by a task returns."""
    return 1


def helper() -> int:
    """Call a task, as a function of the module."""
    return inner()


TABLE = {"x": plain.with_options(name="in a table")}


class Steps:
    """Tasks as attributes."""

    first = plain.with_options(name="in a class")


def test_globals_functions_tables_and_classes_are_followed() -> None:
    """Tasks are found wherever the flow's code refers to them by a name."""

    @flow
    def uses_them() -> None:
        plain()
        named()
        TABLE["x"]()
        Steps.first()

    found = find_tasks(uses_them)
    assert found is not None
    assert set(found) == {"plain", "has a name", "inner", "in a table", "in a class"}


def test_names_given_in_the_code_are_found() -> None:
    """with_options(name=...) and tasks made inside the flow add their names."""

    @flow
    def renames() -> None:
        plain.with_options(name="renamed")()

        @task
        def local() -> None:
            return None

        local()

    found = find_tasks(renames)
    assert found is not None
    assert {"plain", "renamed", "local"} <= set(found)


def test_a_flow_that_chooses_while_it_runs_has_unknown_tasks() -> None:
    """With getattr, or a name made at run time, no name can be called wrong."""

    @flow
    def dynamic() -> None:
        getattr(Steps, "first")()  # noqa: B009

    @flow
    def computed(name: str) -> None:
        plain.with_options(name=name)()

    assert find_tasks(dynamic) is None
    assert find_tasks(computed) is None


def test_tasks_of_a_nested_flow_are_not_its_own() -> None:
    """The tasks of a flow that is called belong to a run of their own."""

    @flow
    def inside() -> None:
        named()

    @flow
    def outside() -> None:
        plain()
        inside()

    assert set(find_tasks(outside) or {}) == {"plain"}


def test_the_signature_says_what_tasks_and_flow_return(flows: ModuleType) -> None:
    """Return annotations become schemas; references are marked in them."""
    signature = signature_of(flows.generate, "project")
    assert signature.tasks is not None
    assert {"numbers", "save_text", "store_numbers", "twice"} <= signature.tasks
    assert signature.task_returns["save_text"]["x-prefect-lume"] == "file-reference"
    assert signature.task_returns["twice"] == {"type": "integer"}
    assert signature.task_returns[FLOW_RETURN]["type"] == "object"
    assert signature.parameters["kind"].default == "linear"
