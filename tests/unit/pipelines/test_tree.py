"""An execution as a tree: what is listed, and what is only counted."""

from __future__ import annotations

import pytest

from prefect_lume.errors import NotFoundError
from prefect_lume.pipelines.describing import is_active, seconds_of
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.pipelines.status import PipelineTaskStatus as S
from prefect_lume.pipelines.tally import counts_by_parent, counts_of
from prefect_lume.pipelines.tree import read_tree


@pytest.fixture
def runs(sample_runs):
    return sample_runs(MemoryPipelineResultsStorage())


class Watched(MemoryPipelineResultsStorage):
    """Counts the task results that are read."""

    def __init__(self):
        super().__init__()
        self.read = 0

    def find(self, kind, *args, **kwargs):
        found = super().find(kind, *args, **kwargs)
        self.read += len(found) if kind is Kind.TASK_RESULT else 0
        return found

    def tally(self, kind, *args, **kwargs):
        before = self.read
        try:
            return super().tally(kind, *args, **kwargs)
        finally:
            self.read = before


def test_a_small_run_is_listed_whole(runs):
    """All tasks and runs of a small run are there, in the order they were made."""
    tree = read_tree(runs.storage, runs.chain())
    (result,) = tree.results
    assert [task.row.pipeline_task for task in result.tasks] == [
        "generate",
        "track",
        "plot",
    ]
    assert [len(task.runs) for task in result.tasks] == [1, 1, 1]
    assert tree.counts.done == 1
    assert (tree.hidden, result.hidden, result.tasks[0].hidden) == (0, 0, 0)
    assert len(tree.rows()) == 1 + 1 + 3 + 3


def test_of_many_runs_the_failed_are_listed_and_the_others_counted(runs):
    """Of 30 runs of which 2 failed these 2 are listed, and 28 counted."""
    tree = read_tree(runs.storage, runs.scan(points=30))
    track = tree.results[0].tasks[1]
    assert [run.index for run in track.runs] == [3, 17]
    assert track.counts.by_status == {S.DONE: 28, S.RUNTIME_ERROR: 2}
    assert track.hidden == 28


def test_everything_is_listed_on_demand(runs):
    """Without a fold all runs are listed, in the order of their objects."""
    tree = read_tree(runs.storage, runs.scan(points=30), fold=None)
    assert [run.index for run in tree.results[0].tasks[1].runs] == list(range(30))


def test_runs_that_are_counted_are_not_read(sample_runs):
    """Of 2,000 runs no more are read than are listed."""
    storage = Watched()
    run = sample_runs(storage).scan(points=2000)
    storage.read = 0
    tree = read_tree(storage, run)
    assert tree.results[0].tasks[1].counts.total == 2000
    assert storage.read <= 3


def test_of_many_objects_those_that_need_a_look_are_listed(runs):
    """Of 14 objects the failed and the running one are listed, with their tasks."""
    tree = read_tree(runs.storage, runs.mapped(objects=14))
    assert [result.row.index for result in tree.results] == [2, 13]
    assert all(len(result.tasks) == 1 for result in tree.results)
    assert tree.hidden == 12
    few = read_tree(runs.storage, runs.mapped(objects=4))
    assert [bool(result.tasks) for result in few.results] == [False, False, True, True]


def test_superseded_runs_are_counted_by_themselves(runs):
    """A run of an attempt that was repeated is listed, and counted apart."""
    (task,) = read_tree(runs.storage, runs.retried()).results[0].tasks
    assert (task.counts.total, task.counts.superseded) == (1, 1)
    assert [run.superseded for run in task.runs] == [True, False]


def test_an_unknown_run_is_not_found(runs):
    """A run that was not recorded is an error."""
    with pytest.raises(NotFoundError, match="nothing"):
        read_tree(runs.storage, "nothing")


def test_a_tally_counts_what_find_finds(runs):
    """Numbers by parent and status agree with the rows."""
    run = runs.scan(points=7)
    runs.retried()
    for kind in Kind:
        rows = runs.storage.find(kind)
        tallies = runs.storage.tally(kind)
        assert sum(t.number for t in tallies) == len(rows)
        by_parent = counts_by_parent(tallies)
        for parent in {row.parent_id for row in rows}:
            below = [r for r in rows if r.parent_id == parent]
            counts = by_parent[parent or ""]
            assert counts.total == sum(not row.superseded for row in below)
            assert counts.superseded == sum(row.superseded for row in below)
    where = {"run_id": run, "status": [S.RUNTIME_ERROR]}
    assert counts_of(runs.storage.tally(Kind.TASK_RESULT, where)).failed == 1


def test_pages_give_every_row_once(runs, monkeypatch):
    """Reading by pages gives all rows, whether or not the last page is full."""
    monkeypatch.setattr("prefect_lume.pipelines.reading._PAGE", 4)
    run = runs.scan(points=7)
    rows = list(runs.storage.iterate(Kind.TASK_RESULT, {"run_id": run}))
    assert len({row.id for row in rows}) == len(rows) == 8


def test_runs_are_found_by_the_beginning_of_their_id(runs):
    """All ids that begin so are found, up to the limit."""
    for name in ("aa1", "aa2", "ab1"):
        runs.flow("p", [(0, "Running")], run_id=name)
    assert sorted(runs.storage.find_run_ids("aa", 5)) == ["aa1", "aa2"]
    assert len(runs.storage.find_run_ids("a")) == 2
    assert runs.storage.find_run_ids("aaa") == []


def test_what_ran_on_after_a_failure_counts_as_time(runs):
    """A run lasts until the last change below it, not until its first failure."""
    row = runs.storage.get_row(Kind.EXECUTION, runs.scan(points=30))
    assert row.status is S.RUNTIME_ERROR
    assert seconds_of(row) == pytest.approx(38.8)


def test_what_runs_lasts_until_now(runs):
    """The time of what is open goes up to now; what never started has none."""
    run = runs.flow("open", [(0, "Pending"), (1, "Running")])
    row = runs.storage.get_row(Kind.EXECUTION, run)
    assert is_active(row)
    assert seconds_of(row, runs.at(11)) == 10
    waiting = runs.flow("waiting", [(0, "Pending")])
    assert seconds_of(runs.storage.get_row(Kind.EXECUTION, waiting)) is None


def test_a_run_that_failed_early_is_active_until_prefect_ends_it(runs):
    """A pipeline result with a failed task goes on while Prefect says Running."""
    run = runs.flow("long", [(0, "Pending"), (1, "Running")])
    runs.task(run, "a", [[(2, "Running"), (3, "Failed", "no")]])
    result = runs.storage.find(Kind.RESULT, {"parent_id": run})[0]
    assert result.status is S.RUNTIME_ERROR
    assert is_active(result)
