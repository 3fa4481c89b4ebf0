"""What a storage keeps: one row for each of the four kinds of objects.

Rows are plain data. People get objects (:mod:`prefect_lume.pipelines.objects`), which
read and set the fields of a row.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final

from prefect_lume.pipelines.status import PipelineTaskStatus

_NAMESPACE: Final = uuid.UUID("6f6b4c0e-5d3c-5a0e-9b7e-2f1f6a9d7c11")


class Kind(StrEnum):
    """The four kinds of objects, from the top down."""

    EXECUTION = "pipeline_execution"
    RESULT = "pipeline_result"
    TASK_EXECUTION = "task_execution"
    TASK_RESULT = "task_result"

    @property
    def below(self) -> Kind | None:
        """The kind of the children, or nothing for a task result."""
        position = _ORDER.index(self) + 1
        return _ORDER[position] if position < len(_ORDER) else None

    @property
    def above(self) -> Kind | None:
        """The kind of the parent, or nothing for a pipeline execution."""
        position = _ORDER.index(self)
        return _ORDER[position - 1] if position else None


_ORDER: Final = tuple(Kind)


@dataclass(slots=True, kw_only=True)
class Row:
    """What all four kinds have.

    Attributes:
        id: The object's id. For a pipeline execution it is its ``run_id``, for what
            Prefect ran as a task the id of the task run.
        run_id: The pipeline execution's id: Prefect's flow run id.
        parent_id: The id of the object above; nothing for a pipeline execution.
        status: Where it stands.
        message: What was said with the change to that status.
        created: When it was first heard of, by the clock of whoever reported it.
        started: When it began to run.
        completed: When it got its final status.
        closed: Nothing more will come below it: it is done when all below is.
        superseded: It belongs to an attempt that Prefect has since repeated, and did
            not end well: it counts no more for what is above.
        last_at: When it, or anything below it, last changed by itself.
        state_type: Prefect's type of its latest state, such as ``"COMPLETED"``.
        state_name: Prefect's name of it, such as ``"Cached"``.
        state_at: Prefect's time of it.
    """

    id: str
    run_id: str
    parent_id: str | None = None
    status: PipelineTaskStatus = PipelineTaskStatus.PENDING
    message: str = ""
    created: datetime | None = None
    started: datetime | None = None
    completed: datetime | None = None
    closed: bool = False
    superseded: bool = False
    last_at: datetime | None = None
    state_type: str | None = None
    state_name: str | None = None
    state_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class ExecutionRow(Row):
    """A run of a pipeline: one flow run.

    Attributes:
        pipeline_id: The pipeline: the name of its flow.
        run_name: Prefect's name of the flow run.
        input_data: The parameters of the run, as JSON.
        flow_id: Prefect's id of the flow.
        project_name: The registry's project.
        deployment_id: The registry's deployment whose code ran.
        prefect_deployment_id: The Prefect deployment that was run.
        parent_run_id: The flow run of which this one is a subflow.
        runner: What ran it: a Python path, or a work pool.
        is_mapped: Whether the pipeline was run over objects.
        last_seen: The last sign of life of its process (Prefect's heartbeat).
    """

    pipeline_id: str = ""
    run_name: str = ""
    input_data: dict[str, Any] = field(default_factory=dict)
    flow_id: str | None = None
    project_name: str | None = None
    deployment_id: int | None = None
    prefect_deployment_id: str | None = None
    parent_run_id: str | None = None
    runner: str | None = None
    is_mapped: bool = False
    last_seen: datetime | None = None


@dataclass(slots=True, kw_only=True)
class ResultRow(Row):
    """A pipeline run for one object.

    Attributes:
        pipeline_id: As in the execution.
        index: The object's position among the objects, from 0.
        pipeline_object: The object, as JSON; nothing for a run without objects.
        flow_run_id: The flow run that worked on it last; the execution's own if there
            are no objects.
        flow_run_at: When that flow run was made.
        again_at: When the attempt that counts began; nothing for the first one.
        runner: What ran it.
        reporter: What reported on it.
    """

    pipeline_id: str = ""
    index: int = 0
    pipeline_object: Any = None
    flow_run_id: str | None = None
    flow_run_at: datetime | None = None
    again_at: datetime | None = None
    runner: str | None = None
    reporter: str | None = None


@dataclass(slots=True, kw_only=True)
class TaskExecutionRow(Row):
    """A task within a pipeline result, over all of its runs there.

    Attributes:
        pipeline_task: The task's name.
        task_id: What identifies the task in the pipeline: its function's name.
        config: The task's configuration, as JSON.
    """

    pipeline_task: str = ""
    task_id: str = ""
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TaskResultRow(Row):
    """One run of a task.

    Attributes:
        pipeline_result_id: The id of the pipeline result that it belongs to.
        name: Prefect's name of the task run.
        index: The position in the task's ``.map``, from 0; nothing if unknown.
        task_object: The object of the ``.map``, as JSON; nothing if unknown.
        run_count: How often it was started, retries included.
    """

    pipeline_result_id: str = ""
    name: str = ""
    index: int | None = None
    task_object: Any = None
    run_count: int = 0


ROW_TYPES: Final[dict[Kind, type[Row]]] = {
    Kind.EXECUTION: ExecutionRow,
    Kind.RESULT: ResultRow,
    Kind.TASK_EXECUTION: TaskExecutionRow,
    Kind.TASK_RESULT: TaskResultRow,
}

#: The fields of the rows of each kind, and what gets all their values at once.
ROW_FIELDS: Final[dict[Kind, tuple[str, ...]]] = {
    kind: tuple(one.name for one in fields(row_type))
    for kind, row_type in ROW_TYPES.items()
}
ROW_VALUES: Final[dict[Kind, Callable[[Any], tuple[Any, ...]]]] = {
    kind: attrgetter(*names) for kind, names in ROW_FIELDS.items()
}


# The same few are asked for with every change. Typed: 0 and False make two ids.
@functools.lru_cache(maxsize=4096, typed=True)
def derived_id(*parts: object) -> str:
    """Return an id that whoever knows the same parts comes to as well.

    Example:
        >>> derived_id("run", 0) == derived_id("run", 0) != derived_id("run", 1)
        True
    """
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(map(str, parts))))


def result_id(run_id: str, index: int = 0) -> str:
    """Return the id of a run's pipeline result for its object number ``index``."""
    return derived_id("result", run_id, index)


def task_execution_id(pipeline_result_id: str, task_id: str) -> str:
    """Return the id of the execution of a task in a pipeline result."""
    return derived_id("task", pipeline_result_id, task_id)


def task_result_id(execution_id: str, index: int) -> str:
    """Return the id of a task result that is made before Prefect runs it."""
    return derived_id("object", execution_id, index)
