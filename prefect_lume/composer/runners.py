"""The two ways to run a subflow: in this process, or as its Prefect deployment."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
import time
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Cancelled, Cancelling, Crashed, Pending, Scheduled
from prefect.utilities.callables import get_call_parameters

from prefect_lume.composer import children
from prefect_lume.composer.keeping import SubflowResultStore
from prefect_lume.composer.plan import Step
from prefect_lume.config import running_deployment

if TYPE_CHECKING:
    from uuid import UUID

    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State, TaskRun
    from prefect.filesystems import WritableFileSystem

#: Seconds between two looks at a subflow that runs elsewhere.
POLL: Final = 0.5


class Runner(ABC):
    """Runs subflows as child runs of the parent run that this code is in.

    Several threads may call :meth:`run` at the same time.
    """

    def __init__(self) -> None:
        # On its SQLite database Prefect's server answers writers that come at once
        # with "busy", and the client then waits for seconds: one child is created at
        # a time. It costs tens of milliseconds, and nothing on PostgreSQL.
        self._creating = threading.Lock()
        self._running: dict[UUID, str] = {}

    @abstractmethod
    def run(
        self, step: Step, parameters: Mapping[str, Any], tracking: TaskRun
    ) -> FlowRun:
        """Run a subflow to its end and return its run, whatever its state.

        Args:
            step: The subflow.
            parameters: Its parameters.
            tracking: The task run that stands for it in the parent.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Cancel every subflow that this runner has under way."""

    @contextlib.contextmanager
    def _under_way(self, run: FlowRun, step: Step) -> Iterator[None]:
        self._running[run.id] = step.name
        try:
            yield
        finally:
            self._running.pop(run.id, None)


class InProcess(Runner):
    """Runs subflows in this process, as Prefect runs a flow called in a flow.

    Args:
        storage: Where kept results are written; ``None`` means Prefect's default.
    """

    def __init__(self, storage: WritableFileSystem | None = None) -> None:
        super().__init__()
        self._storage = storage

    def run(
        self, step: Step, parameters: Mapping[str, Any], tracking: TaskRun
    ) -> FlowRun:
        """Run a subflow in the calling thread and return its run."""
        flow = step.flow
        if flow is None:  # pragma: no cover - refused before anything runs.
            raise RuntimeError(f"The subflow {step.name!r} has no flow object.")
        started = _Once(self._creating)
        try:
            child = _child(flow, started.release)
            complete = get_call_parameters(flow.fn, (), dict(parameters))
            with get_client(sync_client=True) as client:
                run = client.create_flow_run(
                    flow=child,
                    name=step.name,
                    parameters=flow.serialize_parameters(complete),
                    tags=children.tags_of(step),
                    parent_task_run_id=tracking.id,
                    state=Pending(),
                )
            with self._under_way(run, step), self._surroundings(step):
                _call(child, run, complete)
        finally:
            started.release()
        return children.read(run.id)

    def cancel(self) -> None:
        """Mark the subflows as cancelled; their threads end with the process."""
        for run_id in list(self._running):
            message = "The parent flow was cancelled."
            children.set_state(run_id, Cancelled(message=message), force=True)

    @contextlib.contextmanager
    def _surroundings(self, step: Step) -> Iterator[None]:
        parent = FlowRunContext.get()
        store = SubflowResultStore(
            result_storage=self._storage,
            kept_flow=step.flow_name,
            kept_tasks=step.kept,
        )
        token = running_deployment.set(step.registry_deployment)
        with contextlib.ExitStack() as stack:
            stack.callback(running_deployment.reset, token)
            # Prefect joins the thread of its heartbeats in steps of a second.
            stack.enter_context(
                temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
            )
            if parent is not None:
                stack.enter_context(parent.model_copy(update={"result_store": store}))
            yield


class AsDeployments(Runner):
    """Runs subflows as their Prefect deployments, on the work pools of these.

    Args:
        parent_run_id: The parent's flow run.
    """

    def __init__(self, parent_run_id: UUID) -> None:
        super().__init__()
        self._parent_run_id = parent_run_id

    def run(
        self, step: Step, parameters: Mapping[str, Any], tracking: TaskRun
    ) -> FlowRun:
        """Have a worker run a subflow, wait for its end and return its run."""
        with self._creating:
            run = self._create(step, parameters, tracking)
        with self._under_way(run, step):
            while run.state is None or not run.state.is_final():
                time.sleep(POLL)
                run = children.read(run.id)
        return run

    def cancel(self) -> None:
        """Ask the workers to cancel the subflows."""
        for run_id in list(self._running):
            message = "The parent flow was cancelled."
            children.set_state(run_id, Cancelling(message=message))

    def _create(
        self, step: Step, parameters: Mapping[str, Any], tracking: TaskRun
    ) -> FlowRun:
        earlier = children.attempts(tracking)
        unfinished = [run for run in earlier if run.state and not run.state.is_final()]
        if unfinished:
            # The parent's process died and came back: its child lives on.
            return unfinished[0]
        key = f"{self._parent_run_id}:{step.name}:{len(earlier)}"
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(step.prefect_deployment)
            return client.create_flow_run_from_deployment(
                deployment.id,
                name=step.name,
                parameters=dict(parameters),
                state=Scheduled(),
                tags=children.tags_of(step),
                idempotency_key=key,
                parent_task_run_id=tracking.id,
            )


class _Once:
    """A lock that is held from the start and let go of once, by whoever comes first."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._held = True
        self._guard = threading.Lock()
        lock.acquire()

    def release(self) -> None:
        with self._guard:
            if self._held:
                self._held = False
                self._lock.release()


def _child(flow: Flow[..., Any], started: Callable[[], None]) -> Flow[..., Any]:
    """Return a copy of a flow which tells when its own code starts."""
    child = copy(flow)
    # The run is named after the subflow, by which the parent's reader knows it.
    child.flow_run_name = None
    function = flow.fn

    async def run_async(*args: Any, **kwargs: Any) -> Any:
        started()
        return await function(*args, **kwargs)

    def run_sync(*args: Any, **kwargs: Any) -> Any:
        started()
        return function(*args, **kwargs)

    wrapper = run_async if flow.isasync else run_sync
    # Prefect evaluates annotations that are text in the globals of the function.
    scope = getattr(inspect.unwrap(function), "__globals__", globals())
    child.fn = functools.wraps(function)(
        types.FunctionType(wrapper.__code__, scope, None, None, wrapper.__closure__)
    )
    return child


def _call(child: Flow[..., Any], run: FlowRun, parameters: dict[str, Any]) -> None:
    """Run a child flow to its end; what it raises is kept in its state."""
    outcome = run_flow(child, flow_run=run, parameters=parameters, return_type="state")
    if asyncio.iscoroutine(outcome):
        asyncio.run(outcome)


def forget_abandoned(run: FlowRun, state: State[Any] | None = None) -> None:
    """Close a run in this process whose parent died before it ended."""
    message = "The process of its parent ended before it did."
    children.set_state(run.id, state or Crashed(message=message), force=True)


def copied(job: Callable[[], Any]) -> Callable[[], Any]:
    """Return a job that runs in a copy of the caller's context variables."""
    context = contextvars.copy_context()
    return functools.partial(context.run, job)
