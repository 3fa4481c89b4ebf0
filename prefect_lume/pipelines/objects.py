"""The four kinds of objects that people get from a storage."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.status import PipelineTaskStatus

if TYPE_CHECKING:
    from prefect_lume.pipelines.base import PipelineStorage


class PipelineStorageObject:
    """What all objects of a pipelines storage have in common.

    Read properties with ``get_x()`` and set them with ``set_x(value)``, so that a
    storage may keep them as it likes:

    1. If the object has a method ``get_x``, that is used.
    2. If it has none, but an attribute ``x``, that is returned.
    3. If it has neither, an ``AttributeError`` is raised as normal.

    ``set_x(value)`` sets ``x`` unless the object defines it otherwise. What was set is
    kept by :meth:`save`.

    Args:
        row: What the storage keeps of the object.
        storage: The storage that it came from.
    """

    row: Row
    stored: Row
    storage: PipelineStorage
    kind: ClassVar[Kind]
    #: The name of the kind, such as ``"PipelineExecution"``.
    content_type_name: ClassVar[str]

    get_id: Callable[[], str]
    get_run_id: Callable[[], str]
    get_status: Callable[[], PipelineTaskStatus]
    get_message: Callable[[], str]
    get_created: Callable[[], datetime | None]
    get_started: Callable[[], datetime | None]
    get_completed: Callable[[], datetime | None]
    get_state_type: Callable[[], str | None]
    get_state_name: Callable[[], str | None]
    set_message: Callable[[str], None]
    set_started: Callable[[datetime], None]
    set_completed: Callable[[datetime], None]

    def __init__(self, row: Row, storage: PipelineStorage) -> None:
        # Past __setattr__, which needs them.
        self.__dict__["row"] = row
        self.__dict__["stored"] = copy.copy(row)
        self.__dict__["storage"] = storage

    def __getattr__(self, name: str) -> Any:
        # Only called for what is not found otherwise.
        if name.startswith("get_") and hasattr(self, name[4:]):
            return lambda: getattr(self, name[4:])
        if name.startswith("set_"):
            return lambda value: setattr(self, name[4:], value)
        row = self.__dict__.get("row")
        if row is not None and name in row.__dataclass_fields__:
            return getattr(row, name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}", name=name
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.row.__dataclass_fields__ and not hasattr(type(self), name):
            setattr(self.row, name, value)
        else:
            super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PipelineStorageObject)
            and self.kind is other.kind
            and self.get_id() == other.get_id()
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.get_id()))

    def __repr__(self) -> str:
        return f"<{self.content_type_name} {self.get_id()} {self.get_status()}>"

    def set_status(self, status: PipelineTaskStatus | str) -> None:
        """Set the status; :meth:`save` reports it, as far as it is an advance.

        Raises:
            ValueError: There is no such status.
        """
        self.row.status = PipelineTaskStatus(status)

    def save(self) -> None:
        """Keep what was set on this object, and nothing else of it.

        Set a new value rather than changing one in place, which goes unnoticed. A new
        status goes the way of :meth:`report_status_change`, so that what lies above and
        below follows.
        """
        self.storage.save(self)

    def get_changed(self) -> dict[str, Any]:
        """Return what was set on this object and is not kept yet, by field."""
        return {
            name: value
            for name in self.row.__dataclass_fields__
            if (value := getattr(self.row, name)) != getattr(self.stored, name)
        }

    def refresh(self) -> None:
        """Read this object again.

        Raises:
            NotFoundError: The storage has it no more.
        """
        row = self.storage.get_row(self.kind, self.get_id())
        self.__dict__["row"] = row
        self.__dict__["stored"] = copy.copy(row)

    def report_status_change(
        self,
        status: PipelineTaskStatus | str,
        message: str = "",
        *,
        timestamp: datetime | None = None,
    ) -> bool:
        """Report a new status of this object, with a message.

        Nothing happens if the status does not advance. Otherwise the object has it
        when this returns, and what lies above and below follows by the status rules.
        Only ``DONE`` waits: the object has it once all that lies below is ``DONE``.

        Args:
            status: The new status.
            message: What to record with it.
            timestamp: When it changed, aware of its zone; now, if left out.

        Returns:
            Whether the change was taken.

        Raises:
            ValueError: There is no such status.
            StorageError: The storage could not do it.
        """
        wanted = PipelineTaskStatus(status)
        taken = self.storage.report(self, wanted, message, timestamp)
        self.refresh()
        return taken

    def get_states(self) -> list[StateChange]:
        """Return every change reported of this object, the oldest first."""
        return self.storage.get_states(self)

    def get_duration(self) -> timedelta | None:
        """Return how long it ran, or nothing if it did not start or end yet."""
        started, completed = self.get_started(), self.get_completed()
        if started is None or completed is None:
            return None
        return completed - started


class PipelineExecution(PipelineStorageObject):
    """A run of a pipeline as a whole: there is one for each run."""

    kind = Kind.EXECUTION
    content_type_name = "PipelineExecution"

    get_pipeline_id: Callable[[], str]
    get_run_name: Callable[[], str]
    get_input_data: Callable[[], dict[str, Any]]
    get_flow_id: Callable[[], str | None]
    get_project_name: Callable[[], str | None]
    get_deployment_id: Callable[[], int | None]
    get_prefect_deployment_id: Callable[[], str | None]
    get_parent_run_id: Callable[[], str | None]

    def get_pipeline_results(self) -> list[PipelineResult]:
        """Return the pipeline results of this run, in the order of their objects."""
        return self.storage.get_pipeline_results(run_id=self.get_run_id())

    def get_parent(self) -> PipelineExecution | None:
        """Return the execution of the flow of which this run is a subflow."""
        parent = self.get_parent_run_id()
        return self.storage.get_pipeline_execution(parent) if parent else None

    def get_children(self) -> list[PipelineExecution]:
        """Return the executions of the subflows of this run, the oldest first."""
        return self.storage.get_pipeline_executions(parent_run_id=self.get_run_id())


class PipelineResult(PipelineStorageObject):
    """A run of a pipeline for one object: one for each run and object."""

    kind = Kind.RESULT
    content_type_name = "PipelineResult"

    get_pipeline_id: Callable[[], str]
    get_index: Callable[[], int]
    get_pipeline_object: Callable[[], Any]
    get_flow_run_id: Callable[[], str | None]
    get_runner: Callable[[], str | None]
    get_reporter: Callable[[], str | None]

    def get_serializable_pipeline_object(self) -> Any:
        """Return the object that this result is of, as JSON."""
        return self.get_pipeline_object()

    def get_pipeline_execution(self) -> PipelineExecution:
        """Return the run that this result belongs to."""
        return self.storage.get_above(self, PipelineExecution)

    def get_task_executions(self) -> list[TaskExecution]:
        """Return the tasks of this result, the oldest first."""
        return self.storage.get_task_executions(pipeline_result_id=self.get_id())


class TaskExecution(PipelineStorageObject):
    """A task within a pipeline result, over all of its runs there."""

    kind = Kind.TASK_EXECUTION
    content_type_name = "TaskExecution"

    get_pipeline_task: Callable[[], str]
    get_task_id: Callable[[], str]
    get_config: Callable[[], dict[str, Any]]

    def get_pipeline_result(self) -> PipelineResult:
        """Return the pipeline result that this task belongs to."""
        return self.storage.get_above(self, PipelineResult)

    def get_task_results(self) -> list[TaskResult]:
        """Return the runs of this task, in the order of its objects."""
        return self.storage.get_task_results(task_execution_id=self.get_id())


class TaskResult(PipelineStorageObject):
    """One run of a task: one for each object of the task's iterator."""

    kind = Kind.TASK_RESULT
    content_type_name = "TaskResult"

    get_name: Callable[[], str]
    get_index: Callable[[], int | None]
    get_task_object: Callable[[], Any]
    get_run_count: Callable[[], int]
    get_pipeline_result_id: Callable[[], str]

    def get_serializable_task_object(self) -> Any:
        """Return the object that the task ran on, as JSON."""
        return self.get_task_object()

    def get_task_execution(self) -> TaskExecution:
        """Return the task that this result is a run of."""
        return self.storage.get_above(self, TaskExecution)

    def get_task_id(self) -> str:
        """Return Prefect's key of the task."""
        return self.get_task_execution().get_task_id()

    def get_pipeline_task(self) -> str:
        """Return the task's name."""
        return self.get_task_execution().get_pipeline_task()
