"""The same rows from Prefect's events and from its API, on a real server."""

from __future__ import annotations

import contextvars
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow
from prefect.flow_runs import pause_flow_run
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Failed,
    Scheduled,
)
from prefect.transactions import transaction

from prefect_lume.errors import (
    ConfigurationError,
    InvalidInputError,
    MissingDependencyError,
    SchemaError,
)
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.status import PipelineTaskStatus as S
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.lookups import get, post
from prefect_lume.recorder.translation.history import read_run, read_runs
from prefect_lume.recorder.translation.translating import Translator

pytestmark = [pytest.mark.service("prefect"), pytest.mark.timeout(600)]


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    """A client of the server in use."""
    with get_client(sync_client=True) as made:
        yield made


def all_events(client: SyncPrefectClient, run_id: str) -> list[dict[str, Any]]:
    """Return all events that tell of a run, or of what is below it."""
    body = {
        "filter": {
            "event": {"prefix": ["prefect.flow-run.", "prefect.task-run."]},
            "any_resource": {"id": [f"prefect.flow-run.{run_id}"]},
            "order": "ASC",
        },
        "limit": 50,
    }
    answer = post(client, "/events/filter", body)
    events = list(answer["events"])
    while answer.get("next_page"):
        path = answer["next_page"].partition("/api")[2]
        answer = client.request("GET", path).json()  # type: ignore[arg-type]
        events += answer["events"]
    return events


def events_of(client: SyncPrefectClient, run_id: str) -> list[dict[str, Any]]:
    """Return the events of a run that has ended, when API and events are complete.

    The server takes in both by and by.
    """
    deadline = time.monotonic() + 240
    while True:
        told = read_run(client, FlowRunDirectory(client), run_id)
        events = all_events(client, run_id)
        heard = Translator(FlowRunDirectory(client)).translate(events)
        is_same = {c.id for c in told.changes} == {
            c.id for c in heard.changes if c.run_id == run_id
        }
        if is_same and any(
            c.kind is Kind.EXECUTION and c.status.is_final for c in told.changes
        ):
            return events
        assert time.monotonic() < deadline, "API and events did not become the same"
        time.sleep(0.3)


Rows = dict[Kind, list[Row]]


def rows_of(storage: MemoryPipelineResultsStorage, run_id: str) -> Rows:
    """Return what a storage has of a run, but for the heartbeats' signs of life."""
    rows = {
        kind: [row for row in storage.find(kind) if row.run_id == run_id]
        for kind in Kind
    }
    for row in rows[Kind.EXECUTION]:
        row.last_seen = None  # type: ignore[attr-defined]
    return rows


def record_both(
    client: SyncPrefectClient, run_id: str
) -> tuple[MemoryPipelineResultsStorage, MemoryPipelineResultsStorage]:
    """Record a run by its events only, and by the API only."""
    by_events, by_api = MemoryPipelineResultsStorage(), MemoryPipelineResultsStorage()
    translator = Translator(FlowRunDirectory(client))
    events = events_of(client, run_id)
    for start in range(0, len(events), 7):
        by_events.record(translator.translate(events[start : start + 7]))
    by_api.record(read_run(client, FlowRunDirectory(client), run_id))
    return by_events, by_api


def assert_equal(client: SyncPrefectClient, run_id: str) -> Rows:
    """Check that events and API give the same rows and changes; return the rows."""
    by_events, by_api = record_both(client, run_id)
    rows = rows_of(by_api, run_id)
    assert rows_of(by_events, run_id) == rows
    ids = [row.id for kind in Kind for row in rows[kind]]
    assert by_events.get_history(ids) == by_api.get_history(ids)
    assert by_api.count_states(run_id) == by_events.count_states(run_id) > 0
    return rows


_tries: dict[str, int] = {}


def _nth(name: str) -> int:
    run_id = str(FlowRunContext.get().flow_run.id)  # type: ignore[union-attr]
    key = f"{run_id}-{name}"
    _tries[key] = _tries.get(key, 0) + 1
    return _tries[key]


@task
def square(x: int) -> int:
    return x * x


@task(retries=2, retry_delay_seconds=0.1)
def flaky(nth: Callable[[], int]) -> None:
    if nth() < 3:
        raise ValueError("not yet")


@task(retries=1, name="At once")
def at_once(nth: Callable[[], int]) -> None:
    if nth() < 2:
        raise ValueError("not yet")


@task(task_run_name="shot {number}")
def shot(number: int) -> int:
    return number


@task
def once_bad(bad: bool) -> None:
    if bad:
        raise RuntimeError("bad")


@task
def after(value: Any) -> Any:
    return value


@task(cache_policy=INPUTS, persist_result=True)
def cached(value: str) -> str:
    return value


@flow
def lume_history_child(x: int) -> int:
    return square(x)


@flow(retries=1, flow_run_name="everything {number}")
def lume_history_everything(number: int, key: str) -> None:
    for future in square.map([1, 2, 3]):
        future.result()
    flaky(lambda: _nth("flaky"))
    at_once(lambda: _nth("at once"))
    shot(number)
    cached(key)
    cached(key)
    lume_history_child(4)
    bad = once_bad.submit(_nth("bad") < 2)
    after.submit(bad).wait()
    bad.result()


_made: list[str] = []


@pytest.fixture
def everything(client: SyncPrefectClient) -> str:
    """A run with map, retries, cache, a subflow, a failure and a flow retry."""
    if not _made:
        state = lume_history_everything(7, uuid4().hex, return_state=True)
        assert state.is_completed()
        _made.append(str(state.state_details.flow_run_id))
    return _made[0]


def test_events_and_api_tell_the_same(
    client: SyncPrefectClient, everything: str
) -> None:
    """Map, retries, failure, cache, subflow and flow retry: equal to the last field."""
    rows = assert_equal(client, everything)
    (execution,) = rows[Kind.EXECUTION]
    assert (execution.status, execution.run_name) == (S.DONE, "everything 7")  # type: ignore[attr-defined]
    tasks = {row.pipeline_task: row for row in rows[Kind.TASK_EXECUTION]}  # type: ignore[attr-defined]
    assert set(tasks) == {
        "square",
        "flaky",
        "At once",
        "shot",
        "cached",
        "once_bad",
        "after",
    }
    assert {row.status for row in tasks.values()} == {S.DONE}
    results = rows[Kind.TASK_RESULT]
    assert len(results) == 20
    assert {row.status for row in results if row.superseded} == {
        S.RUNTIME_ERROR,
        S.CANCELLED,
    }
    named = [row.name for row in results if row.parent_id == tasks["shot"].id]  # type: ignore[attr-defined]
    assert named == ["shot 7", "shot 7"]
    names = {row.state_name for row in results}
    assert names == {"Completed", "Cached", "Failed", "NotReady"}


def test_subflows_are_executions_and_no_task_results(
    client: SyncPrefectClient, everything: str
) -> None:
    """The task run that stands for a subflow is not recorded; the subflow is."""
    body = {"flow_runs": {"parent_flow_run_id": {"any_": [everything]}}}
    (child, *_) = post(client, "/flow_runs/filter", body)
    rows = assert_equal(client, child["id"])
    (execution,) = rows[Kind.EXECUTION]
    assert execution.parent_run_id == everything  # type: ignore[attr-defined]
    tracking = child["parent_task_run_id"]
    batch = read_run(client, FlowRunDirectory(client), everything)
    assert tracking not in {item.task_run_id for item in batch.task_runs}
    translated = Translator(FlowRunDirectory(client)).translate(
        all_events(client, everything)
    )
    assert tracking not in {item.task_run_id for item in translated.task_runs}


def test_runs_of_a_time_are_read(client: SyncPrefectClient, everything: str) -> None:
    """Reading a span of time finds the runs that changed in it, and no earlier ones."""
    now, directory = datetime.now(UTC), FlowRunDirectory(client)
    found = list(read_runs(client, directory, now - timedelta(minutes=10), now))
    of_parts = (batch.flow_runs[0].flow_run_id for batch in found)
    ids = [id_ for id_, _ in itertools.groupby(of_parts)]
    assert everything in ids
    assert len(ids) == len(set(ids))
    ahead = now + timedelta(hours=1)
    later = list(read_runs(client, directory, ahead, ahead + timedelta(hours=1)))
    assert everything not in [batch.flow_runs[0].flow_run_id for batch in later]


def test_a_run_that_the_server_does_not_know_has_no_history(
    client: SyncPrefectClient,
) -> None:
    """A deleted run gives an empty batch."""
    assert not read_run(client, FlowRunDirectory(client), str(uuid4()))


def test_a_deleted_run_is_recorded_by_what_its_events_say(
    client: SyncPrefectClient,
) -> None:
    """Events outlive their run: its name and flow come from them."""
    state = lume_history_child(3, return_state=True)
    run_id = str(state.state_details.flow_run_id)
    events = events_of(client, run_id)
    client.delete_flow_run(state.state_details.flow_run_id)  # type: ignore[arg-type]
    storage = MemoryPipelineResultsStorage()
    storage.record(Translator(FlowRunDirectory(client)).translate(events))
    execution = storage.get_pipeline_execution(run_id)
    assert execution.get_status() is S.DONE
    assert execution.get_pipeline_id() == "lume-history-child"
    assert execution.run_name


# Begun again ------------------------------------------------------------------------


@flow
def lume_history_once_bad(flag: str) -> None:
    square(2)
    bad = not Path(flag).exists()
    Path(flag).touch()
    once_bad(bad)


def test_a_failed_run_that_is_retried_by_hand_begins_again(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    """Set to AwaitingRetry and run once more, as the UI does, a failed run is DONE."""
    flag = str(tmp_path / "flag")
    state = lume_history_once_bad(flag, return_state=True)
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    (before,) = assert_equal(client, str(run_id))[Kind.EXECUTION]
    assert before.status is S.RUNTIME_ERROR
    client.set_flow_run_state(run_id, AwaitingRetry(), force=True)
    (waiting,) = assert_equal_unfinished(client, str(run_id))[Kind.EXECUTION]
    assert not waiting.status.is_final
    run_flow(
        lume_history_once_bad,
        flow_run=client.read_flow_run(run_id),
        parameters={"flag": flag},
    )
    rows = assert_equal(client, str(run_id))
    (execution,), (result,) = rows[Kind.EXECUTION], rows[Kind.RESULT]
    assert execution.status is result.status is S.DONE
    superseded = [row for row in rows[Kind.TASK_RESULT] if row.superseded]
    assert [row.status for row in superseded] == [S.RUNTIME_ERROR]
    assert len(rows[Kind.TASK_EXECUTION]) == 2


def assert_equal_unfinished(client: SyncPrefectClient, run_id: str) -> Rows:
    """Return the rows of a run that has not ended, by the API."""
    storage = MemoryPipelineResultsStorage()
    storage.record(read_run(client, FlowRunDirectory(client), run_id))
    return rows_of(storage, run_id)


@flow
def lume_history_paused() -> None:
    run_id = FlowRunContext.get().flow_run.id  # type: ignore[union-attr]

    def resume() -> None:
        with get_client(sync_client=True) as other:
            for _ in range(1_800):
                time.sleep(0.1)
                if other.read_flow_run(run_id).state.is_paused():  # type: ignore[union-attr]
                    other.resume_flow_run(run_id)
                    return

    once_bad(True, return_state=True)
    # A thread starts without the settings of the test.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(resume,))
    thread.start()
    pause_flow_run(timeout=200, poll_interval=1)
    thread.join()
    square(2)


def test_a_paused_run_goes_on(client: SyncPrefectClient) -> None:
    """A pause in the process begins nothing again: what failed before it counts."""
    state = lume_history_paused(return_state=True)
    rows = assert_equal(client, str(state.state_details.flow_run_id))
    (execution,) = rows[Kind.EXECUTION]
    assert execution.status is S.RUNTIME_ERROR
    assert not any(row.superseded for row in rows[Kind.TASK_RESULT])


# What Prefect says, and what it means ------------------------------------------------


_STATES: dict[str, Callable[[], Any]] = {
    "failed": Failed,
    "cancelled": Cancelled,
    "completed": Completed,
    "mine": lambda: Failed(name="Mine", message="by me"),
}


@flow
def lume_state_typed(x: int) -> None:
    pass


@flow(timeout_seconds=0.2)
def lume_state_timed() -> None:
    time.sleep(1)


@flow
def lume_state_raising(error: Any) -> None:
    raise error


@flow
def lume_state_returning(name: str) -> Any:
    return [_STATES[name]()]


@flow
def lume_state_subflow() -> None:
    lume_state_typed("abc")  # type: ignore[arg-type]


@flow
def lume_state_exiting() -> None:
    raise SystemExit(3)


def _typed() -> Any:
    return lume_state_typed("abc", return_state=True)  # type: ignore[call-overload]


def _raising(error: Exception) -> Callable[[], Any]:
    quiet = lume_state_raising.with_options(validate_parameters=False)
    return lambda: quiet(error, return_state=True)


def _returning(name: str) -> Callable[[], Any]:
    return lambda: lume_state_returning(name, return_state=True)


STATES: list[tuple[str, Callable[[], Any], S, str, str]] = [
    ("wrong type", _typed, S.VALIDATION_ERROR, "Failed", "Validation of flow param"),
    (
        "wrong type of a subflow",
        lambda: lume_state_subflow(return_state=True),
        S.VALIDATION_ERROR,
        "Failed",
        "Flow run encountered an exception: ParameterTypeError:",
    ),
    (
        "input refused",
        _raising(InvalidInputError("charge is negative")),
        S.VALIDATION_ERROR,
        "Failed",
        "Flow run encountered an exception: InvalidInputError: charge",
    ),
    (
        "misconfigured",
        _raising(ConfigurationError("no such Block")),
        S.CONFIG_ERROR,
        "Failed",
        "Flow run encountered an exception: ConfigurationError: no such",
    ),
    (
        "old schema",
        _raising(SchemaError("old tables")),
        S.CONFIG_ERROR,
        "Failed",
        "Flow run encountered an exception: SchemaError: old",
    ),
    (
        "package missing",
        _raising(MissingDependencyError("h5py", "files")),
        S.CONFIG_ERROR,
        "Failed",
        "Flow run encountered an exception: MissingDependencyError:",
    ),
    (
        "any exception",
        _raising(ValueError("SchemaError: no")),
        S.RUNTIME_ERROR,
        "Failed",
        "Flow run encountered an exception: ValueError: SchemaError: no",
    ),
    (
        "timeout",
        lambda: lume_state_timed(return_state=True),
        S.RUNTIME_ERROR,
        "TimedOut",
        "Flow run exceeded timeout of 0.2 second(s)",
    ),
    (
        "states returned",
        _returning("failed"),
        S.RUNTIME_ERROR,
        "Failed",
        "1/1 states failed.",
    ),
    (
        "cancelled state returned",
        _returning("cancelled"),
        S.CANCELLED,
        "Cancelled",
        "1/1 states cancelled.",
    ),
    (
        "completed state returned",
        _returning("completed"),
        S.DONE,
        "Completed",
        "All states completed.",
    ),
]


@pytest.mark.parametrize(
    ("make", "status", "name", "message"),
    [row[1:] for row in STATES],
    ids=[row[0] for row in STATES],
)
def test_the_end_of_a_flow_run_has_the_status_that_it_means(
    client: SyncPrefectClient,
    make: Callable[[], Any],
    status: S,
    name: str,
    message: str,
) -> None:
    """A real run ends so, Prefect says this of it, and that is what is recorded."""
    run_id = make().state_details.flow_run_id
    rows = assert_equal_unfinished(client, str(run_id))
    (execution,), (result,) = rows[Kind.EXECUTION], rows[Kind.RESULT]
    assert execution.state_name == name
    assert execution.message.startswith(message)
    assert execution.status is result.status is status


def test_a_run_that_leaves_python_has_crashed(client: SyncPrefectClient) -> None:
    """SystemExit in a flow crashes it: a runtime error, as it did run."""
    made: list[str] = []
    quitting = lume_state_exiting.with_options()
    quitting.on_running_hooks.append(
        lambda _flow, run, _state: made.append(str(run.id))
    )
    with pytest.raises(SystemExit):
        quitting()
    (execution,) = assert_equal(client, made[0])[Kind.EXECUTION]
    assert (execution.state_name, execution.status) == ("Crashed", S.RUNTIME_ERROR)


@task(timeout_seconds=0.2)
def slow() -> None:
    time.sleep(1)


@task
def returning(name: str) -> Any:
    return _STATES[name]()


@task
def refusing() -> None:
    raise InvalidInputError("no such beampath")


@task
def exiting() -> None:
    raise SystemExit(3)


@task
def rolled_back() -> None:
    pass


@rolled_back.on_rollback
def _undo(transaction: Any) -> None:
    pass


@flow
def lume_state_tasks() -> None:
    slow(return_state=True)
    returning("mine", return_state=True)
    returning.with_options(name="giving up")("cancelled", return_state=True)
    refusing(return_state=True)
    with suppress(ValueError), transaction():
        rolled_back()
        raise ValueError("undone")
    bad = once_bad.submit(True)
    after.submit(bad).wait()


def test_the_ends_of_task_runs_have_the_statuses_that_they_mean(
    client: SyncPrefectClient,
) -> None:
    """Timeout, states returned, refused input, rollback, a failure upstream."""
    state = lume_state_tasks(return_state=True)
    rows = assert_equal(client, str(state.state_details.flow_run_id))
    ends = {
        row.name.rpartition("-")[0]: (row.state_name, row.status)  # type: ignore[attr-defined]
        for row in rows[Kind.TASK_RESULT]
    }
    assert ends == {
        "slow": ("TimedOut", S.RUNTIME_ERROR),
        "returning": ("Mine", S.RUNTIME_ERROR),
        "giving up": ("Cancelled", S.CANCELLED),
        "refusing": ("Failed", S.VALIDATION_ERROR),
        "rolled_back": ("RolledBack", S.DONE),
        "once_bad": ("Failed", S.RUNTIME_ERROR),
        "after": ("NotReady", S.CANCELLED),
    }


def test_a_run_that_is_cancelled_before_it_begins(client: SyncPrefectClient) -> None:
    """What is scheduled and cancelled was never running."""
    run = client.create_flow_run(
        lume_history_child,
        parameters={"x": 1},
        state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1)),
    )
    (execution,) = assert_equal_unfinished(client, str(run.id))[Kind.EXECUTION]
    assert (execution.status, execution.state_name) == (S.PENDING, "Scheduled")
    client.set_flow_run_state(run.id, Cancelling())
    (execution,) = assert_equal(client, str(run.id))[Kind.EXECUTION]
    assert (execution.status, execution.started) == (S.CANCELLED, None)


@pytest.mark.parametrize(
    ("variables", "entrypoint", "message"),
    [
        ({}, "nowhere.py:flow", "Process exited with status code: 1"),
        ({"command": "/no/such"}, "flows.py:flow", "Flow run could not start:"),
    ],
    ids=["no such file", "no such command"],
)
def test_a_run_that_could_never_start_is_a_configuration_error(
    client: SyncPrefectClient,
    tmp_path: Path,
    variables: dict[str, Any],
    entrypoint: str,
    message: str,
) -> None:
    """Prefect calls it crashed; as it never ran, its configuration is wrong."""
    run_id = run_under_worker(client, tmp_path, entrypoint, variables)
    (execution,) = assert_equal(client, run_id)[Kind.EXECUTION]
    assert execution.state_name == "Crashed"
    assert execution.message.startswith(message)
    assert (execution.status, execution.started) == (S.CONFIG_ERROR, None)


def run_under_worker(
    client: SyncPrefectClient,
    folder: Path,
    entrypoint: str,
    variables: dict[str, Any],
) -> str:
    """Run a Prefect deployment by a worker that takes one run and ends."""
    import subprocess
    import sys

    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    pool = f"history-{uuid4().hex[:8]}"
    template = ProcessWorker.get_default_base_job_template()
    client.create_work_pool(
        WorkPoolCreate(name=pool, type="process", base_job_template=template)
    )
    try:
        deployment = client.create_deployment(
            client.create_flow_from_name("lume-history-child"),
            name=pool,
            entrypoint=entrypoint,
            path=str(folder),
            work_pool_name=pool,
            job_variables=variables,
        )
        run = client.create_flow_run_from_deployment(deployment)
        command = [sys.executable, "-m", "prefect", "worker", "start", "--run-once"]
        env = os.environ | {"PREFECT_API_URL": str(client.api_url).rstrip("/")}
        subprocess.run(
            [*command, "--pool", pool, "--type", "process"],
            env=env,
            check=True,
            capture_output=True,
            timeout=120,
        )
        states = get(client, "/flow_run_states/", flow_run_id=str(run.id))
        assert states
        return str(run.id)
    finally:
        client.request("DELETE", f"/work_pools/{pool}")  # type: ignore[arg-type]
