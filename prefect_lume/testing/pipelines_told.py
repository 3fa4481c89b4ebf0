"""Runs as Prefect tells them, in short words: for tests of storages and recorders."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prefect_lume.pipelines import (
    Batch,
    FlowRunFacts,
    PipelineTaskStatus,
    StateChange,
    TaskRunFacts,
)
from prefect_lume.pipelines.rows import Kind, result_id

_S = PipelineTaskStatus

#: Names of Prefect's states: their type, and the status that they mean.
STATES: Final[dict[str, tuple[str, PipelineTaskStatus]]] = {
    "Scheduled": ("SCHEDULED", _S.PENDING),
    "Pending": ("PENDING", _S.PENDING),
    "Running": ("RUNNING", _S.RUNNING),
    "Retrying": ("RUNNING", _S.RUNNING),
    "AwaitingRetry": ("SCHEDULED", _S.PENDING),
    "Completed": ("COMPLETED", _S.DONE),
    "Cached": ("COMPLETED", _S.DONE),
    "Failed": ("FAILED", _S.RUNTIME_ERROR),
    "Crashed": ("CRASHED", _S.RUNTIME_ERROR),
    "Cancelling": ("CANCELLING", _S.RUNNING),
    "Cancelled": ("CANCELLED", _S.CANCELLED),
    "NotReady": ("PENDING", _S.CANCELLED),
}
_EPOCH: Final = datetime(2026, 3, 4, 5, 6, 7, 891011, UTC)


def at(seconds: float) -> datetime:
    """Return a time so many seconds after the beginning of the test's time."""
    return _EPOCH + timedelta(seconds=seconds)


def flow_run(run_id: str, parent: str | None = None, **facts: Any) -> FlowRunFacts:
    """Return the facts of a flow run which is an execution of its own."""
    told = {"pipeline_id": "told", "created": at(0), "parent_run_id": parent, **facts}
    return FlowRunFacts(run_id=run_id, flow_run_id=run_id, **told)


def object_run(run_id: str, index: int, flow_run_id: str) -> FlowRunFacts:
    """Return the facts of the flow run that works on one object of a pipeline."""
    return FlowRunFacts(
        run_id=run_id,
        flow_run_id=flow_run_id,
        pipeline_id="told",
        index=index,
        pipeline_object={"shot": index},
        created=at(0),
    )


def task_run(
    flow: FlowRunFacts, task_run_id: str, task: str = "track", **facts: Any
) -> TaskRunFacts:
    """Return the facts of a run of a task in a flow run."""
    return TaskRunFacts(
        task_run_id=task_run_id,
        run_id=flow.run_id,
        pipeline_result_id=result_id(flow.run_id, flow.index or 0),
        task_id=f"{task}-1a",
        pipeline_task=task,
        **{"name": f"{task}-0", "created": at(0), **facts},
    )


def tell(
    flow: FlowRunFacts,
    state: str,
    when: datetime,
    *,
    task: TaskRunFacts | None = None,
    message: str = "",
    status: PipelineTaskStatus | None = None,
    inferred: bool = False,
    **fields: Any,
) -> Batch:
    """Return a batch with one state of a flow run, or of a task run in it.

    Args:
        flow: The flow run.
        state: Prefect's name of the state, one of :data:`STATES`.
        when: When it got it.
        task: The task run, if it is one's.
        message: What is said with it.
        status: Another status than the one that the state means.
        inferred: Whether it was concluded.
        **fields: Other fields of the change, such as its id.
    """
    state_type, meant = STATES[state]
    if task is not None:
        kind, target = Kind.TASK_RESULT, task.task_run_id
    elif flow.is_object:
        kind, target = Kind.RESULT, result_id(flow.run_id, flow.index or 0)
    else:
        kind, target = Kind.EXECUTION, flow.run_id
    change = StateChange(
        run_id=flow.run_id,
        kind=kind,
        target=target,
        status=status or meant,
        timestamp=when,
        message=message,
        state_type=None if inferred else state_type,
        state_name=None if inferred else state,
        inferred=inferred,
        **{"id": str(uuid.uuid4()), **fields},
    )
    return Batch([change], [flow], [task] if task else [])


def joined(batches: Iterable[Batch]) -> Batch:
    """Return several batches as one; theirs stay as they are."""
    whole = Batch()
    for batch in batches:
        whole.add(batch)
    return whole
