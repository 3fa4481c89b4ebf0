"""Composed flows that run in this process, against a temporary Prefect server."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.exceptions import ParameterTypeError
from prefect.states import Cancelling

from prefect_lume.composer import FlowOfFlows, Subflow
from prefect_lume.config import running_deployment
from prefect_lume.errors import CompositionError, ConfigurationError, SubflowError
from prefect_lume.results import FileReference

pytestmark = pytest.mark.usefixtures("prefect_api")

Mapped = Callable[..., dict[str, Any]]
Outcomes = Callable[[dict[str, str]], dict[str, Any]]


def _failure(parent: Any, name: str, **parameters: Any) -> str:
    with pytest.raises(SubflowError) as caught:
        parent(**parameters)
    return caught.value.failures[name]


def test_raw_file_and_db_reach_the_next_subflow(
    flows: ModuleType, mapped: Mapped, outcomes: Outcomes
) -> None:
    """Values, files, results and return values arrive exactly, also in async flows."""
    chain = FlowOfFlows.of(
        "kinds",
        "kinds project",
        [
            flows.generate,
            Subflow(
                flows.consume,
                mapped_parameters={
                    "values": mapped("generate", "numbers"),
                    "note": mapped("generate", "save_text", "file"),
                    "result": mapped("generate", "store_numbers", "db"),
                    "peak": mapped(
                        "generate",
                        "store_numbers",
                        "db",
                        attribute="outputs",
                        attribute_index=["nested", "peak"],
                    ),
                    "made": mapped("generate"),
                },
            ),
            Subflow(
                flows.asynchronous,
                position=2,
                mapped_parameters={"values": mapped("generate", "numbers")},
            ),
        ],
    )
    runs = chain.compose()(generate__n=4, consume__scale=3.0)
    found = outcomes(runs)
    values = [0.0, 0.1, 0.2, 0.1 * 3]
    assert found["generate"] == {"n": 4, "half": 2.0}
    assert found["asynchronous"] == 4
    assert found["consume"] == {
        "values": values,
        "note": "linear 4",
        "stored": values,
        "peak": values[-1],
        "made": {"n": 4.0, "half": 2.0},
        "scaled": sum(values) * 3.0,
    }
    with get_client(sync_client=True) as client:
        for name, run_id in runs.items():
            run = client.read_flow_run(UUID(run_id))
            assert run.name == name
            assert "kinds project" in run.tags
            assert run.parent_task_run_id is not None
            parent = client.read_flow_run(
                client.read_task_run(run.parent_task_run_id).flow_run_id
            )
            assert "kinds project" in parent.tags


def test_equal_positions_run_at_the_same_time(
    flows: ModuleType, tmp_path: Path, outcomes: Outcomes
) -> None:
    """Two subflows at one position wait for each other, so neither can be first."""
    pair = FlowOfFlows.of(
        "pair",
        "test",
        [
            Subflow(flows.meet, "left", position=1),
            Subflow(flows.meet, "right", position=1),
        ],
    )
    folder = str(tmp_path)
    runs = pair.compose()(
        left__folder=folder,
        left__me="left",
        left__other="right",
        right__folder=folder,
        right__me="right",
        right__other="left",
    )
    assert outcomes(runs) == {"left": "left", "right": "right"}


def test_siblings_of_a_failure_finish_and_later_stages_do_not_start(
    flows: ModuleType, tmp_path: Path
) -> None:
    """The error names every failed subflow with its cause; nothing stays running."""
    chain = FlowOfFlows.of(
        "failing",
        "test",
        [
            Subflow(
                flows.count,
                "bad",
                position=1,
                parameters={"folder": str(tmp_path), "name": "bad", "fail_first": True},
            ),
            Subflow(
                flows.count,
                "worse",
                position=1,
                parameters={
                    "folder": str(tmp_path),
                    "name": "worse",
                    "fail_first": True,
                },
            ),
            Subflow(
                flows.count,
                "good",
                position=1,
                parameters={"folder": str(tmp_path), "name": "good"},
            ),
            Subflow(
                flows.count,
                "later",
                position=2,
                parameters={"folder": str(tmp_path), "name": "later"},
            ),
        ],
    )
    with pytest.raises(SubflowError) as caught:
        chain.compose()()
    assert caught.value.failures == {
        "bad": "RuntimeError: bad fails the first time",
        "worse": "RuntimeError: worse fails the first time",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "good", "worse"]


def test_a_parent_that_runs_again_does_not_repeat_finished_subflows(
    flows: ModuleType, mapped: Mapped, tmp_path: Path, outcomes: Outcomes
) -> None:
    """On a retry only what failed runs again, fed with what was kept."""
    folder = str(tmp_path)
    chain = FlowOfFlows.of(
        "again",
        "test",
        [
            Subflow(flows.count, "one", parameters={"folder": folder, "name": "one"}),
            Subflow(
                flows.count,
                "two",
                position=2,
                parameters={"folder": folder, "name": "two", "fail_first": True},
                mapped_parameters={"value": mapped("one")},
            ),
            Subflow(
                flows.count,
                "beside",
                position=2,
                parameters={"folder": folder, "name": "beside"},
            ),
            Subflow(flows.echo, position=3, mapped_parameters={"value": mapped("one")}),
        ],
    )
    parent = chain.compose().with_options(retries=1)
    assert outcomes(parent()) == {"one": 1, "two": 2, "beside": 1, "echo": 1}


def test_a_wrong_value_is_refused_before_anything_runs(
    flows: ModuleType, tmp_path: Path
) -> None:
    """No subflow starts when the parent's parameters are not valid."""
    chain = FlowOfFlows.of(
        "strict",
        "test",
        [Subflow(flows.count, parameters={"name": "x"}), Subflow(flows.wait)],
    )
    with pytest.raises(Exception, match="wait__seconds"):
        chain.compose()(count__folder=str(tmp_path), wait__seconds="long")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_handed_on_says_why(flows: ModuleType, mapped: Mapped) -> None:
    """Wrong kind, too large, not stored, NaN, several and none: each a clear error."""
    cases = {
        "wrong file": (mapped("generate", "numbers", "file"), "not a FileReference"),
        "wrong db": (mapped("generate", "numbers", "db"), "not a ResultReference"),
        "lost": (mapped("generate", "unstorable"), "object"),
        "several": (mapped("generate", "twice"), "2 runs of the task 'twice'"),
    }
    chain = FlowOfFlows.of(
        "wrong",
        "test",
        [
            flows.generate,
            *(
                Subflow(flows.echo, name, position=2, mapped_parameters={"value": how})
                for name, (how, _) in cases.items()
            ),
        ],
    )
    with pytest.raises(SubflowError) as caught:
        chain.compose()()
    assert set(caught.value.failures) == set(cases)
    for name, (how, message) in cases.items():
        shown = caught.value.failures[name]
        assert message in shown
        assert repr(name) in shown
        assert repr(how["parent_task_name"]) in shown


def test_a_value_past_the_cap_names_the_remedy(
    flows: ModuleType, mapped: Mapped
) -> None:
    """Past 512 kB the error says to map a reference instead."""
    chain = FlowOfFlows.of(
        "large",
        "test",
        [flows.big, Subflow(flows.echo, mapped_parameters={"value": mapped("big")})],
    )
    shown = _failure(chain.compose(), "echo", big__n=60_000)
    assert "512,000" in shown
    assert "ResultReference" in shown


def test_an_unstorable_return_value_fails_nobody_else(
    flows: ModuleType, mapped: Mapped
) -> None:
    """A flow that returns anything completes; only who maps from it fails."""
    alone = FlowOfFlows.of("opaque alone", "test", [flows.opaque])
    assert alone.compose()()
    chain = FlowOfFlows.of(
        "opaque mapped",
        "test",
        [
            flows.opaque,
            Subflow(flows.echo, mapped_parameters={"value": mapped("opaque")}),
        ],
    )
    assert "object" in _failure(chain.compose(), "echo")


def test_a_task_that_never_ran_is_named_with_those_that_did(mapped: Mapped) -> None:
    """The error lists the tasks that ran."""

    @task
    def sometimes() -> int:
        return 1

    @task
    def always() -> int:
        return 2

    @flow
    def branches(run: bool = False) -> None:
        always()
        if run:
            sometimes()

    @flow
    def take(value: int) -> int:
        return value

    chain = FlowOfFlows.of(
        "branching",
        "test",
        [
            branches,
            Subflow(take, mapped_parameters={"value": mapped("branches", "sometimes")}),
        ],
    )
    shown = _failure(chain.compose(), "take")
    assert "'sometimes'" in shown
    assert "'always'" in shown


def test_keeping_results_does_not_make_tasks_share_them(
    mapped: Mapped, outcomes: Outcomes
) -> None:
    """Without a cache of its own a task runs each time, also under other names."""
    calls = iter(range(100))

    @task
    def draw() -> int:
        return next(calls)

    first = draw.with_options(name="first draw")
    second = draw.with_options(name="second draw")

    @flow
    def draws() -> list[int]:
        return [first(), second(), draw(), draw()]

    @flow
    def take(a: int, b: int) -> list[int]:
        return [a, b]

    chain = FlowOfFlows.of(
        "drawing",
        "test",
        [
            draws,
            Subflow(
                take,
                mapped_parameters={
                    "a": mapped("draws", "first draw"),
                    "b": mapped("draws", "second draw"),
                },
            ),
        ],
    )
    found = outcomes(chain.compose()())
    assert found == {"draws": [0, 1, 2, 3], "take": [0, 1]}


def test_a_cache_that_its_author_asked_for_still_works(
    mapped: Mapped, tmp_path: Path, outcomes: Outcomes
) -> None:
    """A task with a cache policy runs once for equal inputs, and can be mapped."""
    calls = []

    @task(cache_policy=INPUTS, result_storage=tmp_path)
    def cached(x: int) -> tuple[int, int]:
        calls.append(x)
        return x, x

    @flow
    def twice() -> list[Any]:
        return [cached(1), cached(1)]

    @flow
    def take(value: list[int]) -> list[int]:
        return value

    named = cached.with_options(name="named")

    @flow
    def once() -> Any:
        return named(2)

    chain = FlowOfFlows.of(
        "cached",
        "test",
        [
            twice,
            Subflow(once, position=1),
            Subflow(
                take, position=2, mapped_parameters={"value": mapped("once", "named")}
            ),
        ],
    )
    found = outcomes(chain.compose()())
    assert sorted(calls) == [1, 2]
    assert found["twice"] == [(1, 1), (1, 1)]
    assert found["take"] == [2, 2]


def test_a_composed_flow_can_be_a_subflow(
    flows: ModuleType, mapped: Mapped, outcomes: Outcomes
) -> None:
    """A flow-of-flows takes part in another one; its failure is the outer one's."""
    inner = FlowOfFlows.of("inner", "test", [flows.generate]).compose()
    outer = FlowOfFlows.of(
        "outer",
        "test",
        [inner, Subflow(flows.echo, mapped_parameters={"value": mapped("inner")})],
    )
    found = outcomes(outer.compose()(inner__generate__n=3))
    assert outcomes(found["echo"])["generate"] == {"n": 3, "half": 1.5}


def test_the_code_of_a_subflow_sees_its_own_settings(outcomes: Outcomes) -> None:
    """The subflow's code sees its flow, its run and that nothing is persisted."""

    @flow
    def looks() -> list[Any]:
        context = FlowRunContext.get()
        assert context is not None
        return [context.flow_run.name, context.persist_result, running_deployment.get()]

    chain = FlowOfFlows.of("looking", "test", [Subflow(looks, "eyes")])
    assert outcomes(chain.compose()()) == {"eyes": ["eyes", False, None]}


def test_a_cancelled_parent_cancels_its_subflows(flows: ModuleType) -> None:
    """Cancelling the parent in the API ends it and its subflow as Cancelled."""
    chain = FlowOfFlows.of("cancelled", "test", [flows.wait])
    parent = chain.compose()
    states: list[Any] = []

    def run_parent() -> None:
        states.append(parent(wait__seconds=250, return_state=True))

    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(run_parent,), daemon=True
    )
    thread.start()
    with get_client(sync_client=True) as client:
        run = _started(client, parent.name)
        children = _children(client, run.id)
        client.set_flow_run_state(run.id, Cancelling(), force=True)
        thread.join(timeout=120)
        assert states[0].is_cancelled()
        assert client.read_flow_run(run.id).state.is_cancelled()
        assert all(client.read_flow_run(c.id).state.is_cancelled() for c in children)


def test_subflows_without_a_prefect_deployment_are_named(flows: ModuleType) -> None:
    """Asked to run as deployments, the parent says which are missing, and runs none."""
    chain = FlowOfFlows.of("undeployed", "nowhere", [flows.generate, flows.echo])
    with pytest.raises(ConfigurationError) as caught:
        chain.compose()(run_subflows="deployments", echo__value=1)
    shown = str(caught.value)
    assert "'generate/nowhere'" in shown
    assert "'echo/nowhere'" in shown
    assert "deploy_subflows" in shown


def test_a_flow_known_by_its_prefect_deployment_only(flows: ModuleType) -> None:
    """Its schema types and checks the parent; it cannot run in this process."""
    with get_client(sync_client=True) as client:
        client.create_deployment(
            flow_id=client.create_flow_from_name("elsewhere"),
            name="far",
            parameter_openapi_schema=flows.generate.parameters.model_dump_for_openapi(),
        )
    chain = FlowOfFlows.from_yaml(
        """
        name: far chain
        project_name: far
        composing_flows:
          - name: elsewhere
        """
    )
    parent = chain.compose()
    with pytest.raises(ParameterTypeError, match="elsewhere__kind"):
        parent.validate_parameters({"elsewhere__kind": "round"})
    assert parent.parameters.properties["elsewhere__n"]["type"] == "integer"
    with pytest.raises(ConfigurationError, match="'elsewhere'"):
        parent()


def test_an_unknown_flow_is_one_of_the_problems(flows: ModuleType) -> None:
    """A flow that is nowhere is named with its line, beside the other problems."""
    text = """
    name: lost
    project_name: test
    composing_flows:
      - name: generat
      - name: echo
        mapped_parameters:
          value: {parent_flow_name: nobody}
    """
    with pytest.raises(CompositionError) as caught:
        FlowOfFlows.from_yaml(text, {"echo": flows.echo}).validate()
    assert [problem.line for problem in caught.value.problems] == [5, 8]
    assert "no flow 'generat'" in str(caught.value)


def test_an_unknown_work_pool_is_named(flows: ModuleType) -> None:
    """Deploying to a work pool that does not exist says how to make it."""
    chain = FlowOfFlows.of("unpooled", "test", [flows.generate])
    with pytest.raises(Exception, match="work pool 'no-pool'"):
        chain.deploy_subflows("no-pool")


def test_file_references_are_given_as_objects(
    flows: ModuleType, mapped: Mapped, outcomes: Outcomes
) -> None:
    """A parameter annotated FileReference receives one, not a dict."""

    @flow
    def kind_of(note: FileReference) -> str:
        return type(note).__name__

    chain = FlowOfFlows.of(
        "reference",
        "test",
        [
            flows.generate,
            Subflow(
                kind_of,
                mapped_parameters={"note": mapped("generate", "save_text", "file")},
            ),
        ],
    )
    assert outcomes(chain.compose()())["kind-of"] == "FileReference"


def _started(client: Any, name: str) -> Any:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for run in client.read_flow_runs(sort=FlowRunSort.ID_DESC, limit=50):
            own = client.read_flow(run.flow_id).name == name
            if own and run.state.is_running() and _children(client, run.id):
                return run
        time.sleep(0.2)
    raise AssertionError(f"{name} did not start")


def _children(client: Any, run_id: Any) -> list[Any]:
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id]),
            id=FlowRunFilterId(not_any_=[run_id]),
        ),
        sort=FlowRunSort.ID_DESC,
        limit=50,
    )
    return [run for run in found if run.state.is_running()]
