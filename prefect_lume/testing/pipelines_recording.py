"""Part of the contract of a pipelines storage: recording what Prefect tells."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines import Batch, PipelineStorage, PipelineTaskStatus
from prefect_lume.pipelines.recording import record
from prefect_lume.pipelines.rows import Kind, result_id
from prefect_lume.pipelines.session import PipelineSession
from prefect_lume.testing.pipelines_generated import History, differences, rows_of
from prefect_lume.testing.pipelines_told import (
    at,
    flow_run,
    joined,
    object_run,
    task_run,
    tell,
)

_S = PipelineTaskStatus
_RUN = flow_run("run-1")
_TASK = task_run(_RUN, "task-run-1")


class BrokenError(Exception):
    """What a test lets a unit of work fail with."""


class RecordingContract:
    """What every pipelines storage promises of batches of changes."""

    #: Whether a unit of work that fails leaves nothing behind.
    is_transactional: ClassVar[bool] = True
    #: How many random histories are recorded in several orders.
    random_histories: ClassVar[int] = 4

    def test_a_run_is_recorded_as_prefect_tells_it(
        self, storage: PipelineStorage
    ) -> None:
        """A flow run with a task: four objects, their times and their states."""
        new = 0
        for state, when in (("Scheduled", 0), ("Pending", 1), ("Running", 2)):
            new += storage.record(tell(_RUN, state, at(when)))
        for state, when in (("Pending", 3), ("Running", 4), ("Completed", 6)):
            batch = tell(_RUN, state, at(when), task=_TASK, run_count=1, message="ok")
            new += storage.record(batch)
        execution = storage.get_pipeline_execution_or_raise("run-1")
        assert execution.get_status() is _S.RUNNING
        assert execution.get_state_name() == "Running"
        new += storage.record(tell(_RUN, "Completed", at(7), message="All well"))
        execution.refresh()
        (result,) = execution.get_pipeline_results()
        (task,) = result.get_task_executions()
        (run,) = task.get_task_results()
        assert new == storage.count_states() == storage.count_states("run-1") == 7
        assert {x.get_status() for x in (execution, result, task, run)} == {_S.DONE}
        assert execution.get_message() == result.get_message() == "All well"
        assert execution.get_started() == result.get_started() == at(2)
        assert execution.get_completed() == result.get_completed() == at(7)
        assert (task.get_started(), task.get_completed()) == (at(4), at(6))
        assert (run.get_id(), run.get_run_count()) == ("task-run-1", 1)
        assert result.get_flow_run_id() == "run-1"
        names = ["Scheduled", "Pending", "Running", "Completed"]
        assert [state.state_name for state in execution.get_states()] == names
        assert [state.state_name for state in result.get_states()] == names
        assert [state.state_name for state in run.get_states()] == names[1:]
        assert task.get_states() == []

    def test_a_state_comes_back_with_all_its_fields(
        self, storage: PipelineStorage
    ) -> None:
        """What is kept of a change is the change."""
        told = [
            tell(_RUN, "Running", at(1.000001), run_count=3, message="é🌌"),
            tell(_RUN, "Failed", at(2), status=_S.CONFIG_ERROR),
            tell(_RUN, "Crashed", at(3), inferred=True),
        ]
        storage.record(joined(told))
        execution = storage.get_pipeline_execution_or_raise("run-1")
        assert execution.get_states() == [batch.changes[0] for batch in told]

    def test_the_same_change_is_recorded_once(self, storage: PipelineStorage) -> None:
        """Repeated in one batch, in the next and in another order: no difference."""
        history = History(11)
        assert storage.record(history.whole()) == len(history.batches)
        rows, count = rows_of(storage, history.run_id), storage.count_states()
        assert storage.record(history.whole()) == 0
        twice = joined([*history.batches[::-1], *history.batches])
        assert storage.record(twice) == 0
        assert storage.count_states() == count == len(history.batches)
        assert list(differences(rows, rows_of(storage, history.run_id))) == []

    def test_any_order_and_any_batches_come_to_the_same(
        self, storage: PipelineStorage
    ) -> None:
        """Random histories with retries, caches and errors, told in three ways."""
        for seed in range(self.random_histories):
            history = History(seed)
            ways = [[history.whole()], history.rearranged(1), history.rearranged(2)]
            found = []
            for batches in ways:
                for batch in batches:
                    storage.record(batch)
                found.append(rows_of(storage, history.run_id))
                assert storage.count_states(history.run_id) == len(history.batches)
                storage.remove([history.run_id])
                assert rows_of(storage, history.run_id) == {}
            for other in found[1:]:
                assert list(differences(found[0], other)) == []

    def test_two_that_record_at_once_come_to_the_same(
        self, storage: PipelineStorage
    ) -> None:
        """Four threads tell the same run, each in its own order: it is there once."""
        history = History(5)
        storage.record(history.whole())
        rows = rows_of(storage, history.run_id)
        storage.remove([history.run_id])

        def tell_all(seed: int) -> int:
            return sum(storage.record(batch) for batch in history.rearranged(seed))

        with ThreadPoolExecutor(4) as threads:
            new = list(threads.map(tell_all, range(4)))
        assert sum(new) == len(history.batches)
        assert list(differences(rows, rows_of(storage, history.run_id))) == []

    def test_many_runs_are_recorded_at_once(self, storage: PipelineStorage) -> None:
        """Threads that tell of different runs do not disturb each other."""
        histories = [History(100 + number) for number in range(6)]

        def tell_all(history: History) -> int:
            return sum(storage.record(batch) for batch in history.rearranged(0))

        with ThreadPoolExecutor(3) as threads:
            new = list(threads.map(tell_all, histories))
        assert new == [len(history.batches) for history in histories]
        assert storage.count_states() == sum(new)

    def test_a_flow_that_is_run_again_counts_by_its_last_attempt(
        self, storage: PipelineStorage
    ) -> None:
        """A retry opens the run again; what failed before it is superseded."""
        second = task_run(_RUN, "task-run-2")
        first_attempt = [
            tell(_RUN, "Running", at(1)),
            tell(_RUN, "Failed", at(2), task=_TASK, message="lost"),
            tell(_RUN, "Failed", at(3), message="lost"),
        ]
        storage.record(joined(first_attempt))
        execution = storage.get_pipeline_execution_or_raise("run-1")
        assert execution.get_status() is _S.RUNTIME_ERROR
        storage.record(tell(_RUN, "AwaitingRetry", at(4)))
        execution.refresh()
        assert execution.get_status() is _S.RUNNING
        assert execution.get_completed() is None
        (old,) = storage.get_task_results("run-1")
        assert old.superseded
        again = [
            tell(_RUN, "Retrying", at(5)),
            tell(_RUN, "Completed", at(6), task=second),
            tell(_RUN, "Completed", at(7)),
        ]
        storage.record(joined(again))
        execution.refresh()
        assert execution.get_status() is _S.DONE
        assert (execution.get_started(), execution.get_completed()) == (at(1), at(7))
        runs = {run.get_id(): run for run in storage.get_task_results("run-1")}
        assert runs["task-run-1"].get_status() is _S.RUNTIME_ERROR
        assert (runs["task-run-1"].superseded, runs["task-run-2"].superseded) == (1, 0)
        (task,) = storage.get_task_executions("run-1")
        assert (task.get_status(), task.superseded) == (_S.DONE, False)
        assert len(execution.get_states()) == 5

    def test_a_task_that_is_not_repeated_is_superseded(
        self, storage: PipelineStorage
    ) -> None:
        """A task of an earlier attempt only does not hold up the later one."""
        told = [
            tell(_RUN, "Running", at(1)),
            tell(_RUN, "Running", at(2), task=_TASK),
            tell(_RUN, "AwaitingRetry", at(4)),
            tell(_RUN, "Retrying", at(5)),
            tell(_RUN, "Completed", at(7)),
        ]
        for batch in told:
            storage.record(batch)
        (task,) = storage.get_task_executions("run-1")
        assert task.superseded
        execution = storage.get_pipeline_execution_or_raise("run-1")
        assert execution.get_status() is _S.DONE

    def test_what_was_concluded_gives_way_to_what_is_told(
        self, storage: PipelineStorage
    ) -> None:
        """An inferred end holds until something later is reported."""
        storage.record(tell(_RUN, "Running", at(1)))
        gone = tell(_RUN, "Crashed", at(5), inferred=True, message="not heard of")
        storage.record(gone)
        execution = storage.get_pipeline_execution_or_raise("run-1")
        assert execution.get_status() is _S.RUNTIME_ERROR
        assert execution.get_message() == "not heard of"
        assert execution.get_completed() == at(5)
        storage.record(tell(_RUN, "Completed", at(9), message="here I am"))
        execution.refresh()
        assert execution.get_status() is _S.DONE
        assert execution.get_message() == "here I am"
        assert execution.get_completed() == at(9)

    def test_an_error_of_one_object_leaves_the_other_objects_alone(
        self, storage: PipelineStorage
    ) -> None:
        """One object's wrong parameters end the run as a whole, not its siblings."""
        run = flow_run("run-1", is_mapped=True)
        good, wrong = (
            object_run("run-1", 0, "child-0"),
            object_run("run-1", 1, "child-1"),
        )
        task = task_run(good, "task-run-1")
        told = [
            tell(run, "Running", at(1)),
            tell(good, "Running", at(2)),
            tell(wrong, "Failed", at(3), status=_S.VALIDATION_ERROR, message="n < 0"),
            tell(good, "Running", at(4), task=task),
        ]
        for batch in told:
            storage.record(batch)
        execution = storage.get_pipeline_execution_or_raise("run-1")
        assert execution.get_status() is _S.VALIDATION_ERROR
        assert execution.get_message() == "n < 0"
        found = {r.get_index(): r for r in execution.get_pipeline_results()}
        assert found[0].get_status() is _S.RUNNING
        assert found[1].get_status() is _S.VALIDATION_ERROR
        assert [r.get_pipeline_object() for r in found.values()] == [
            {"shot": 0},
            {"shot": 1},
        ]
        storage.record(tell(good, "Completed", at(5), task=task))
        storage.record(tell(good, "Completed", at(6)))
        found[0].refresh()
        assert found[0].get_status() is _S.DONE
        assert found[0].get_flow_run_id() == "child-0"
        assert found[0].get_id() == result_id("run-1", 0)

    def test_facts_may_come_before_and_after_changes(
        self, storage: PipelineStorage
    ) -> None:
        """What becomes known of a run later is filled in; a sign of life moves on."""
        storage.record(Batch(flow_runs=[flow_run("run-1", pipeline_id=None)]))
        storage.record(tell(flow_run("run-1", last_seen=at(9)), "Running", at(1)))
        more = flow_run(
            "run-1", deployment_id=7, project_name="injector", last_seen=at(5)
        )
        storage.record(Batch(flow_runs=[more]))
        (row,) = storage.find(Kind.EXECUTION, {"deployment_id": 7})
        assert row.status is _S.RUNNING
        execution = storage.get_pipeline_execution_or_raise("run-1")
        assert execution.get_pipeline_id() == "told"
        assert execution.get_project_name() == "injector"
        assert execution.last_seen == at(9)

    def test_a_change_of_what_is_not_known_is_refused(
        self, storage: PipelineStorage
    ) -> None:
        """A state of a task run without any facts is an error, and keeps nothing."""
        batch = tell(_RUN, "Running", at(1), task=_TASK)
        batch.task_runs.clear()
        with pytest.raises(InvalidInputError, match="task-run-1"):
            storage.record(batch)
        assert storage.count_states() == 0
        assert storage.get_task_results() == []

    def test_a_unit_of_work_that_fails_can_be_done_again(
        self, storage: PipelineStorage
    ) -> None:
        """It keeps nothing, or without transactions comes to the same when repeated."""
        history = History(3)
        storage.record(history.whole())
        rows = rows_of(storage, history.run_id)
        digest = storage.get_pipeline_digest()
        storage.remove([history.run_id])

        def fail(session: PipelineSession) -> None:
            record(session, history.whole())
            raise BrokenError

        with pytest.raises(BrokenError):
            storage.transaction(fail)
        if self.is_transactional:
            assert storage.count_states() == 0
            assert rows_of(storage, history.run_id) == {}
            assert storage.get_pipeline_digest() == {}
        storage.record(history.whole())
        assert list(differences(rows, rows_of(storage, history.run_id))) == []
        assert storage.get_pipeline_digest() == digest
        assert storage.count_states() == len(history.batches)
