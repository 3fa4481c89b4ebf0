"""Nothing stays running for ever, and nothing that lives is closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.service.reconciling import Reconciled, reconcile
from prefect_lume.recorder.translation.translating import HEARTBEAT, Translator
from prefect_lume.testing.generated_events import generated_events

S = PipelineTaskStatus
NOW = datetime.now(UTC)
BEGAN = NOW - timedelta(hours=1)
#: Flow run Pending and Running, one task done, one running, one waiting.
SEEN = (0, 1, 2, 3, 4, 5, 6, 8)


@pytest.fixture
def storage() -> MemoryPipelineResultsStorage:
    return MemoryPipelineResultsStorage()


def begin(
    server: Any, storage: Any, seen: tuple[int, ...] = SEEN
) -> tuple[str, list[Any]]:
    """Record the beginning of a run; return its id and its other events."""
    events = list(generated_events(1, 3, start=BEGAN))
    server.events = [events[number] for number in seen]
    storage.record(Translator(FlowRunDirectory(server)).translate(server.events))
    (row,) = storage.find(Kind.EXECUTION)
    return row.id, [e for n, e in enumerate(events) if n not in seen]


def in_prefect(server: Any, run_id: str, type_: str, **more: Any) -> None:
    """Let the server have the flow run in this state."""
    moment = BEGAN.isoformat()
    server.flow_runs[run_id] = {
        "id": run_id,
        "name": "run-0",
        "flow_id": "00000000-0000-0000-0000-000000000000",
        "state_type": type_,
        "state_name": type_.title(),
        "state_id": f"state-{type_}",
        "state": {"timestamp": moment},
        "end_time": None,
        "created": moment,
        "tags": [],
        "parameters": {},
        "parent_task_run_id": None,
        "deployment_id": None,
        "work_pool_name": None,
    } | more


def heartbeat(server: Any, run_id: str, when: datetime) -> None:
    server.events.append(
        {
            "id": f"beat-{when}",
            "event": HEARTBEAT,
            "occurred": when.isoformat(),
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run_id}"},
            "related": [],
            "payload": {},
        }
    )


def run(server: Any, storage: Any, **options: Any) -> Reconciled:
    options = {"now": NOW} | options
    return reconcile(server, storage, FlowRunDirectory(server), **options)


def statuses(storage: Any) -> list[str]:
    rows = storage.find(Kind.EXECUTION) + storage.find(Kind.TASK_RESULT)
    return [row.status for row in rows]


def test_what_a_crashed_run_left_open_is_closed(event_server, storage) -> None:
    """A task that ran has failed, one that never started is cancelled."""
    run_id, _ = begin(event_server, storage)
    ended = BEGAN + timedelta(minutes=1)
    in_prefect(event_server, run_id, "CRASHED", end_time=ended.isoformat())
    done = run(event_server, storage)
    assert (done.ended, done.lost, done.deleted) == (1, 0, 0)
    tasks = storage.find(Kind.TASK_RESULT)
    assert sorted(row.status for row in tasks) == [
        S.CANCELLED,
        S.DONE,
        S.RUNTIME_ERROR,
    ]
    messages = {row.message for row in tasks if row.status is not S.DONE}
    assert all("concluded, not reported" in message for message in messages)
    assert all("'Crashed'" in message for message in messages)


def test_a_run_that_has_just_ended_is_left_alone(event_server, storage) -> None:
    """Its last events may be on their way."""
    run_id, _ = begin(event_server, storage)
    ended = NOW - timedelta(seconds=10)
    in_prefect(event_server, run_id, "COMPLETED", end_time=ended.isoformat())
    assert run(event_server, storage).changes == 0


def test_a_deleted_run_is_cancelled(event_server, storage) -> None:
    """Prefect knew it once, and has it no more."""
    begin(event_server, storage)
    done = run(event_server, storage)
    assert done.deleted == 1
    assert set(statuses(storage)) == {S.CANCELLED, S.DONE}
    (execution,) = storage.find(Kind.EXECUTION)
    assert "was deleted in Prefect" in execution.message


def test_a_run_of_another_server_is_left_alone(event_server, storage) -> None:
    """What this server never had is not its to close."""
    begin(event_server, storage)
    event_server.events = []
    assert run(event_server, storage).changes == 0
    assert S.RUNNING in statuses(storage)


def test_a_run_without_heartbeats_any_more_is_lost(event_server, storage) -> None:
    """The end is put where it was last heard of."""
    run_id, _ = begin(event_server, storage)
    in_prefect(event_server, run_id, "RUNNING")
    last = NOW - timedelta(minutes=11)
    heartbeat(event_server, run_id, last)
    assert run(event_server, storage).lost == 1
    (execution,) = storage.find(Kind.EXECUTION)
    assert execution.status is S.RUNTIME_ERROR
    assert execution.completed == last
    assert last.isoformat(timespec="seconds") in execution.message
    assert S.RUNNING not in statuses(storage)


def test_a_run_that_still_sends_heartbeats_is_left_alone(event_server, storage) -> None:
    """Even if the storage has not heard of them yet."""
    run_id, _ = begin(event_server, storage)
    in_prefect(event_server, run_id, "RUNNING")
    heartbeat(event_server, run_id, NOW - timedelta(minutes=9))
    assert run(event_server, storage).changes == 0


def test_a_run_without_heartbeats_has_a_day(event_server, storage) -> None:
    """Where none were ever sent, only a long silence means that it is lost."""
    run_id, _ = begin(event_server, storage)
    in_prefect(event_server, run_id, "RUNNING")
    assert run(event_server, storage).changes == 0
    done = run(event_server, storage, now=NOW + timedelta(hours=24))
    assert done.lost == 1
    assert S.RUNNING not in statuses(storage)


def test_runs_that_wait_are_not_lost(event_server, storage) -> None:
    """A scheduled run may wait for as long as it likes."""
    run_id, _ = begin(event_server, storage, seen=(0,))
    in_prefect(event_server, run_id, "SCHEDULED")
    assert run(event_server, storage, now=NOW + timedelta(days=30)).changes == 0


def test_what_is_reported_later_counts(event_server, storage) -> None:
    """A run that was only cut off for a while ends as Prefect says."""
    run_id, later = begin(event_server, storage)
    in_prefect(event_server, run_id, "RUNNING")
    heartbeat(event_server, run_id, BEGAN + timedelta(minutes=1))
    assert run(event_server, storage).lost == 1
    for event in later:
        moment = datetime.fromisoformat(event["occurred"]) + timedelta(minutes=59)
        event["occurred"] = moment.isoformat()
    storage.record(Translator(FlowRunDirectory(event_server)).translate(later))
    assert set(statuses(storage)) == {S.DONE}


def test_reconciling_twice_changes_nothing_more(event_server, storage) -> None:
    """Nor does it if another recorder concluded the same."""
    run_id, _ = begin(event_server, storage)
    in_prefect(event_server, run_id, "RUNNING")
    heartbeat(event_server, run_id, NOW - timedelta(minutes=30))
    assert run(event_server, storage).closed == 3
    before = storage.count_states()
    assert run(event_server, storage).changes == 0
    assert storage.count_states() == before


@pytest.mark.parametrize("state", ["RUNNING", "CRASHED", "CANCELLING", None])
def test_whenever_it_is_concluded_the_conclusion_is_the_same(
    event_server, state: str | None
) -> None:
    """Two recorders, each at its own time, come to the same changes and rows."""
    storages = []
    for later in (timedelta(), timedelta(minutes=7)):
        storage = MemoryPipelineResultsStorage()
        event_server.flow_runs.clear()
        run_id, _ = begin(event_server, storage)
        if state is not None:
            ended = BEGAN + timedelta(minutes=2)
            in_prefect(event_server, run_id, state, end_time=ended.isoformat())
        heartbeat(event_server, run_id, BEGAN + timedelta(minutes=1))
        assert run(event_server, storage, now=NOW + later).closed == 3
        storages.append(storage)
    first, second = storages
    for kind in Kind:
        assert first.find(kind) == second.find(kind)
        ids = [row.id for row in first.find(kind)]
        assert first.get_history(ids) == second.get_history(ids)


def test_a_run_that_was_recorded_without_prefect_is_left_alone(
    event_server, storage
) -> None:
    """Objects that were built beforehand belong to whoever built them."""
    from prefect_lume.pipelines.pipeline import Pipeline

    execution = storage.build_pipeline_execution(Pipeline("scan"), "run-1")
    execution.report_status_change("RUNNING")
    assert run(event_server, storage, now=NOW + timedelta(days=9)).changes == 0
    assert storage.find(Kind.EXECUTION)[0].status is S.RUNNING
