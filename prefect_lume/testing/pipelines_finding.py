"""Part of the contract of a pipelines storage: what it does faster, it does alike.

A storage may answer some questions in its own way, for speed. Here each answer is
compared with the one that the base class would have given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import pytest

from prefect_lume.pipelines import Pipeline, PipelineStorage, PipelineTask
from prefect_lume.pipelines.base import PipelineSession
from prefect_lume.pipelines.reading import StorageReads
from prefect_lume.pipelines.rows import Kind, Row, TaskResultRow
from prefect_lume.pipelines.tally import count_rows
from prefect_lume.testing.pipelines_generated import History
from prefect_lume.testing.pipelines_objects import SCAN
from prefect_lume.testing.pipelines_told import at, flow_run, joined, task_run, tell

#: Ids that a database may take for one another.
ALIKE: Final = (
    "run-a",
    "RUN-A",
    "Run-a",
    "run-a ",
    " run-a",
    "run-aa",
    "run_a",
    "run%a",
    "run",
)
#: More than are read together.
MANY: Final = 2100


def _questions() -> Iterator[dict[str, Any]]:
    """Yield arguments by which rows of every kind can be asked for."""
    times: list[datetime | None] = [None, at(0), at(0.000005), at(0.002), at(3600)]
    for since, before in [(t, None) for t in times] + [(None, t) for t in times]:
        yield {"where": None, "since": since, "before": before}
    for status in ("DONE", ["PENDING", "RUNNING"], [], "NO-SUCH-STATUS"):
        yield {"where": {"status": status}, "since": None, "before": None}
    wanted: Mapping[str, Any] = {"status": ["DONE", "CANCELLED"]}
    yield {"where": wanted, "since": at(0), "before": at(0.003)}


class FindingContract:
    """What every pipelines storage promises where it has an answer of its own."""

    def test_rows_of_repeated_attempts_are_told_apart(
        self, storage: PipelineStorage
    ) -> None:
        """``superseded`` finds what a repeated attempt left, or the rest."""
        run = flow_run("run-1")
        lost = task_run(run, "lost", "read", created=at(1))
        kept = task_run(run, "kept", "track", created=at(5))
        story = [
            tell(run, "Running", at(0)),
            tell(run, "Failed", at(2), task=lost),
            tell(run, "AwaitingRetry", at(3)),
            tell(run, "Running", at(4)),
            tell(run, "Completed", at(6), task=kept),
            tell(run, "Completed", at(7)),
        ]
        for batch in story:
            storage.record(batch)
        for flag, expected in ((True, "lost"), (False, "kept")):
            rows = storage.find(Kind.TASK_RESULT, {"superseded": flag})
            assert [row.id for row in rows] == [expected]
            tasks = storage.find(Kind.TASK_EXECUTION, {"superseded": [flag]})
            assert [task.id for task in tasks] == [rows[0].parent_id]
            found = storage.get_task_results("run-1", superseded=flag)
            assert [each.get_id() for each in found] == [expected]
            (tally,) = storage.tally(Kind.TASK_RESULT, {"superseded": flag})
            assert (tally.superseded, tally.number) == (flag, 1)
        both = storage.find(Kind.TASK_RESULT, {"superseded": [True, False]})
        assert [row.id for row in both] == ["lost", "kept"]
        assert storage.find(Kind.TASK_RESULT, {"superseded": None}) == []

    def test_ids_that_look_alike_are_different(self, storage: PipelineStorage) -> None:
        """Case, blanks and wildcards make another id, of whatever is kept."""
        for number, run_id in enumerate(ALIKE):
            run = flow_run(run_id, created=at(number), pipeline_id=f"p {run_id}")
            task = task_run(run, f"task {run_id}")
            storage.record(tell(run, "Running", at(number), id=f"state {run_id}"))
            state = "Failed" if number % 2 else "Completed"
            storage.record(tell(run, state, at(number), task=task, id=f"end {run_id}"))
        assert storage.count_states() == 2 * len(ALIKE)
        assert list(storage.get_pipeline_digest()) == sorted(f"p {i}" for i in ALIKE)
        for number, run_id in enumerate(ALIKE):
            execution = storage.get_pipeline_execution_or_raise(run_id)
            assert execution.get_id() == run_id
            assert execution.get_pipeline_id() == f"p {run_id}"
            (task_result,) = storage.get_task_results(run_id)
            assert task_result.get_id() == f"task {run_id}"
            assert task_result.get_status().is_failed is bool(number % 2)
            assert storage.count_states(run_id) == 2
            assert list(storage.get_history([run_id])) == [run_id]
            (by_pipeline,) = storage.get_pipeline_executions(f"p {run_id}")
            assert by_pipeline == execution
        storage.remove(["RUN-A", "run-a "])
        left = {row.id for row in storage.find(Kind.EXECUTION)}
        assert left == set(ALIKE) - {"RUN-A", "run-a "}

    @pytest.mark.parametrize("limit", [0, 1, 2, 100])
    def test_runs_are_found_by_how_their_ids_begin(
        self, storage: PipelineStorage, limit: int
    ) -> None:
        """The beginning counts as it is written, and no character is a wildcard."""
        for run_id in ALIKE:
            storage.record(tell(flow_run(run_id), "Running", at(0)))
        starts = {run_id[:end] for run_id in ALIKE for end in range(len(run_id) + 1)}
        for start in (*starts, "%", "_", "RUN-a", "run-á", "\ud800", "\x00"):
            found = storage.find_run_ids(start, limit)
            every = StorageReads.find_run_ids(storage, start, 100)
            assert set(found) <= set(every)
            assert len(found) == len(set(found)) == min(limit, len(every))

    def test_answers_are_those_of_the_base_class(
        self, storage: PipelineStorage
    ) -> None:
        """Going through rows, tallies and the digest agree with finding all rows."""
        histories = [History(300 + number) for number in range(6)]
        storage.record(joined(history.whole() for history in histories))
        storage.build_pipeline_execution(SCAN, "built")
        for kind in Kind:
            for asked in _questions():
                rows = storage.find(kind, **asked)
                assert list(storage.iterate(kind, **asked)) == rows
                tallied = storage.tally(kind, **asked)
                assert len(tallied) == len(set(tallied))
                assert set(tallied) == set(count_rows(rows))
                newest = storage.find(kind, **asked, newest_first=True)
                assert list(storage.iterate(kind, **asked, newest_first=True)) == newest
                assert sorted(r.id for r in newest) == sorted(r.id for r in rows)

    def test_many_rows_are_gone_through_in_their_order(
        self, storage: PipelineStorage
    ) -> None:
        """More rows than are read together come once each, in the order of ``find``."""
        task = PipelineTask("track", objects=list(range(MANY)))
        storage.build_pipeline_execution(Pipeline("many", [task]), "run-1")
        rows = list(storage.iterate(Kind.TASK_RESULT, {"run_id": "run-1"}))
        indices = [row.index for row in rows if isinstance(row, TaskResultRow)]
        assert indices == list(range(MANY))
        (tally,) = storage.tally(Kind.TASK_RESULT, {"run_id": "run-1"})
        assert tally.number == MANY
        assert tally.parent_id == rows[0].parent_id
        ids = [row.id for row in rows]
        assert len(storage.find(Kind.TASK_RESULT, {"id": ids})) == MANY
        assert storage.find(Kind.TASK_RESULT, limit=3, skip=MANY - 2) == rows[-2:]

    def test_all_below_is_what_is_below_each(self, storage: PipelineStorage) -> None:
        """Asked for together or one by one, also of what is not yet kept."""
        histories = [History(400 + number) for number in range(3)]
        storage.record(joined(history.whole() for history in histories))
        storage.build_pipeline_execution(SCAN, "built")
        ids = {kind: [row.id for row in storage.find(kind)] for kind in Kind}
        runs = sorted(ids[Kind.EXECUTION])

        def compare(session: PipelineSession) -> None:
            session.lock(runs)
            for change in (False, True):
                for kind in tuple(Kind)[1:]:
                    parents = [*ids[kind.above or kind], "unknown"]
                    if change:
                        self._move_one(session, kind, parents)
                    for some in (parents, parents[:1], ["unknown"], []):
                        found = session.get_all_below(kind, some)
                        base = PipelineSession.get_all_below(session, kind, some)
                        assert _by_id(found) == _by_id(base)
                        assert len(found) == len(_by_id(found))

        storage.transaction(compare)

    @staticmethod
    def _move_one(session: PipelineSession, kind: Kind, parents: list[str]) -> None:
        """Put a row below another parent of its run, without keeping it yet."""
        rows = session.get_all_below(kind, parents)
        for row in rows:
            others = {r.parent_id for r in rows if r.run_id == row.run_id}
            others.discard(row.parent_id)
            if others:
                row.parent_id = min(filter(None, others))
                row.message = "moved"
                session.put(kind, [row])
                return


def _by_id(rows: list[Row]) -> dict[str, Row]:
    return {row.id: row for row in rows}
