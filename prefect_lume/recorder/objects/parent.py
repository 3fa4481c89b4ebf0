"""The run of a flow on one object, wherever a task runner takes it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Failed, Pending

from prefect_lume.recorder.inprocess.mapping import as_json
from prefect_lume.recorder.inprocess.recording import find
from prefect_lume.recorder.marks import object_tag

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

#: How the keys begin of the task runs that stand for the run on an object.
TRACKING_KEY: Final = "prefect_lume.run_pipeline"

#: Pipelines of this process, each with a lock that lets in one beginning run at a time.
#: On its SQLite database Prefect's server answers writers that come at once with
#: "busy", and the client then waits for seconds.
_beginning: dict[str, threading.Lock] = {}
_held: dict[str, _Once] = {}


@dataclass(frozen=True)
class ObjectRun:
    """What is needed to run a flow on one object.

    Attributes:
        flow: The flow; it calls :func:`begun` when it runs.
        index: The object's position.
        parameters: All parameters of the flow's run, the object among them.
        pipeline_run_id: The flow run of the pipeline.
        tags: Tags of the flow run besides the one for the object.
    """

    flow: Flow[..., Any]
    index: int
    parameters: dict[str, Any]
    pipeline_run_id: str
    tags: tuple[str, ...] = ()


def open_gate(pipeline_run_id: str) -> None:
    """Let the runs of a pipeline of this process begin one after the other."""
    _beginning[pipeline_run_id] = threading.Lock()


def close_gate(pipeline_run_id: str) -> None:
    """Forget a pipeline that has ended."""
    _beginning.pop(pipeline_run_id, None)


def run_object(job: ObjectRun) -> Any:
    """Run a flow on one object as a subflow of the pipeline's run.

    Returns:
        What the flow returned; a failed state that says why, if it did not complete.
    """
    once = _Once(_beginning.get(job.pipeline_run_id))
    try:
        run = _create(job)
        _held[str(run.id)] = once
        recording = find(job.pipeline_run_id)
        if recording is not None:
            recording.join(run.id)
            if run.state is not None:
                recording.told(run, run.state)
        # Prefect joins the thread of a run's heartbeats in steps of a second.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            state: Any = run_flow(
                job.flow, flow_run=run, parameters=job.parameters, return_type="state"
            )
            if asyncio.iscoroutine(state):
                state = asyncio.run(state)
    finally:
        once.release()
    if state.is_completed():
        return state.result(_sync=True)
    message = state.message or f"The flow run ended as {state.name}."
    return Failed(name=state.name, message=message)


def begun(flow: Flow[..., Any], flow_run: FlowRun, state: Any) -> None:
    """Let the next run of a pipeline begin; called by Prefect when one runs."""
    del flow, state
    once = _held.pop(str(flow_run.id), None)
    if once is not None:
        once.release()


def _create(job: ObjectRun) -> FlowRun:
    name = f"{job.flow.name}-{job.index}"
    with get_client(sync_client=True) as client:
        tracking = client.create_task_run(
            task=tracking_task(job.flow.name),
            name=name,
            flow_run_id=UUID(job.pipeline_run_id),
            dynamic_key=str(job.index),
            state=Pending(),
        )
        return client.create_flow_run(
            flow=job.flow,
            parameters={name: as_json(v) for name, v in job.parameters.items()},
            tags=[*job.tags, object_tag(job.index)],
            parent_task_run_id=tracking.id,
            state=Pending(),
        )


def tracking_task(flow_name: str) -> Task[[], None]:
    """Return a task whose run stands for a subflow in its parent."""
    task: Task[[], None] = Task(fn=_nothing, name=flow_name)
    task.task_key = f"{TRACKING_KEY}.{flow_name}"
    return task


def _nothing() -> None:
    """Stands for the subflow."""


def object_task(flow_name: str, index: int) -> Task[..., Any]:
    """Return the task that runs a flow on one object."""
    return Task(
        fn=run_object,
        name=f"run {flow_name}",
        task_run_name=f"{flow_name} {index}".replace("{", "(").replace("}", ")"),
        cache_policy=NO_CACHE,
        persist_result=False,
    )


class _Once:
    """A lock, if there is one, that is held and let go of once, by whoever comes."""

    def __init__(self, lock: threading.Lock | None) -> None:
        self._lock = lock
        self._guard = threading.Lock()
        if lock is not None:
            lock.acquire()

    def release(self) -> None:
        with self._guard:
            lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
