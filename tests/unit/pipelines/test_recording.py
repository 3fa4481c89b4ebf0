"""Recording: rows depend on what was told, not on when, how often or by whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_lume.pipelines import Batch, PipelineTaskStatus, StateChange
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind, task_execution_id
from prefect_lume.testing.pipelines_generated import History, differences, rows_of
from prefect_lume.testing.pipelines_told import (
    STATES,
    at,
    flow_run,
    joined,
    object_run,
    task_run,
    tell,
)

S = PipelineTaskStatus
PLAIN = flow_run("run")
MAPPED = flow_run("run", is_mapped=True)
OBJECTS = [object_run("run", index, f"child-{index}") for index in (0, 1)]
seconds = st.integers(0, 6)
wrong = st.sampled_from([None, None, None, S.CONFIG_ERROR, S.VALIDATION_ERROR])


@st.composite
def told(draw: Any, *, mapped: bool, by_hand: bool) -> list[Batch]:
    """Return any states at any times of a small run, possible in Prefect or not."""
    batches = []
    for number in range(draw(st.integers(1, 14))):
        worker = draw(st.sampled_from(OBJECTS)) if mapped else PLAIN
        name = draw(st.sampled_from(["a", "b"]))
        run = draw(st.sampled_from(["1", "2"]))
        task = task_run(worker, f"task-{worker.index or 0}{name}{run}", name)
        what = draw(st.integers(0, 4))
        state = draw(st.sampled_from(sorted(STATES)))
        status = draw(wrong) if STATES[state][1].is_failed else None
        ends = STATES[state][1].is_final
        inferred = ends and status is None and draw(st.integers(0, 7)) == 0
        how = {"status": status, "inferred": inferred, "message": f"m{number}"}
        when = at(draw(seconds))
        flow = MAPPED if mapped and what == 0 else worker
        batch = tell(
            flow, state, when, task=task if what > 1 else None, id=f"c{number}", **how
        )
        if by_hand and draw(st.booleans()):
            batch = joined([batch, _by_hand(draw, batch, when, number)])
        batches.append(batch)
    return batches


def _by_hand(draw: Any, batch: Batch, when: Any, number: int) -> Batch:
    """Return a change of a task execution or of what the batch is about."""
    (change,) = batch.changes
    kind, target = change.kind, change.target
    if batch.task_runs and draw(st.booleans()):
        (task,) = batch.task_runs
        kind = Kind.TASK_EXECUTION
        target = task_execution_id(task.pipeline_result_id, task.task_id)
    status = draw(st.sampled_from(list(S)))
    return Batch(
        [
            StateChange(
                id=f"h{number}",
                run_id="run",
                kind=kind,
                target=target,
                status=status,
                timestamp=when,
                message=f"by hand {number}",
            )
        ]
    )


def recorded(batches: list[Batch]) -> MemoryPipelineResultsStorage:
    """Return a storage that was told these batches."""
    storage = MemoryPipelineResultsStorage()
    for batch in batches:
        storage.record(batch)
    return storage


def check_any_order(data: st.DataObject, batches: list[Batch]) -> None:
    """Tell batches at once, and in another order, cut otherwise and partly twice."""
    whole = recorded([joined(batches)])
    order = data.draw(st.permutations(batches))
    twice = data.draw(st.lists(st.sampled_from(batches), max_size=4))
    cuts = data.draw(st.sets(st.integers(0, len(batches) + 4), max_size=6))
    pieces, piece = [], []
    for number, batch in enumerate([*order, *twice]):
        piece.append(batch)
        if number in cuts:
            pieces.append(joined(piece))
            piece = []
    other = recorded([*pieces, joined(piece)])
    single = recorded(list(order))
    rows = rows_of(whole, "run")
    assert list(differences(rows, rows_of(other, "run"))) == []
    assert list(differences(rows, rows_of(single, "run"))) == []
    assert other.count_states() == whole.count_states() == single.count_states()
    assert other.get_pipeline_digest() == whole.get_pipeline_digest()
    check_rules(rows)


def check_rules(rows: dict[str, dict[str, Any]]) -> None:
    """Check what the status rules say of any rows, however they came to be."""
    by_id = {row["id"]: row for row in rows.values()}
    for row in rows.values():
        status = row["status"]
        assert (row["completed"] is not None) is status.is_final
        if row["started"] is not None and row["completed"] is not None:
            assert row["started"] <= row["completed"]
        if status in (S.RUNNING, S.DONE):
            assert row["started"] is not None
        above = by_id.get(row["parent_id"])
        if above is None or row["superseded"]:
            continue
        if above["superseded"]:
            continue
        if above["status"] is S.DONE:
            assert status is S.DONE
        if status is not S.PENDING:
            assert above["status"] is not S.PENDING
        if status.is_failed:
            assert above["status"].is_failed
            assert above["completed"] <= row["completed"]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), told(mapped=False, by_hand=False))
def test_any_states_of_a_flow_run_come_to_the_same(data, batches):
    """Permuted, cut into other batches and repeated: the rows are equal."""
    check_any_order(data, batches)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), told(mapped=True, by_hand=False))
def test_any_states_of_a_run_over_objects_come_to_the_same(data, batches):
    """The same for a flow run that works through one for each object."""
    check_any_order(data, batches)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), told(mapped=True, by_hand=True) | told(mapped=False, by_hand=True))
def test_states_and_reports_by_hand_come_to_the_same(data, batches):
    """The same where Prefect's states and other reports are mixed."""
    check_any_order(data, batches)


@pytest.mark.parametrize("seed", range(40))
def test_histories_come_to_the_same_in_any_order(seed):
    """Whole histories with attempts and retries: in order, at once and shuffled."""
    history = History(seed)
    rows = rows_of(recorded([history.whole()]), history.run_id)
    check_rules(rows)
    for batches in (history.batches, history.batches[::-1], history.rearranged(seed)):
        other = rows_of(recorded(batches), history.run_id)
        assert list(differences(rows, other)) == []
