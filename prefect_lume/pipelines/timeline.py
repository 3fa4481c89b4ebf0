"""What ran when in an execution, as data for a plot, whatever its size.

Each task run is a lane of spans. Of a task with very many runs only is kept how many
ran at once, in a fixed number of bins, so that memory does not grow with the runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import StateChange
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

#: More runs of one task, or more objects, are drawn as one area.
MOST_LANES: Final = 300
#: Lanes of the whole plot; further tasks are drawn as areas.
_MOST_IN_ALL: Final = 2000
#: Subflows that are drawn with their tasks; of more, only their own spans.
_MOST_CHILDREN: Final = 20
_DEEPEST: Final = 4
#: Objects that are drawn with their tasks.
_MOST_OBJECTS: Final = 8
#: Tasks of one object that are drawn.
_MOST_TASKS: Final = 100
BINS: Final = 400
_LONGEST: Final = 60
_TOGETHER: Final = 200
_S = PipelineTaskStatus


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, in seconds since the plot's start.

    Attributes:
        start: Its begin.
        end: Its end.
        waiting: Whether it waited, rather than ran.
        repeated: Whether what ran then was tried again.
    """

    start: float
    end: float
    waiting: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """What one object did.

    Attributes:
        label: Its name.
        status: How it ended, or stands.
        spans: When it waited and ran.
        superseded: Whether it belongs to an attempt that was repeated.
    """

    label: str
    status: PipelineTaskStatus
    spans: tuple[Span, ...]
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many ran at once, of very many.

    Attributes:
        at_once: Status → how many of that status ran, on average over each bin.
        failed: Middles of the bins in which one failed, in seconds.
    """

    at_once: dict[PipelineTaskStatus, list[float]]
    failed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Lanes that belong together: the runs of a task, or an execution as a whole.

    Attributes:
        label: Its name.
        depth: How deep it is nested.
        is_head: Whether it stands for what contains the groups after it.
        lanes: Its lanes; none for a crowd.
        crowd: What is drawn in place of very many lanes.
        total: How many runs it is of.
    """

    label: str
    depth: int
    is_head: bool = False
    lanes: tuple[Lane, ...] = ()
    crowd: Crowd | None = None
    total: int = 1


@dataclass(frozen=True, slots=True)
class Timeline:
    """An execution over time.

    Attributes:
        execution: The execution.
        start: The time that seconds are counted from.
        end: The last second.
        groups: What ran, from the top down.
        left_out: How many subflows are not drawn.
    """

    execution: ExecutionRow
    start: datetime
    end: float
    groups: tuple[Group, ...]
    left_out: int = 0


def read_timeline(
    storage: PipelineStorage, run_id: str, *, now: datetime | None = None
) -> Timeline:
    """Read what ran when in an execution, its subflows included.

    Args:
        storage: The storage that has it.
        run_id: The execution's id.
        now: The time up to which what still runs has been running.

    Raises:
        NotFoundError: There is no such run.
    """
    row = cast("ExecutionRow", storage.get_row(Kind.EXECUTION, run_id))
    now = now or datetime.now(UTC)
    start = row.started or row.created or now
    last = max([m for m in (row.completed, row.last_at) if m], default=now)
    if not row.status.is_final or _is_open(storage, run_id):
        last = max(last, now)
    end = max((last - start).total_seconds(), 0.001)
    reading = _Reading(storage, run_id, start, now, end)
    groups = tuple(reading.execution(row, 0))
    return Timeline(row, start, end, groups, reading.left_out)


def _is_open(storage: PipelineStorage, run_id: str) -> bool:
    where = {"run_id": run_id, "status": [_S.RUNNING]}
    return bool(storage.find(Kind.TASK_RESULT, where, limit=1))


@dataclass
class _Reading:
    """One timeline on its way from the storage."""

    storage: PipelineStorage
    run_id: str
    start: datetime
    now: datetime
    end: float
    lanes: int = 0
    left_out: int = 0
    seen: set[str] = field(default_factory=set)

    def execution(self, row: ExecutionRow, depth: int) -> Iterator[Group]:
        """Yield the groups of an execution: itself, its tasks, its subflows."""
        self.seen.add(row.id)
        name = row.pipeline_id or row.id[:8]
        label = f"{name} · {row.run_name}" if depth and row.run_name else name
        (lane,) = self._lanes([(label, row)])
        yield Group(label, depth, is_head=True, lanes=(lane,))
        if row.is_mapped:
            yield from self._objects(row, depth + 1)
        else:
            for result in self.storage.find(
                Kind.RESULT, {"parent_id": row.id}, limit=1
            ):
                yield from self._tasks(result.id, depth + 1)
        yield from self._children(row, depth + 1)

    def _children(self, row: ExecutionRow, depth: int) -> Iterator[Group]:
        found = self.storage.find(
            Kind.EXECUTION, {"parent_run_id": row.id}, limit=MOST_LANES + 1
        )
        children = [
            cast("ExecutionRow", child) for child in found if child.id not in self.seen
        ]
        if len(children) > MOST_LANES:
            self.left_out += 1
        whole = len(self.seen) + len(children) <= _MOST_CHILDREN and depth <= _DEEPEST
        if whole:
            for child in children:
                yield from self.execution(child, depth)
        elif children:
            named = [(c.run_name or c.id[:8], cast("Row", c)) for c in children]
            lanes = tuple(self._lanes(named[:MOST_LANES]))
            yield Group("subflows", depth, lanes=lanes, total=len(children))

    def _objects(self, row: ExecutionRow, depth: int) -> Iterator[Group]:
        where = {"parent_id": row.id}
        found = self.storage.find(Kind.RESULT, where, limit=MOST_LANES + 1)
        if len(found) > MOST_LANES:
            yield self._crowd("objects", depth, Kind.RESULT, row.id)
            return
        results = [cast("ResultRow", item) for item in found]
        if len(results) > _MOST_OBJECTS:
            named = [(_object(r), cast("Row", r)) for r in results]
            lanes = tuple(self._lanes(named))
            yield Group("objects", depth, lanes=lanes, total=len(lanes))
            return
        for result in results:
            label = _object(result)
            (lane,) = self._lanes([(label, result)])
            yield Group(label, depth, is_head=True, lanes=(lane,))
            yield from self._tasks(result.id, depth + 1)

    def _tasks(self, result_id: str, depth: int) -> Iterator[Group]:
        found = self.storage.find(
            Kind.TASK_EXECUTION, {"parent_id": result_id}, limit=_MOST_TASKS
        )
        ids = [row.id for row in found]
        counts = counts_by_parent(
            self.storage.tally(Kind.TASK_RESULT, {"parent_id": ids}) if ids else []
        )
        for row in found:
            task = cast("TaskExecutionRow", row)
            label = task.pipeline_task or task.task_id
            yield from self._task(label, depth, row.id, counts.get(row.id, NO_COUNTS))

    def _task(
        self, label: str, depth: int, id_: str, counts: Counts
    ) -> Iterator[Group]:
        total = counts.total + counts.superseded
        if total > MOST_LANES or self.lanes + total > _MOST_IN_ALL:
            yield self._crowd(label, depth, Kind.TASK_RESULT, id_)
            return
        runs = [
            cast("TaskResultRow", row)
            for row in self.storage.find(Kind.TASK_RESULT, {"parent_id": id_})
        ]
        named = [
            (label if total == 1 else f"{label} {_place(run, n)}", cast("Row", run))
            for n, run in enumerate(sorted(runs, key=_order))
        ]
        if named:
            yield Group(label, depth, lanes=tuple(self._lanes(named)), total=total)

    # Spans --------------------------------------------------------------------------

    def _lanes(self, named: Sequence[tuple[str, Row]]) -> list[Lane]:
        self.lanes += len(named)
        lanes = []
        for first in range(0, len(named), _TOGETHER):
            part = named[first : first + _TOGETHER]
            history = self.storage.get_history([row.id for _, row in part])
            for label, row in part:
                spans = tuple(self._spans(row, history.get(row.id, ())))
                lanes.append(Lane(label, row.status, spans, row.superseded))
        return lanes

    def _spans(self, row: Row, changes: Iterable[StateChange]) -> Iterator[Span]:
        told = [change for change in changes if not change.inferred]
        told.sort(key=lambda change: (change.timestamp, change.id))
        until = self._until(row)
        if not any(change.status is _S.RUNNING for change in told):
            yield from self._plain_spans(row, until)
            return
        for place, change in enumerate(told):
            after = told[place + 1] if place + 1 < len(told) else None
            if change.status.is_final:
                continue
            end = after.timestamp if after else max(until, change.timestamp)
            running = change.status is _S.RUNNING
            yield Span(
                self._second(change.timestamp),
                self._second(end),
                waiting=not running,
                repeated=running and after is not None and not after.status.is_final,
            )

    def _until(self, row: Row) -> datetime:
        """Return up to when something ran that nobody said to have ended."""
        if row.id == self.run_id:
            return self.start + timedelta(seconds=self.end)
        if row.completed is None:
            return self.now
        return max(row.completed, row.last_at or row.completed)

    def _plain_spans(self, row: Row, until: datetime) -> Iterator[Span]:
        """Yield spans by the row's times, where no change tells more."""
        begin = row.started or until
        if row.created is not None and row.created < begin:
            created, began = self._second(row.created), self._second(begin)
            yield Span(created, began, waiting=True)
        if row.started is not None:
            yield Span(self._second(row.started), self._second(until))

    def _second(self, moment: datetime) -> float:
        return (moment - self.start).total_seconds()

    def _crowd(self, label: str, depth: int, kind: Kind, parent_id: str) -> Group:
        busy: dict[PipelineTaskStatus, list[float]] = {}
        failed: set[int] = set()
        total, width = 0, self.end / BINS
        for row in self.storage.iterate(kind, {"parent_id": parent_id}):
            total += 1
            if row.started is None:
                continue
            begin = self._second(row.started) / width
            end = self._second(row.completed or self.now) / width
            _add_busy(busy.setdefault(row.status, [0.0] * BINS), begin, end)
            if row.status.is_failed and row.completed is not None:
                failed.add(min(max(int(end), 0), BINS - 1))
        middles = tuple((place + 0.5) * width for place in sorted(failed))
        return Group(label, depth, crowd=Crowd(busy, middles), total=total)


def _add_busy(bins: list[float], begin: float, end: float) -> None:
    """Add a stretch of time, in bins, to the part of each bin that was busy."""
    begin, end = max(begin, 0.0), min(end, float(BINS))
    place = int(begin)
    while begin < end:
        edge = min(end, place + 1.0)
        bins[min(place, BINS - 1)] += edge - begin
        begin, place = edge, place + 1


def _order(run: TaskResultRow) -> tuple[int, float, str]:
    created = run.created.timestamp() if run.created else 0.0
    return (-1 if run.index is None else run.index, created, run.id)


def _object(result: ResultRow) -> str:
    obj = result.pipeline_object
    text = obj if obj is None or isinstance(obj, str) else json.dumps(obj)
    return f"object {result.index}" + (f" · {text[:_LONGEST]}" if text else "")


def _place(run: TaskResultRow, number: int) -> str:
    return f"[{run.index}]" if run.index is not None else f"#{number + 1}"
