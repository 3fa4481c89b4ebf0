"""Taking changes into a storage: facts to rows, changes to history, rules to statuses.

The same for every storage. What is written depends on what was ever reported, not on
when or how often: see :mod:`prefect_lume.pipelines.rules`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines import merging
from prefect_lume.pipelines.changes import Batch, StateChange
from prefect_lume.pipelines.rows import (
    ROW_FIELDS,
    ROW_TYPES,
    ROW_VALUES,
    ExecutionRow,
    Kind,
    ResultRow,
    Row,
    TaskExecutionRow,
    TaskResultRow,
)
from prefect_lume.pipelines.rules import (
    NOTHING_BELOW,
    Below,
    Own,
    apply,
    fold,
    is_superseded,
    summarise,
)
from prefect_lume.pipelines.session import PipelineSession
from prefect_lume.pipelines.status import CANCELS_BELOW
from prefect_lume.pipelines.texts import storable_batch

_KINDS: Final = tuple(Kind)
_KIND_OF: Final = {row_type: kind for kind, row_type in ROW_TYPES.items()}


def record(session: PipelineSession, batch: Batch) -> int:
    """Take a batch into a storage, within one of its sessions.

    Args:
        session: An open session of the storage.
        batch: Changes and facts, in any order; repeated ones do no harm.

    Returns:
        How many of the changes were new.

    Raises:
        InvalidInputError: A change is of an object of which no facts are known.
    """
    return _Recording(session).record(batch)


@dataclass
class _Recording:
    """One batch on its way into one session."""

    session: PipelineSession
    rows: dict[Kind, dict[str, Row]] = field(
        default_factory=lambda: {kind: {} for kind in Kind}
    )
    #: The values of the rows' fields, as they are stored.
    stored: dict[Kind, dict[str, tuple[Any, ...]]] = field(
        default_factory=lambda: {kind: {} for kind in Kind}
    )
    counted: dict[str, ResultRow | None] = field(default_factory=dict)
    own: dict[str, Own] = field(default_factory=dict)
    #: Objects that ever were wrong from the start, to how often they ended.
    erred: dict[str, int] = field(default_factory=dict)
    touched: dict[Kind, set[str]] = field(
        default_factory=lambda: {kind: set() for kind in Kind}
    )

    def record(self, batch: Batch) -> int:
        batch = storable_batch(batch)
        self.session.lock(batch.run_ids())
        self._load(batch)
        self._merge(batch)
        self._check(batch.changes)
        new = self.session.add_history(batch.changes)
        self._settle()
        if self._reach_below(self._reported(batch.changes)):
            self._settle()
        for kind in Kind:
            self._flush(kind)
        self._count()
        return new

    # Rows -------------------------------------------------------------------------

    def fetch(self, kind: Kind, ids: Iterable[str]) -> None:
        """Load rows that are not loaded yet, and remember them as they are stored."""
        known = self.rows[kind]
        missing = {id_ for id_ in ids if id_ and id_ not in known}
        if not missing:
            return
        for id_, row in self.session.get(kind, missing).items():
            self._take(kind, id_, row)

    def _take(self, kind: Kind, id_: str, row: Row) -> None:
        if id_ not in self.rows[kind]:
            self.rows[kind][id_] = row
            self.stored[kind][id_] = ROW_VALUES[kind](row)

    def _load(self, batch: Batch) -> None:
        self.fetch(Kind.EXECUTION, batch.run_ids())
        wanted: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        for change in batch.changes:
            wanted[change.kind].add(change.target)
        for run in batch.flow_runs:
            wanted[Kind.RESULT].update(merging.results_of(run))
        for task in batch.task_runs:
            wanted[Kind.RESULT].add(task.pipeline_result_id)
            wanted[Kind.TASK_EXECUTION].add(merging.execution_of(task))
            wanted[Kind.TASK_RESULT].add(task.task_run_id)
        for kind in reversed(_KINDS):
            self.fetch(kind, wanted[kind])
            if kind.above:
                wanted[kind.above].update(
                    row.parent_id
                    for id_ in wanted[kind]
                    if (row := self.rows[kind].get(id_)) and row.parent_id
                )

    def _merge(self, batch: Batch) -> None:
        for run in batch.flow_runs:
            row = self.rows[Kind.EXECUTION].get(run.run_id)
            execution = merging.merge_execution(row, run)
            self._touch(Kind.EXECUTION, execution)
            for id_ in merging.results_of(run):
                known = self.rows[Kind.RESULT].get(id_)
                self._touch(Kind.RESULT, merging.merge_result(known, id_, run))
        for task in batch.task_runs:
            id_ = merging.execution_of(task)
            above = self.rows[Kind.TASK_EXECUTION].get(id_)
            self._touch(
                Kind.TASK_EXECUTION, merging.merge_task_execution(above, id_, task)
            )
            leaf = self.rows[Kind.TASK_RESULT].get(task.task_run_id)
            self._touch(Kind.TASK_RESULT, merging.merge_task_result(leaf, id_, task))
        for change in batch.changes:
            if change.kind is Kind.EXECUTION and not self._known(change):
                placeholder = ExecutionRow(id=change.run_id, run_id=change.run_id)
                self._touch(Kind.EXECUTION, placeholder)

    def _known(self, change: StateChange) -> bool:
        return change.target in self.rows[change.kind]

    def _touch(self, kind: Kind, row: Row) -> None:
        self.rows[kind][row.id] = row
        self.touched[kind].add(row.id)

    def _check(self, changes: Iterable[StateChange]) -> None:
        for change in changes:
            if not self._known(change):
                raise InvalidInputError(
                    f"State {change.id} is of the {change.kind.replace('_', ' ')} "
                    f"{change.target!r}, of which nothing is known: report the facts "
                    f"of its run in the same batch or before."
                )
            self.touched[change.kind].add(change.target)

    # Statuses ---------------------------------------------------------------------

    def _settle(self) -> None:
        """Apply the rules to what was touched and to all above, from the bottom up."""
        self._spread()
        self._fold()
        self._apply_leaves()
        for kind in (Kind.TASK_EXECUTION, Kind.RESULT, Kind.EXECUTION):
            self._apply_parents(kind)

    def _spread(self) -> None:
        for kind in reversed(_KINDS):
            if kind.above is None:
                break
            parents = {
                row.parent_id
                for id_ in self.touched[kind]
                if (row := self.rows[kind][id_]).parent_id
            }
            self.fetch(kind.above, parents)
            self.touched[kind.above] |= parents & self.rows[kind.above].keys()
        for id_ in list(self.touched[Kind.EXECUTION]):
            # A run without objects has one pipeline result, which goes as it goes.
            execution = self.rows[Kind.EXECUTION][id_]
            if isinstance(execution, ExecutionRow) and not execution.is_mapped:
                own = merging.only_result(execution.run_id)
                self.fetch(Kind.RESULT, [own])
                if own in self.rows[Kind.RESULT]:
                    self.touched[Kind.RESULT].add(own)

    def _fold(self) -> None:
        """Take the own changes of everything touched together."""
        targets = {id_ for ids in self.touched.values() for id_ in ids}
        history = self.session.get_history(targets)
        for id_ in self.touched[Kind.RESULT]:
            row = self.rows[Kind.RESULT][id_]
            if isinstance(row, ResultRow) and row.flow_run_id == row.run_id:
                history[id_] = [*history.get(id_, ()), *history.get(row.run_id, ())]
        for id_ in targets:
            changes = history.get(id_, ())
            self.own[id_] = fold(changes)
            if any(change.status in CANCELS_BELOW for change in changes):
                self.erred[id_] = sum(change.status.is_final for change in changes)
        for id_ in self.touched[Kind.TASK_RESULT]:
            leaf = self.rows[Kind.TASK_RESULT][id_]
            if isinstance(leaf, TaskResultRow):
                counts = [change.run_count or 0 for change in history.get(id_, ())]
                leaf.run_count = max([leaf.run_count, *counts])

    def _apply_leaves(self) -> None:
        for id_ in self.touched[Kind.TASK_RESULT]:
            row = self.rows[Kind.TASK_RESULT][id_]
            apply(row, self.own[id_], None, self._error_above(row))
            execution = self.rows[Kind.TASK_EXECUTION].get(row.parent_id or "")
            result = self.own.get((execution.parent_id or "") if execution else "")
            row.superseded = is_superseded(row, result.again_at if result else None)

    def _apply_parents(self, kind: Kind) -> None:
        ids = self.touched[kind]
        below = kind.below
        if not ids or below is None:
            return
        if kind is Kind.RESULT:
            self._tell_tasks(ids)
        self._flush(below)
        summaries = self.session.summarise(below, ids)
        for id_ in ids:
            row = self.rows[kind][id_]
            self._apply(row, summaries.get(id_, NOTHING_BELOW))

    def _apply(self, row: Row, below: Below) -> None:
        if isinstance(row, TaskExecutionRow):
            result = self.own.get(row.parent_id or "")
            is_over = result.is_over if result else None
            row.closed = row.closed if is_over is None else is_over
            runs = [] if below.total else self._rows_below(Kind.TASK_RESULT, {row.id})
            # Perhaps every run of the task belongs to an attempt that began again.
            row.superseded = bool(runs)
            below = summarise(runs, superseded=True) if runs else below
        apply(row, self.own[row.id], below, self._error_above(row))

    def _error_above(self, row: Row) -> StateChange | None:
        """Return the error by which the nearest object above was wrong, if one was."""
        while (above := self._parent(row)) is not None:
            row, own = above, self.own.get(above.id)
            if own is not None and own.error is not None:
                return own.error
        return None

    def _parent(self, row: Row) -> Row | None:
        above = _KIND_OF[type(row)].above
        return self.rows[above].get(row.parent_id or "") if above else None

    def _tell_tasks(self, result_ids: Iterable[str]) -> None:
        """Let the tasks of pipeline results know that these ended, or began again."""
        told, again = set(), set()
        for id_ in result_ids:
            own, result = self.own[id_], self.rows[Kind.RESULT][id_]
            if not isinstance(result, ResultRow) or own.is_over is None:
                continue
            if own.again_at != result.again_at:
                again.add(id_)
            elif result.closed == own.is_over:
                continue
            result.closed, result.again_at = own.is_over, own.again_at
            told.add(id_)
        executions = self._rows_below(Kind.TASK_EXECUTION, told)
        began = {row.id: row.parent_id or "" for row in executions}
        began = {id_: above for id_, above in began.items() if above in again}
        for leaf in self._rows_below(Kind.TASK_RESULT, began):
            again_at = self.own[began[leaf.parent_id or ""]].again_at
            leaf.superseded = is_superseded(leaf, again_at)
        self._flush(Kind.TASK_RESULT)
        ids = [execution.id for execution in executions]
        summaries = self.session.summarise(Kind.TASK_RESULT, ids)
        history = self.session.get_history(ids)
        for execution in executions:
            self.own[execution.id] = fold(history.get(execution.id, ()))
            self._apply(execution, summaries.get(execution.id, NOTHING_BELOW))

    def _rows_below(self, kind: Kind, parent_ids: Collection[str]) -> list[Row]:
        """Return all rows below objects, those as they are here where both are."""
        if not parent_ids:
            return []
        for row in self.session.get_all_below(kind, parent_ids):
            self._take(kind, row.id, row)
        return [row for row in self.rows[kind].values() if row.parent_id in parent_ids]

    # What lies below a configuration or validation error ---------------------------

    def _reported(self, changes: Iterable[StateChange]) -> set[str]:
        """Return the ids of the objects whose own changes these are."""
        ids = {change.target for change in changes}
        ids |= {merging.only_result(c.run_id) for c in changes if c.target == c.run_id}
        return ids

    def _reach_below(self, reported: set[str]) -> bool:
        """Touch what an error reported now, or one that counts no more, bears on."""
        before = sum(map(len, self.touched.values()))
        for kind in _KINDS[:-1]:
            for id_ in self.touched[kind] & reported & self.erred.keys():
                row, error = self.rows[kind][id_], self.own[id_].error
                others = self._error_above(row) not in (None, error)
                if self.erred[id_] > 1 or error is None or others:
                    # What is cancelled already may be so for another reason now.
                    self._touch_below(kind, id_)
                else:
                    self._touch_open(row)
        return sum(map(len, self.touched.values())) > before

    def _touch_below(self, kind: Kind, id_: str) -> None:
        if kind.below is None:
            return
        for row in self._rows_below(kind.below, {id_}):
            self.touched[kind.below].add(row.id)
            self._touch_below(kind.below, row.id)

    def _touch_open(self, above: Row) -> None:
        """Touch what lies open below; what lies between may have ended."""
        for kind in Kind:
            self._flush(kind)
        found = self.session.get_open(above.run_id)
        lineage = {above.id}
        for kind in _KINDS[1:]:
            for row in found.get(kind, ()):
                self._take(kind, row.id, row)
        for kind in reversed(_KINDS[1:]):
            rows = [r for r in self.rows[kind].values() if r.run_id == above.run_id]
            if kind.above:
                self.fetch(kind.above, {row.parent_id or "" for row in rows})
        for kind in _KINDS[1:]:
            rows = [row for row in self.rows[kind].values() if row.parent_id in lineage]
            lineage |= {row.id for row in rows}
            self.touched[kind] |= {row.id for row in rows if not row.status.is_final}

    # Writing ------------------------------------------------------------------------

    def _flush(self, kind: Kind) -> None:
        """Store the rows of a kind that are not stored as they are here."""
        values, stored = ROW_VALUES[kind], self.stored[kind]
        changed = {
            id_: now
            for id_, row in self.rows[kind].items()
            if (now := values(row)) != stored.get(id_)
        }
        if not changed:
            return
        self.session.put(kind, [self.rows[kind][id_] for id_ in changed])
        if kind is Kind.RESULT:
            for id_ in changed.keys() - self.counted.keys():
                before = stored.get(id_)
                self.counted[id_] = None if before is None else _result(before)
        stored.update(changed)

    def _count(self) -> None:
        """Say which pipeline results are not what they were."""
        for id_, before in self.counted.items():
            row = self.rows[Kind.RESULT][id_]
            if isinstance(row, ResultRow):
                self.session.count(before, row)


def _result(values: tuple[Any, ...]) -> ResultRow:
    return ResultRow(**dict(zip(ROW_FIELDS[Kind.RESULT], values, strict=True)))
