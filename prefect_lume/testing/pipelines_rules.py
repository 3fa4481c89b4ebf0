"""Part of the contract of a pipelines storage: the status rules, report by report."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

import pytest

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines import (
    Pipeline,
    PipelineStorage,
    PipelineTask,
    PipelineTaskStatus,
)
from prefect_lume.pipelines.base import PipelineStorageObject
from prefect_lume.testing.pipelines_model import StatusModel
from prefect_lume.testing.pipelines_objects import SCAN, one_of_each

_S = PipelineTaskStatus
_FINAL: Final = sorted(_S.final_statuses())
#: How often each status is reported in a random run: one where most goes well, and one
#: where much goes wrong.
WEIGHTS: Final = ([0, 5, 14, 1, 1, 1, 1], [1, 3, 3, 1, 1, 1, 1])


def statuses(storage: PipelineStorage, run_id: str) -> list[str]:
    """Return the statuses of the first object of each kind, from the top down."""
    return [found.get_status().value for found in one_of_each(storage, run_id)]


class RulesContract:
    """What every pipelines storage promises of statuses reported to objects."""

    #: How many random runs are compared with a model of the rules.
    random_runs: ClassVar[int] = 6

    def test_a_status_only_advances(self, storage: PipelineStorage) -> None:
        """From pending to running to one final status, and nowhere else."""
        for number, final in enumerate(_FINAL):
            storage.build_pipeline_execution(
                Pipeline("a", [PipelineTask("b")]), str(number)
            )
            leaf = one_of_each(storage, str(number))[3]
            assert not leaf.report_status_change(_S.PENDING, "again")
            assert leaf.report_status_change(_S.RUNNING, "off it goes")
            assert not leaf.report_status_change(_S.PENDING, "back")
            assert not leaf.report_status_change(_S.RUNNING, "twice")
            assert leaf.get_message() == "off it goes"
            assert leaf.report_status_change(final, "the end")
            for later in _S:
                assert not leaf.report_status_change(later, "too late")
            leaf.refresh()
            assert leaf.get_status() is final
            assert leaf.get_message() == "the end"
            messages = [change.message for change in leaf.get_states()]
            assert messages == ["off it goes", "the end"]
        with pytest.raises(ValueError, match="FINISHED"):
            leaf.report_status_change("FINISHED")

    def test_start_and_end_are_stamped_once(self, storage: PipelineStorage) -> None:
        """Each object has the time when it began and when it ended."""
        storage.build_pipeline_execution(Pipeline("a", [PipelineTask("b")]), "run-1")
        before = datetime.now(UTC)
        leaf = one_of_each(storage, "run-1")[3]
        leaf.report_status_change("RUNNING")
        begun = [found.get_started() for found in one_of_each(storage, "run-1")]
        leaf.report_status_change("DONE")
        after = datetime.now(UTC)
        for found, started in zip(one_of_each(storage, "run-1"), begun, strict=True):
            completed, duration = found.get_completed(), found.get_duration()
            assert started is not None
            assert completed is not None
            assert duration is not None
            assert found.get_started() == started
            assert before <= started <= completed <= after
            assert timedelta(0) <= duration <= after - before

    def test_a_given_time_is_kept_to_the_microsecond(
        self, storage: PipelineStorage
    ) -> None:
        """Times may be given, in any zone; without a zone they are refused."""
        storage.build_pipeline_execution(Pipeline("a", [PipelineTask("b")]), "run-1")
        leaf = one_of_each(storage, "run-1")[3]
        start = datetime(2026, 3, 29, 0, 59, 59, 999_999, UTC)
        leaf.report_status_change("RUNNING", timestamp=start)
        leaf.report_status_change("DONE", timestamp=start + timedelta(microseconds=1))
        for found in one_of_each(storage, "run-1"):
            assert found.get_started() == start
            assert found.get_duration() == timedelta(microseconds=1)
        states = leaf.get_states()
        assert states[0].timestamp == start
        naive = datetime(2026, 1, 1)  # noqa: DTZ001 - what is refused.
        with pytest.raises(InvalidInputError, match="zone"):
            leaf.report_status_change("DONE", timestamp=naive)

    def test_running_reaches_all_above(self, storage: PipelineStorage) -> None:
        """The first object that runs makes all above it run; siblings wait."""
        storage.build_pipeline_execution(SCAN, "run-1")
        one_of_each(storage, "run-1")[3].report_status_change("RUNNING")
        assert statuses(storage, "run-1") == ["RUNNING"] * 4
        running = storage.get_task_results("run-1", status="RUNNING")
        assert len(running) == 1
        assert len(storage.get_pipeline_results("run-1", status="PENDING")) == 1

    def test_done_waits_for_all_below(self, storage: PipelineStorage) -> None:
        """A parent that is reported done is done when the last one below it is."""
        storage.build_pipeline_execution(SCAN, "run-1")
        for found in one_of_each(storage, "run-1")[:3]:
            assert found.report_status_change("DONE", "I think so")
            assert found.get_status() is _S.RUNNING
            assert found.get_started() is not None
            assert found.get_completed() is None
        leaves = storage.get_task_results("run-1")
        for leaf in leaves[:-1]:
            leaf.report_status_change("DONE")
        execution = storage.get_pipeline_execution_or_raise("run-1")
        assert execution.get_status() is _S.RUNNING
        leaves[-1].report_status_change("DONE")
        execution.refresh()
        assert execution.get_status() is _S.DONE
        assert execution.get_message() == "I think so"
        assert {t.get_status() for t in storage.get_task_executions()} == {_S.DONE}
        assert {r.get_status() for r in storage.get_pipeline_results()} == {_S.DONE}

    def test_all_is_done_when_all_below_is(self, storage: PipelineStorage) -> None:
        """Nobody has to report the end of what was built as a whole."""
        storage.build_pipeline_execution(Pipeline("a", [PipelineTask("b")]), "run-1")
        leaf = one_of_each(storage, "run-1")[3]
        leaf.report_status_change("DONE", "at once")
        assert statuses(storage, "run-1") == ["DONE"] * 4
        assert leaf.get_started() == leaf.get_completed()

    def test_what_has_nothing_below_is_done_by_itself(
        self, storage: PipelineStorage
    ) -> None:
        """A run over no objects, or with no tasks, ends when that is reported."""
        pipelines = [Pipeline("a"), Pipeline("a", objects=[])]
        for number, pipeline in enumerate(pipelines):
            run = storage.build_pipeline_execution(pipeline, str(number))
            for result in storage.get_pipeline_results(str(number)):
                result.report_status_change("DONE")
            run.report_status_change("DONE")
            run.refresh()
            assert run.get_status() is _S.DONE

    def test_the_first_failure_is_that_of_all_above(
        self, storage: PipelineStorage
    ) -> None:
        """All above end with the first failure's status and message, once."""
        storage.build_pipeline_execution(SCAN, "run-1")
        results = storage.get_pipeline_results("run-1")
        ids = [result.get_id() for result in results]
        first, second = storage.get_task_results(pipeline_result_id=ids[0])[:2]
        others = storage.get_task_results(pipeline_result_id=ids[1])
        first.report_status_change("RUNTIME_ERROR", "the beam was lost")
        ended = [found.get_completed() for found in one_of_each(storage, "run-1")[:2]]
        second.report_status_change("CANCELLED", "by hand")
        for other in others:
            assert other.report_status_change("DONE")
        above = one_of_each(storage, "run-1")[:2]
        for found, completed in zip(above, ended, strict=True):
            assert found.get_status() is _S.RUNTIME_ERROR
            assert found.get_message() == "the beam was lost"
            assert found.get_completed() == completed == first.get_completed()
            assert not found.report_status_change("DONE")
        assert second.get_status() is _S.CANCELLED
        results[1].refresh()
        assert results[1].get_status() is _S.DONE

    @pytest.mark.parametrize("error", ["CONFIG_ERROR", "VALIDATION_ERROR"])
    @pytest.mark.parametrize("level", [0, 1, 2])
    def test_what_was_wrong_from_the_start_cancels_all_below(
        self, storage: PipelineStorage, level: int, error: str
    ) -> None:
        """What is open below is cancelled, what is done stays, siblings go on."""
        storage.build_pipeline_execution(SCAN, "run-1")
        done = storage.get_task_results("run-1")[0]
        done.report_status_change("DONE", "in time")
        track = storage.get_task_executions("run-1", pipeline_task="track")
        wrong: PipelineStorageObject = [
            storage.get_pipeline_execution_or_raise("run-1"),
            storage.get_pipeline_results("run-1")[0],
            track[0],
        ][level]
        assert wrong.report_status_change(error, "no such lattice")
        assert wrong.get_status().value == error
        assert wrong.get_message() == "no such lattice"
        model = StatusModel(storage, "run-1")
        node = model.nodes[wrong.get_id()]
        below = {each.id for each in node.below()}
        above = {each.id for each in node.above()}
        for id_, other in model.nodes.items():
            found = model.get_object(other)
            if id_ in above:
                assert found.get_status().value == error
                assert found.get_message() == "no such lattice"
            elif id_ in below and not done.get_status().is_final:
                assert found.get_status() is _S.CANCELLED
            elif id_ in below and found.get_status() is not _S.DONE:
                assert found.get_status() is _S.CANCELLED
                assert wrong.get_status().value in found.get_message()
                assert found.get_completed() is not None
                assert not found.report_status_change("RUNNING")
            elif id_ not in below and id_ != wrong.get_id():
                assert not found.get_status().is_failed
        done.refresh()
        assert (done.get_status(), done.get_message()) == (_S.DONE, "in time")

    def test_a_runtime_error_cancels_nothing(self, storage: PipelineStorage) -> None:
        """What lies below something that failed while it ran may go on to its end."""
        storage.build_pipeline_execution(SCAN, "run-1")
        execution, result, task, leaf = one_of_each(storage, "run-1")
        execution.report_status_change("RUNTIME_ERROR", "out of memory")
        assert statuses(storage, "run-1") == ["RUNTIME_ERROR"] + ["PENDING"] * 3
        assert leaf.report_status_change("DONE")
        for found in (result, task):
            found.refresh()
            assert found.get_status() in (_S.RUNNING, _S.DONE)

    def test_a_failure_after_done_was_said_too_early_counts(
        self, storage: PipelineStorage
    ) -> None:
        """What is reported done, but waits, can still fail and be cancelled."""
        storage.build_pipeline_execution(SCAN, "run-1")
        result = storage.get_pipeline_results("run-1")[0]
        result.report_status_change("DONE")
        assert result.report_status_change("CANCELLED", "by hand")
        assert result.get_status() is _S.CANCELLED
        assert result.get_message() == "by hand"

    def test_random_reports_come_to_what_a_model_says(
        self, storage: PipelineStorage
    ) -> None:
        """Any statuses on any objects in any order, against the rules once more."""
        for seed in range(self.random_runs):
            rng = random.Random(seed)  # noqa: S311 - to be the same each time.
            run_id = f"run-{seed}"
            storage.build_pipeline_execution(SCAN, run_id)
            model = StatusModel(storage, run_id)
            nodes = list(model.nodes.values())
            for number in range(30):
                node = rng.choice(nodes)
                (status,) = rng.choices(list(_S), WEIGHTS[seed % 2])
                message = f"report {number}"
                is_advance = model.report(node, status, message)
                found = model.get_object(node)
                assert found.report_status_change(status, message) is is_advance
                assert found.get_status() is node.status
            model.check()
