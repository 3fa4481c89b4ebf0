"""The base of pipelines storages, and of the objects that they return."""

from __future__ import annotations

import copy
import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, cast

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines import building, recording
from prefect_lume.pipelines.changes import Batch, StateChange
from prefect_lume.pipelines.digest import (
    PipelineDigest,
    PipelineDigestItem,
    digest_of,
)
from prefect_lume.pipelines.filters import check_time
from prefect_lume.pipelines.jsonable import storable
from prefect_lume.pipelines.objects import (
    PipelineExecution,
    PipelineResult,
    PipelineStorageObject,
    TaskExecution,
    TaskResult,
)
from prefect_lume.pipelines.reading import StorageReads
from prefect_lume.pipelines.rows import Kind, ResultRow
from prefect_lume.pipelines.session import PipelineSession
from prefect_lume.pipelines.status import PipelineTaskStatus

__all__ = [
    "PipelineDigest",
    "PipelineDigestItem",
    "PipelineExecution",
    "PipelineResult",
    "PipelineSession",
    "PipelineStorage",
    "PipelineStorageObject",
    "TaskExecution",
    "TaskResult",
]

T = TypeVar("T")


class PipelineStorage(StorageReads):
    """Where executions and results of pipelines are kept.

    To put a storage of your own in place, write the seven abstract methods and a
    :class:`~prefect_lume.pipelines.session.PipelineSession`, extend the four classes
    of objects, and name them in the class attributes below. Everything else, the
    status rules included, is here. ``prefect_lume.testing.PipelineStorageContract``
    tests a storage.
    """

    # What a storage has to do -------------------------------------------------------

    @abstractmethod
    def transaction(self, work: Callable[[PipelineSession], T]) -> T:
        """Run ``work`` with a session, keep what it did, and return what it returned.

        Where the database asks for it (a deadlock, another writer), all of ``work``
        runs again.

        Raises:
            StorageError: The database could not do it; nothing was kept.
        """

    @abstractmethod
    def count_states(self, run_id: str | None = None) -> int:
        """Return how many changes are kept, of one run or of all."""

    @abstractmethod
    def remove(self, run_ids: Sequence[str]) -> None:
        """Remove runs with all that belongs to them, and take them off the digest."""

    @abstractmethod
    def get_position(self, source: str) -> datetime | None:
        """Return up to when a source of changes has been read, if it ever was."""

    @abstractmethod
    def set_position(self, source: str, position: datetime) -> None:
        """Keep up to when a source has been read; a position only moves forward."""

    def get_pipeline_digest(self) -> PipelineDigest:
        """Return how each pipeline did, by its id, in the order of the ids."""
        return digest_of(cast("list[ResultRow]", self.find(Kind.RESULT)))

    # Recording ----------------------------------------------------------------------

    def record(self, batch: Batch) -> int:
        """Record changes and facts; what is known already is left as it is.

        Returns:
            How many of the changes were new.

        Raises:
            InvalidInputError: A change is of an object of which nothing is known.
            StorageError: The storage could not do it; nothing was recorded.
        """
        return self.transaction(lambda session: recording.record(session, batch))

    def report(
        self,
        target: PipelineStorageObject,
        status: PipelineTaskStatus,
        message: str = "",
        timestamp: datetime | None = None,
    ) -> bool:
        """Record a new status of one object, if it is an advance.

        Returns:
            Whether it was taken.

        Raises:
            NotFoundError: The storage does not have the object.
        """
        if timestamp is not None and timestamp.tzinfo is None:
            raise InvalidInputError(
                f"The time {timestamp.isoformat()} of a status has no zone: give an "
                f"aware one, such as datetime.now(timezone.utc)."
            )
        stored = self.get_row(target.kind, target.get_id())
        if not stored.status.has_advanced(status):
            return False
        when = (timestamp or datetime.now(UTC)).astimezone(UTC)
        if timestamp is None and stored.last_at is not None:
            # A clock that was set back must not put it before what it follows.
            when = max(when, stored.last_at + _TICK)
        change = StateChange(
            id=str(uuid.uuid4()),
            run_id=stored.run_id,
            kind=target.kind,
            target=stored.id,
            status=status,
            timestamp=when,
            message=message,
        )
        self.record(Batch(changes=[change]))
        return True

    def save(self, target: PipelineStorageObject) -> None:
        """Keep what was set on an object; a new status is reported by the rules.

        Raises:
            NotFoundError: The storage does not have the object.
        """
        told = target.get_changed()
        status = told.pop("status", None)
        row = self.get_row(target.kind, target.get_id())
        if told:
            self.transaction(lambda session: _put_told(session, target, told))
        if status is not None and status is not row.status:
            at = told.get("completed" if status.is_final else "started")
            self.report(target, status, told.get("message", ""), at)
        target.refresh()

    def build_pipeline_execution(
        self,
        pipeline: Any,
        run_id: str,
        runner: Any = None,
        reporter: Any = None,
        input_data: Mapping[str, Any] | None = None,
        *,
        build_all: bool = True,
    ) -> PipelineExecution:
        """Make the objects of a run before it runs, all of them ``PENDING``.

        One pipeline execution, a pipeline result for each of the pipeline's objects,
        a task execution for each task in each of these, and a task result for each of
        the task's objects. What is mapped over nothing has one.

        Args:
            pipeline: A :class:`~prefect_lume.pipelines.pipeline.Pipeline`, or
                anything with its attributes.
            run_id: The run's id; Prefect's id of the flow run, if it has one.
            runner: What runs it: a Python path, or an object whose class has one.
            reporter: What reports on it; likewise.
            input_data: The parameters of the run; kept as JSON.
            build_all: Whether to make more than the execution. Without, a run can be
                recorded whose configuration is too wrong to tell its tasks.

        Returns:
            The pipeline execution.

        Raises:
            ConflictError: There is a run of this id already.
        """
        plan = building.plan(
            pipeline, run_id, runner, reporter, input_data, build_all=build_all
        )
        self.transaction(lambda session: building.build(session, plan))
        return self.get_pipeline_execution_or_raise(run_id)

    # Cleaning up --------------------------------------------------------------------

    def cleanup(self, before: datetime | None = None) -> list[str]:
        """Remove old runs, those that never started included.

        Args:
            before: Remove runs that started before this time, and those that never
                started and were created before it. All, if left out.

        Returns:
            The ids of the runs that were removed.

        Raises:
            InvalidInputError: The time has no zone.
        """
        check_time("before", before)
        ids = [row.id for row in self.find(Kind.EXECUTION, before=before)]
        for start in range(0, len(ids), _REMOVED_TOGETHER):
            self.remove(ids[start : start + _REMOVED_TOGETHER])
        return ids


_REMOVED_TOGETHER: Final = 50
_TICK: Final = timedelta(microseconds=1)


def _put_told(
    session: PipelineSession, target: PipelineStorageObject, told: Mapping[str, Any]
) -> None:
    """Store the fields that were set on an object, and no others."""
    session.lock([target.get_run_id()])
    found = session.get(target.kind, [target.get_id()])
    for row in found.values():
        before = copy.copy(row)
        for name, value in told.items():
            setattr(row, name, storable(value))
        session.put(target.kind, [row])
        if isinstance(row, ResultRow) and isinstance(before, ResultRow):
            session.count(before, row)
