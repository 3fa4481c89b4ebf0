"""Part of the contract of a pipelines storage: digest, cleaning up, positions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines import Pipeline, PipelineStorage, PipelineTask, helpers
from prefect_lume.pipelines.digest import PipelineDigest, PipelineDigestItem, digest_of
from prefect_lume.pipelines.rows import Kind, ResultRow
from prefect_lume.pipelines.tally import count_rows
from prefect_lume.testing.pipelines_generated import History, rows_of
from prefect_lume.testing.pipelines_objects import SCAN
from prefect_lume.testing.pipelines_told import at, flow_run, joined, task_run, tell


def check_digest(storage: PipelineStorage) -> None:
    """Compare the digest with the one that its rows make.

    Raises:
        AssertionError: They differ.
    """
    rows = [row for row in storage.find(Kind.RESULT) if isinstance(row, ResultRow)]
    _compare(storage.get_pipeline_digest(), digest_of(rows))


def _compare(found: PipelineDigest, expected: PipelineDigest) -> None:
    assert list(found) == list(expected)
    for name, item in expected.items():
        seconds = found[name].average_runtime
        assert found[name] == PipelineDigestItem(
            item.total_runs,
            item.total_success,
            item.total_failure,
            item.total_open,
            item.last_ran,
            seconds,
        )
        assert (seconds is None) is (item.average_runtime is None)
        if seconds is not None and item.average_runtime is not None:
            assert abs(seconds - item.average_runtime) < 1e-6 + 1e-9 * abs(seconds)


class KeepingContract:
    """What every pipelines storage promises of its digest and of cleaning up."""

    def test_the_digest_counts_every_pipeline(self, storage: PipelineStorage) -> None:
        """Runs, successes, failures, what is open, the last run, the mean time."""
        for number, (state, end) in enumerate(
            [("Completed", 3), ("Failed", 5), ("Completed", 4.5), (None, 0)]
        ):
            run = flow_run(f"run-{number}", created=at(number))
            storage.record(tell(run, "Running", at(number + 1)))
            if state:
                storage.record(tell(run, state, at(number + end)))
        storage.build_pipeline_execution(SCAN, "scan-1")
        digest = helpers.get_pipeline_digest(storage=storage)
        assert list(digest) == ["scan", "told"]
        assert digest["scan"] == PipelineDigestItem(total_open=2)
        told = digest["told"]
        assert (told.total_runs, told.total_success, told.total_failure) == (3, 2, 1)
        assert told.total_open == 1
        assert told.last_ran == at(4)
        assert told.average_runtime == pytest.approx((2 + 4 + 3.5) / 3)
        assert told.as_json()["last_ran"] == at(4).isoformat()

    def test_the_digest_follows_whatever_happens(
        self, storage: PipelineStorage
    ) -> None:
        """After random histories, built runs, reports and removals it is what it is."""
        histories = [History(200 + number) for number in range(4)]
        for history in histories:
            for batch in history.rearranged(0):
                storage.record(batch)
            check_digest(storage)
        storage.build_pipeline_execution(SCAN, "built")
        check_digest(storage)
        for leaf in storage.get_task_results("built"):
            leaf.report_status_change("DONE")
        check_digest(storage)
        assert storage.get_pipeline_digest()["scan"].total_success == 2
        storage.remove([histories[0].run_id])
        check_digest(storage)
        storage.remove(["built"])
        check_digest(storage)
        assert "scan" not in storage.get_pipeline_digest()
        storage.cleanup()
        assert storage.get_pipeline_digest() == {}

    def test_the_digest_is_right_after_many_wrote_at_once(
        self, storage: PipelineStorage
    ) -> None:
        """Threads that end runs of one pipeline at the same time are all counted."""

        def run(number: int) -> None:
            told = flow_run(f"run-{number}", created=at(number))
            for state, when in (("Running", 1), ("Completed", 3)):
                storage.record(tell(told, state, at(number + when)))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(run, range(16)))
        check_digest(storage)
        assert storage.get_pipeline_digest()["told"].total_success == 16

    def test_cleaning_up_returns_what_it_removed(
        self, storage: PipelineStorage
    ) -> None:
        """Runs from before a time go, and those made before it that never started."""
        for number in range(4):
            run = flow_run(f"run-{number}", created=at(0))
            task = task_run(run, f"task-run-{number}")
            storage.record(tell(run, "Running", at(10 * number)))
            storage.record(tell(run, "Completed", at(10 * number + 1), task=task))
        waiting = flow_run("waiting", created=at(5))
        storage.record(tell(waiting, "Scheduled", at(25)))
        storage.record(tell(flow_run("later", created=at(25)), "Scheduled", at(25)))
        gone = helpers.cleanup(at(20), storage=storage)
        assert sorted(gone) == ["run-0", "run-1", "waiting"]
        left = [each.get_id() for each in storage.get_pipeline_executions()]
        assert left == ["run-2", "run-3", "later"]
        assert helpers.cleanup(at(20), storage=storage) == []
        check_digest(storage)
        assert storage.count_states() == 5
        assert len(storage.get_task_results()) == 2

    def test_cleaning_up_removes_what_was_built_and_never_ran(
        self, storage: PipelineStorage
    ) -> None:
        """A run that was built counts by when it was made."""
        storage.build_pipeline_execution(SCAN, "run-1")
        now = datetime.now(UTC)
        assert storage.cleanup(now - timedelta(hours=1)) == []
        assert storage.cleanup(now + timedelta(hours=1)) == ["run-1"]
        assert rows_of(storage, "run-1") == {}

    def test_cleaning_up_leaves_nothing_behind(self, storage: PipelineStorage) -> None:
        """A run that is recorded again after it was removed is as if it were new."""
        histories = [History(number) for number in (1, 2, 7)]
        rows = {}
        for history in histories:
            storage.record(history.whole())
            rows[history.run_id] = rows_of(storage, history.run_id)
        storage.build_pipeline_execution(SCAN, "built")
        gone = storage.cleanup()
        assert sorted(gone) == sorted([*rows, "built"])
        assert storage.count_states() == 0
        assert all(storage.find(kind) == [] for kind in Kind)
        assert storage.get_pipeline_digest() == {}
        for history in histories:
            targets = {change.target for change in history.whole().changes}
            assert not any(storage.get_history(targets).values())
            assert storage.record(history.whole()) == len(history.batches)
            assert rows_of(storage, history.run_id) == rows[history.run_id]
        storage.build_pipeline_execution(SCAN, "built")

    def test_many_runs_are_removed(self, storage: PipelineStorage) -> None:
        """More runs than are removed together all go, and unknown ones do no harm."""
        pipeline = Pipeline("many", [PipelineTask("a")])
        for number in range(120):
            storage.build_pipeline_execution(pipeline, f"run-{number:03}")
        storage.remove(["unknown", "run-000"])
        assert storage.get_pipeline_digest()["many"].total_open == 119
        assert len(storage.cleanup()) == 119
        assert storage.find(Kind.TASK_RESULT) == []

    def test_a_position_only_moves_forward(self, storage: PipelineStorage) -> None:
        """Up to when a source was read is kept, exactly, each source by itself."""
        assert storage.get_position("server-a") is None
        storage.set_position("server-a", at(1.000001))
        assert storage.get_position("server-a") == at(1.000001)
        storage.set_position("server-a", at(0))
        assert storage.get_position("server-a") == at(1.000001)
        assert storage.get_position("server-b") is None
        storage.set_position("server-b", at(-5))
        storage.set_position("server-a", at(9))
        assert storage.get_position("server-a") == at(9)
        assert storage.get_position("server-b") == at(-5)
        storage.cleanup()
        assert storage.get_position("server-a") == at(9)
        naive = datetime(2026, 1, 1)  # noqa: DTZ001 - what is refused.
        with pytest.raises(InvalidInputError, match="zone"):
            storage.set_position("server-a", naive)

    def test_positions_of_many_threads_end_at_the_last(
        self, storage: PipelineStorage
    ) -> None:
        """Whoever comes late does not set a position back."""
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda n: storage.set_position("s", at(n)), range(20)))
        assert storage.get_position("s") == at(19)

    def test_rows_are_counted_as_they_are(self, storage: PipelineStorage) -> None:
        """A tally counts the rows that are found, and ids are found by their start."""
        histories = [History(number) for number in (4, 9)]
        storage.record(joined(history.whole() for history in histories))
        for kind in Kind:
            rows = storage.find(kind)
            assert set(storage.tally(kind)) == set(count_rows(rows))
            some = {"status": ["DONE", "RUNNING"]}
            assert set(storage.tally(kind, some)) == set(
                count_rows(storage.find(kind, some))
            )
        for history in histories:
            assert storage.find_run_ids(history.run_id[:8]) == [history.run_id]
        assert sorted(storage.find_run_ids("")) == sorted(h.run_id for h in histories)
        assert storage.find_run_ids("%") == storage.find_run_ids("_") == []
