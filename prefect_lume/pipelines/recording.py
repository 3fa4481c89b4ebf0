"""Taking changes into a storage: facts to rows, changes to history, rules to statuses.

The same for every storage. What is written depends on what was ever reported, not on
when or how often: see :mod:`prefect_lume.pipelines.rules`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines import merging
from prefect_lume.pipelines.changes import Batch, StateChange
from prefect_lume.pipelines.rows import (
    ExecutionRow,
    Kind,
    ResultRow,
    Row,
    TaskExecutionRow,
    TaskResultRow,
    derived_id,
)
from prefect_lume.pipelines.rules import (
    NOTHING_BELOW,
    Below,
    Own,
    apply,
    fold,
    is_superseded,
)
from prefect_lume.pipelines.session import PipelineSession
from prefect_lume.pipelines.status import CANCELS_BELOW, PipelineTaskStatus

_KINDS = tuple(Kind)


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
    stored: dict[tuple[Kind, str], Row] = field(default_factory=dict)
    counted: dict[str, ResultRow | None] = field(default_factory=dict)
    own: dict[str, Own] = field(default_factory=dict)
    touched: dict[Kind, set[str]] = field(
        default_factory=lambda: {kind: set() for kind in Kind}
    )

    def record(self, batch: Batch) -> int:
        self.session.lock(batch.run_ids())
        self._load(batch)
        self._merge(batch)
        self._check(batch.changes)
        new = self.session.add_history(batch.changes)
        self._settle()
        for _ in Kind:
            cancelled = self._cancel_below()
            if not cancelled:
                break
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
            self.stored[kind, id_] = copy.copy(row)

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
        for id_ in targets:
            self.own[id_] = fold(history.get(id_, ()))
        for id_ in self.touched[Kind.RESULT]:
            row = self.rows[Kind.RESULT][id_]
            if isinstance(row, ResultRow) and row.flow_run_id == row.run_id:
                both = [*history.get(id_, ()), *history.get(row.run_id, ())]
                self.own[id_] = fold(both)
        for id_ in self.touched[Kind.TASK_RESULT]:
            leaf = self.rows[Kind.TASK_RESULT][id_]
            if isinstance(leaf, TaskResultRow):
                counts = [change.run_count or 0 for change in history.get(id_, ())]
                leaf.run_count = max([leaf.run_count, *counts])

    def _apply_leaves(self) -> None:
        for id_ in self.touched[Kind.TASK_RESULT]:
            row = self.rows[Kind.TASK_RESULT][id_]
            apply(row, self.own[id_], None)
            execution = self.rows[Kind.TASK_EXECUTION].get(row.parent_id or "")
            result = self.own.get((execution.parent_id or "") if execution else "")
            row.superseded = is_superseded(row, result.again_at if result else None)

    def _apply_parents(self, kind: Kind) -> None:
        ids = self.touched[kind]
        below = kind.below
        if not ids or below is None:
            return
        if kind is Kind.RESULT:
            for id_ in sorted(ids):
                self._tell_tasks(id_)
        self._flush(below)
        summaries = self.session.summarise(below, ids)
        for id_ in ids:
            row = self.rows[kind][id_]
            self._apply(row, summaries.get(id_, NOTHING_BELOW))

    def _apply(self, row: Row, below: Below) -> None:
        if isinstance(row, TaskExecutionRow):
            # Perhaps every run of the task belongs to an attempt that began again.
            row.superseded = not below.total and row.last_at is not None
            result = self.own.get(row.parent_id or "")
            is_over = result.is_over if result else None
            row.closed = row.closed if is_over is None else is_over
            if row.superseded:
                return
        apply(row, self.own[row.id], below)

    def _tell_tasks(self, id_: str) -> None:
        """Let the tasks of a pipeline result know that it ended, or began again."""
        own, result = self.own[id_], self.rows[Kind.RESULT][id_]
        if not isinstance(result, ResultRow) or own.is_over is None:
            return
        again = own.again_at != result.again_at
        if result.closed == own.is_over and not again:
            return
        result.closed, result.again_at = own.is_over, own.again_at
        executions = self._rows_below(Kind.TASK_EXECUTION, id_)
        if again:
            leaves = [
                leaf
                for execution in executions
                for leaf in self._rows_below(Kind.TASK_RESULT, execution.id)
            ]
            for leaf in leaves:
                leaf.superseded = is_superseded(leaf, own.again_at)
        self._flush(Kind.TASK_RESULT)
        ids = [execution.id for execution in executions]
        summaries = self.session.summarise(Kind.TASK_RESULT, ids)
        history = self.session.get_history(ids)
        for execution in executions:
            self.own[execution.id] = fold(history.get(execution.id, ()))
            self._apply(execution, summaries.get(execution.id, NOTHING_BELOW))

    def _rows_below(self, kind: Kind, parent_id: str) -> list[Row]:
        """Return all rows below an object, those as they are here where both are."""
        for row in self.session.get_below(kind, parent_id):
            self._take(kind, row.id, row)
        return [row for row in self.rows[kind].values() if row.parent_id == parent_id]

    # What lies below a configuration or validation error ---------------------------

    def _cancel_below(self) -> bool:
        """Cancel what lies open below objects that were wrong from the start."""
        found: list[StateChange] = []
        for kind in (Kind.EXECUTION, Kind.RESULT, Kind.TASK_EXECUTION):
            for id_ in self.touched[kind]:
                row = self.rows[kind][id_]
                if row.status in CANCELS_BELOW:
                    found += self._cancellations(kind, row)
        unique = {change.id: change for change in found}
        if not unique:
            return False
        self.session.add_history(list(unique.values()))
        for change in unique.values():
            self.touched[change.kind].add(change.target)
        return True

    def _cancellations(self, kind: Kind, above: Row) -> Iterator[StateChange]:
        if above.completed is None:
            return
        for stored in Kind:
            self._flush(stored)
        for open_kind, open_rows in self.session.get_open(above.run_id).items():
            for row in open_rows:
                self._take(open_kind, row.id, row)
        lineage = {above.id}
        level: Kind | None = kind.below
        while level is not None:
            rows = [r for r in self.rows[level].values() if r.parent_id in lineage]
            lineage |= {row.id for row in rows}
            for row in rows:
                if not row.status.is_final:
                    yield StateChange(
                        id=derived_id("cancelled", above.id, row.id),
                        run_id=row.run_id,
                        kind=level,
                        target=row.id,
                        status=PipelineTaskStatus.CANCELLED,
                        timestamp=above.completed,
                        message=f"Cancelled: the {kind.replace('_', ' ')} above ended "
                        f"as {above.status}.",
                    )
            level = level.below

    # Writing ------------------------------------------------------------------------

    def _flush(self, kind: Kind) -> None:
        """Store the rows of a kind that are not stored as they are here."""
        changed = [
            row
            for id_, row in self.rows[kind].items()
            if row != self.stored.get((kind, id_))
        ]
        if not changed:
            return
        self.session.put(kind, changed)
        for row in changed:
            before = self.stored.get((kind, row.id))
            if isinstance(row, ResultRow) and row.id not in self.counted:
                self.counted[row.id] = before if isinstance(before, ResultRow) else None
            self.stored[kind, row.id] = copy.copy(row)

    def _count(self) -> None:
        """Say which pipeline results are not what they were."""
        for id_, before in self.counted.items():
            row = self.rows[Kind.RESULT][id_]
            if isinstance(row, ResultRow):
                self.session.count(before, row)
