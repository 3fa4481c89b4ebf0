"""An execution with all that lies below it, as far as a person wants to see it.

What is read is bounded: of many objects or task runs only those that failed or run are
listed, and the others are counted by the storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.rows import (
    ExecutionRow,
    Kind,
    ResultRow,
    Row,
    TaskExecutionRow,
    TaskResultRow,
)
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.pipelines.tally import NO_COUNTS, Counts, counts_by_parent

#: So many objects, and so many runs of a task, are listed; of more only some.
FOLD: Final = 10
#: More tasks of one pipeline result are never listed, unless all are asked for.
_MOST_TASKS: Final = 200
#: Ids in one condition.
_TOGETHER: Final = 500
_S = PipelineTaskStatus
_WORTH_LISTING: Final = ([*_S.failed_statuses()], [_S.RUNNING], [_S.PENDING])


@dataclass(frozen=True, slots=True)
class TaskNode:
    """A task with its runs.

    Attributes:
        row: The task execution.
        counts: Its runs by status.
        runs: Those of them that are listed, in the order of their objects.
    """

    row: TaskExecutionRow
    counts: Counts
    runs: tuple[TaskResultRow, ...] = ()

    @property
    def hidden(self) -> int:
        """How many of its runs are not listed."""
        return self.counts.total + self.counts.superseded - len(self.runs)


@dataclass(frozen=True, slots=True)
class ResultNode:
    """A pipeline result with its tasks.

    Attributes:
        row: The pipeline result.
        counts: Its tasks by status.
        tasks: Those of them that are listed, the oldest first.
    """

    row: ResultRow
    counts: Counts
    tasks: tuple[TaskNode, ...] = ()

    @property
    def hidden(self) -> int:
        """How many of its tasks are not listed."""
        return self.counts.total + self.counts.superseded - len(self.tasks)


@dataclass(frozen=True, slots=True)
class ExecutionTree:
    """A pipeline execution with its pipeline results.

    Attributes:
        row: The execution.
        counts: Its pipeline results by status.
        results: Those of them that are listed, in the order of their objects.
    """

    row: ExecutionRow
    counts: Counts
    results: tuple[ResultNode, ...]

    @property
    def hidden(self) -> int:
        """How many of its pipeline results are not listed."""
        return self.counts.total + self.counts.superseded - len(self.results)

    def rows(self) -> list[Row]:
        """Return every row that is listed, from the top down."""
        found: list[Row] = [self.row]
        for result in self.results:
            found.append(result.row)
            for task in result.tasks:
                found += [task.row, *task.runs]
        return found


def read_tree(
    storage: PipelineStorage, run_id: str, *, fold: int | None = FOLD
) -> ExecutionTree:
    """Read an execution with its pipeline results, tasks and task runs.

    Args:
        storage: The storage that has it.
        run_id: The execution's id.
        fold: If there are more objects, or more runs of a task, than this, then only
            those that failed, run or wait are listed, at most so many of each. With
            nothing, all are.

    Raises:
        NotFoundError: There is no such run.

    Example:
        >>> from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
        >>> from prefect_lume.pipelines.pipeline import Pipeline, PipelineTask
        >>> storage = MemoryPipelineResultsStorage()
        >>> pipeline = Pipeline("scan", [PipelineTask("track", objects=range(99))])
        >>> _ = storage.build_pipeline_execution(pipeline, "run-1")
        >>> (result,) = read_tree(storage, "run-1", fold=5).results
        >>> result.tasks[0].counts.total, len(result.tasks[0].runs)
        (99, 5)
    """
    row = cast("ExecutionRow", storage.get_row(Kind.EXECUTION, run_id))
    counts = _counts(storage, Kind.RESULT, [run_id]).get(run_id, NO_COUNTS)
    results = _below(storage, Kind.RESULT, run_id, counts, fold)
    nodes = _results(storage, row, results, fold)
    return ExecutionTree(row, counts, tuple(nodes))


def _results(
    storage: PipelineStorage,
    execution: ExecutionRow,
    rows: Sequence[ResultRow],
    fold: int | None,
) -> list[ResultNode]:
    ids = [row.id for row in rows]
    counts = _counts(storage, Kind.TASK_EXECUTION, ids)
    nodes = []
    for row in rows:
        of_tasks = counts.get(row.id, NO_COUNTS)
        # Of many objects, those that went well are a line each.
        brief = fold is not None and execution.is_mapped and row.status is _S.DONE
        tasks = [] if brief else _tasks(storage, row, of_tasks, fold)
        nodes.append(ResultNode(row, of_tasks, tuple(tasks)))
    return nodes


def _tasks(
    storage: PipelineStorage, result: ResultRow, counts: Counts, fold: int | None
) -> list[TaskNode]:
    most = None if fold is None else max(fold, _MOST_TASKS)
    rows = _below(storage, Kind.TASK_EXECUTION, result.id, counts, most)
    counted = _counts(storage, Kind.TASK_RESULT, [row.id for row in rows])
    of_runs = {row.id: counted.get(row.id, NO_COUNTS) for row in rows}
    runs = _runs(storage, of_runs, fold)
    return [TaskNode(row, of_runs[row.id], tuple(runs.get(row.id, ()))) for row in rows]


def _runs(
    storage: PipelineStorage, counts: dict[str, Counts], fold: int | None
) -> dict[str, list[TaskResultRow]]:
    """Return the runs to list of each task, those of small tasks read together."""
    sizes = {id_: found.total + found.superseded for id_, found in counts.items()}
    small = [id_ for id_, size in sizes.items() if fold is None or size <= fold]
    listed: dict[str, list[TaskResultRow]] = {}
    for start in range(0, len(small), _TOGETHER):
        where = {"parent_id": small[start : start + _TOGETHER]}
        for row in storage.iterate(Kind.TASK_RESULT, where):
            leaf = cast("TaskResultRow", row)
            listed.setdefault(row.parent_id or "", []).append(leaf)
    for id_ in sizes.keys() - set(small):
        listed[id_] = _below(storage, Kind.TASK_RESULT, id_, counts[id_], fold)
    return {id_: sorted(rows, key=_position) for id_, rows in listed.items()}


def _below(
    storage: PipelineStorage,
    kind: Kind,
    parent_id: str,
    counts: Counts,
    fold: int | None,
) -> list[Any]:
    """Return the rows to list below an object: all, or those of a telling status."""
    where: dict[str, Any] = {"parent_id": parent_id}
    if fold is None or counts.total + counts.superseded <= fold:
        return list(storage.iterate(kind, where))
    found: list[Row] = []
    for statuses in _WORTH_LISTING:
        present = [status for status in statuses if counts.by_status.get(status)]
        if present:
            wanted = where | {"status": present}
            if kind is not Kind.RESULT:
                # What is superseded is not among these, and an index knows it.
                wanted["superseded"] = False
            found += storage.find(kind, wanted, limit=fold)
    if counts.superseded:
        found += storage.find(kind, where | {"superseded": True}, limit=fold)
    if len(found) > fold:
        # Failures first, then what runs; what waits is the least telling.
        found = found[: max(fold, sum(row.status is not _S.PENDING for row in found))]
    return sorted(found, key=_position)


def _position(row: Row) -> tuple[int, float, str]:
    index = getattr(row, "index", None)
    when = row.created.timestamp() if row.created else 0.0
    return (-1 if index is None else int(index), when, row.id)


def _counts(
    storage: PipelineStorage, kind: Kind, parent_ids: Sequence[str]
) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for start in range(0, len(parent_ids), _TOGETHER):
        where = {"parent_id": list(parent_ids[start : start + _TOGETHER])}
        found |= counts_by_parent(storage.tally(kind, where))
    return found
