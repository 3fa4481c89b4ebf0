"""A storage in this process's memory: for tests, and to look at a run and forget it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Self, TypeVar, cast

from prefect_lume.pipelines.base import (
    PipelineExecution,
    PipelineResult,
    PipelineStorage,
    TaskExecution,
    TaskResult,
)
from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.filters import check_time, check_where, select
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.rules import Below, summarise
from prefect_lume.pipelines.session import PipelineSession

T = TypeVar("T")


class MemoryPipelineExecution(PipelineExecution):
    """A pipeline execution in memory."""


class MemoryPipelineResult(PipelineResult):
    """A pipeline result in memory."""


class MemoryTaskExecution(TaskExecution):
    """A task execution in memory."""


class MemoryTaskResult(TaskResult):
    """A task result in memory."""


class MemoryPipelineResultsStorage(PipelineStorage):
    """Keeps executions and results in memory, until the process ends.

    Example:
        >>> from prefect_lume.pipelines.pipeline import Pipeline
        >>> storage = MemoryPipelineResultsStorage()
        >>> execution = storage.build_pipeline_execution(Pipeline("scan"), "run-1")
        >>> execution.report_status_change("RUNNING")
        True
        >>> storage.get_pipeline_execution("run-1").get_status().value
        'RUNNING'
    """

    execution_class = MemoryPipelineExecution
    result_class = MemoryPipelineResult
    task_execution_class = MemoryTaskExecution
    task_result_class = MemoryTaskResult

    def __init__(self) -> None:
        self._rows: dict[Kind, dict[str, Row]] = {kind: {} for kind in Kind}
        self._below: dict[str, set[str]] = {}
        self._history: dict[str, dict[str, StateChange]] = {}
        self._positions: dict[str, datetime] = {}
        self._lock = threading.RLock()

    @classmethod
    def for_context(cls, context: object = None) -> Self:
        """Return the one storage in memory that settings mean in this process."""
        del context
        with _shared_lock:
            storage = _shared.setdefault(cls, cls())
        return cast("Self", storage)

    def transaction(self, work: Callable[[PipelineSession], T]) -> T:
        """Run ``work``; keep nothing of what it did if it raises."""
        with self._lock:
            session = _MemorySession(self)
            done = work(session)
            session.commit()
            return done

    def find(
        self,
        kind: Kind,
        where: Mapping[str, Any] | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
        limit: int | None = None,
        skip: int = 0,
        newest_first: bool = False,
    ) -> list[Row]:
        """Return the rows of a kind that match."""
        conditions = check_where(kind, where)
        with self._lock:
            found = select(
                self._rows[kind].values(),
                conditions,
                since=since,
                before=before,
                limit=limit,
                skip=skip,
                newest_first=newest_first,
            )
            return [copy.copy(row) for row in found]

    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        """Return the changes reported of each of these objects, the oldest first."""
        with self._lock:
            return {
                target: sorted(
                    self._history[target].values(), key=lambda c: (c.timestamp, c.id)
                )
                for target in targets
                if target in self._history
            }

    def count_states(self, run_id: str | None = None) -> int:
        """Return how many changes are kept, of one run or of all."""
        with self._lock:
            return sum(
                run_id is None or change.run_id == run_id
                for changes in self._history.values()
                for change in changes.values()
            )

    def remove(self, run_ids: Sequence[str]) -> None:
        """Remove runs with all that belongs to them."""
        gone = set(run_ids)
        with self._lock:
            for rows in self._rows.values():
                for id_ in [id_ for id_, row in rows.items() if row.run_id in gone]:
                    del rows[id_]
                    self._below.pop(id_, None)
                    self._history.pop(id_, None)

    def get_position(self, source: str) -> datetime | None:
        """Return up to when a source of changes has been read, if it ever was."""
        return self._positions.get(source)

    def set_position(self, source: str, position: datetime) -> None:
        """Keep up to when a source has been read; a position only moves forward."""
        check_time("position", position)
        with self._lock:
            known = self._positions.get(source, position)
            self._positions[source] = max(known, position)


_shared: Final[dict[type, MemoryPipelineResultsStorage]] = {}
_shared_lock = threading.Lock()


class _MemorySession(PipelineSession):
    """Collects what is to be kept, and keeps it at the end."""

    def __init__(self, storage: MemoryPipelineResultsStorage) -> None:
        self._storage = storage
        self._rows: dict[Kind, dict[str, Row]] = {kind: {} for kind in Kind}
        self._changes: dict[str, dict[str, StateChange]] = {}

    def lock(self, run_ids: Sequence[str]) -> None:
        """Do nothing: the storage lets in one session at a time."""

    def get(self, kind: Kind, ids: Collection[str]) -> dict[str, Row]:
        """Return the rows of these ids by id."""
        found = {}
        for id_ in ids:
            row = self._row(kind, id_)
            if row is not None:
                found[id_] = copy.copy(row)
        return found

    def _row(self, kind: Kind, id_: str) -> Row | None:
        return self._rows[kind].get(id_) or self._storage._rows[kind].get(id_)

    def put(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Store rows as they are."""
        self._rows[kind].update({row.id: copy.copy(row) for row in rows})

    def get_below(self, kind: Kind, parent_id: str) -> list[Row]:
        """Return all rows of a kind directly below one object."""
        ids = set(self._storage._below.get(parent_id, ()))
        ids |= {r.id for r in self._rows[kind].values() if r.parent_id == parent_id}
        found = self.get(kind, sorted(ids)).values()
        return [row for row in found if row.parent_id == parent_id]

    def get_open(self, run_id: str) -> dict[Kind, list[Row]]:
        """Return the rows of a run without a final status."""
        found: dict[Kind, list[Row]] = {}
        for kind in tuple(Kind)[1:]:
            rows = {**self._storage._rows[kind], **self._rows[kind]}
            found[kind] = [
                copy.copy(row)
                for row in rows.values()
                if row.run_id == run_id and not row.status.is_final
            ]
        return found

    def summarise(self, kind: Kind, parent_ids: Collection[str]) -> dict[str, Below]:
        """Return what lies directly below each of these objects."""
        return {id_: summarise(self.get_below(kind, id_)) for id_ in parent_ids}

    def add_history(self, changes: Sequence[StateChange]) -> int:
        """Store changes that are not known yet."""
        new = 0
        for change in changes:
            known = self._storage._history.get(change.target, {})
            added = self._changes.setdefault(change.target, {})
            if change.id not in known and change.id not in added:
                added[change.id] = change
                new += 1
        return new

    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        """Return the changes reported of each of these objects."""
        return {
            target: [
                *self._storage._history.get(target, {}).values(),
                *self._changes.get(target, {}).values(),
            ]
            for target in targets
        }

    def commit(self) -> None:
        """Keep everything that was collected."""
        storage = self._storage
        for kind, rows in self._rows.items():
            storage._rows[kind].update(rows)
            for row in rows.values():
                if row.parent_id:
                    storage._below.setdefault(row.parent_id, set()).add(row.id)
        for target, changes in self._changes.items():
            storage._history.setdefault(target, {}).update(changes)
