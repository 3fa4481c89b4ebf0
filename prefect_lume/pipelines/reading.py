"""Reading a storage: one object, or those that match."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

from prefect_lume.errors import NotFoundError
from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.objects import (
    PipelineExecution,
    PipelineResult,
    PipelineStorageObject,
    TaskExecution,
    TaskResult,
)
from prefect_lume.pipelines.rows import Kind, ResultRow, Row
from prefect_lume.pipelines.tally import Tally, count_rows

if TYPE_CHECKING:
    from prefect_lume.pipelines.base import PipelineStorage

_O = TypeVar("_O", bound=PipelineStorageObject)
_PAGE: Final = 1000


class StorageReads(ABC):
    """The reading half of a storage."""

    execution_class: ClassVar[type[PipelineExecution]] = PipelineExecution
    result_class: ClassVar[type[PipelineResult]] = PipelineResult
    task_execution_class: ClassVar[type[TaskExecution]] = TaskExecution
    task_result_class: ClassVar[type[TaskResult]] = TaskResult

    @abstractmethod
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
        """Return the rows of a kind that match.

        Args:
            kind: The kind.
            where: Field names, among those of :data:`FILTERS`, to the value or the
                list of values that they have to have.
            since: Only rows that started at this time or later. A row that never
                started counts by when it was created.
            before: Only rows that started before this time; as above.
            limit: At most so many.
            skip: Leave out so many first.
            newest_first: In the order of ``created``, the latest first. Otherwise the
                earliest first. Rows of equal times are in the order of ``index`` (for
                those that have one), then ``id``, either way.

        Raises:
            InvalidInputError: There is no such filter.
        """

    @abstractmethod
    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        """Return the changes reported of each of these objects, the oldest first."""

    def iterate(
        self,
        kind: Kind,
        where: Mapping[str, Any] | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
        newest_first: bool = False,
    ) -> Iterator[Row]:
        """Yield the rows of :meth:`find`, a thousand in memory at a time."""
        skip, whole = 0, True
        while whole:
            rows = self.find(
                kind,
                where,
                since=since,
                before=before,
                limit=_PAGE,
                skip=skip,
                newest_first=newest_first,
            )
            yield from rows
            skip, whole = skip + len(rows), len(rows) == _PAGE

    def tally(
        self,
        kind: Kind,
        where: Mapping[str, Any] | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[Tally]:
        """Count the rows that match, by parent, status and whether superseded.

        A storage that can count without reading the rows does so here.

        Args:
            kind: The kind.
            where: As in :meth:`find`.
            since: As in :meth:`find`.
            before: As in :meth:`find`.

        Raises:
            InvalidInputError: There is no such filter.
        """
        return count_rows(self.iterate(kind, where, since=since, before=before))

    def find_run_ids(self, prefix: str, limit: int = 2) -> list[str]:
        """Return ids of runs that begin so, at most ``limit`` of them.

        A storage that can ask its index for a range of ids does so here.
        """
        rows = self.iterate(Kind.EXECUTION, newest_first=True)
        found = (row.id for row in rows if row.id.startswith(prefix))
        return list(itertools.islice(found, limit))

    def get_pipeline_executions(
        self,
        pipeline_id: str | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        **where: Any,
    ) -> list[PipelineExecution]:
        """Return the runs, or those of one pipeline, the oldest first.

        Args:
            pipeline_id: The pipeline.
            since: Only runs that started at this time or later.
            before: Only runs that started before this time.
            limit: At most so many.
            newest_first: The latest first.
            **where: More conditions: ``status``, ``project_name``, ``deployment_id``,
                ``flow_id`` or ``parent_run_id``, each a value or a list of values.

        Raises:
            InvalidInputError: There is no such condition.
        """
        if pipeline_id is not None:
            where["pipeline_id"] = pipeline_id
        rows = self.find(
            Kind.EXECUTION,
            where,
            since=since,
            before=before,
            limit=limit,
            newest_first=newest_first,
        )
        return self._objects(self.execution_class, rows)

    def get_pipeline_execution(self, run_id: str) -> PipelineExecution | None:
        """Return the run of this id, or nothing."""
        return self._one(self.execution_class, run_id)

    def get_pipeline_execution_or_raise(self, run_id: str) -> PipelineExecution:
        """Return the run of this id.

        Raises:
            NotFoundError: There is no such run.
        """
        row = self.get_row(Kind.EXECUTION, run_id)
        return self._objects(self.execution_class, [row])[0]

    def get_pipeline_results(
        self, run_id: str | None = None, **where: Any
    ) -> list[PipelineResult]:
        """Return the pipeline results, or those of one run, by objects' positions."""
        return self._found(self.result_class, where, run_id=run_id)

    def get_pipeline_result(self, _id: str) -> PipelineResult | None:
        """Return the pipeline result of this id, or nothing."""
        return self._one(self.result_class, _id)

    def get_task_executions(
        self,
        run_id: str | None = None,
        pipeline_result_id: str | None = None,
        **where: Any,
    ) -> list[TaskExecution]:
        """Return the task executions, or those of one run or pipeline result."""
        return self._found(
            self.task_execution_class,
            where,
            run_id=run_id,
            parent_id=pipeline_result_id,
        )

    def get_task_execution(self, _id: str) -> TaskExecution | None:
        """Return the task execution of this id, or nothing."""
        return self._one(self.task_execution_class, _id)

    def get_task_results(
        self,
        run_id: str | None = None,
        pipeline_result_id: str | None = None,
        task_execution_id: str | None = None,
        **where: Any,
    ) -> list[TaskResult]:
        """Return the task results, or those of a run, pipeline result or task."""
        return self._found(
            self.task_result_class,
            where,
            run_id=run_id,
            pipeline_result_id=pipeline_result_id,
            parent_id=task_execution_id,
        )

    def get_task_result(self, _id: str) -> TaskResult | None:
        """Return the task result of this id, or nothing."""
        return self._one(self.task_result_class, _id)

    def get_states(self, target: PipelineStorageObject) -> list[StateChange]:
        """Return every change reported of an object, the oldest first."""
        targets = [target.get_id()]
        row = target.row
        if isinstance(row, ResultRow) and row.flow_run_id == row.run_id:
            targets.append(row.run_id)
        history = self.get_history(targets)
        found = [change for id_ in targets for change in history.get(id_, ())]
        return sorted(found, key=lambda change: (change.timestamp, change.id))

    def get_row(self, kind: Kind, id_: str) -> Row:
        """Return one row.

        Raises:
            NotFoundError: There is none of this id.
        """
        rows = self.find(kind, {"id": id_}, limit=1)
        if not rows:
            raise NotFoundError(kind.replace("_", " "), id_)
        return rows[0]

    def get_above(self, target: PipelineStorageObject, wanted: type[_O]) -> _O:
        """Return the object above another one.

        Raises:
            NotFoundError: It was removed meanwhile.
        """
        row = self.get_row(wanted.kind, target.row.parent_id or "")
        return self._objects(cast("type[_O]", self._class_of(wanted.kind)), [row])[0]

    # Rows to objects ----------------------------------------------------------------

    def _class_of(self, kind: Kind) -> type[PipelineStorageObject]:
        return {
            Kind.EXECUTION: self.execution_class,
            Kind.RESULT: self.result_class,
            Kind.TASK_EXECUTION: self.task_execution_class,
            Kind.TASK_RESULT: self.task_result_class,
        }[kind]

    def _objects(self, wanted: type[_O], rows: Sequence[Row]) -> list[_O]:
        return [wanted(row, cast("PipelineStorage", self)) for row in rows]

    def _one(self, wanted: type[_O], id_: str) -> _O | None:
        found = self._objects(wanted, self.find(wanted.kind, {"id": id_}, limit=1))
        return found[0] if found else None

    def _found(
        self, wanted: type[_O], where: dict[str, Any], **more: str | None
    ) -> list[_O]:
        where |= {name: value for name, value in more.items() if value is not None}
        return self._objects(wanted, self.find(wanted.kind, where))
