"""The two ways to run a subflow: in this process, or as its Prefect deployment."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Cancelled, Cancelling, Crashed, Pending, Scheduled
from prefect.utilities.callables import get_call_parameters

from prefect_lume.composer import children
from prefect_lume.composer.child import as_child
from prefect_lume.composer.keeping import Noted
from prefect_lume.composer.location import find_prefect_deployment
from prefect_lume.composer.plan import Step
from prefect_lume.composer.remote_names import ENTRYPOINT, KEEP
from prefect_lume.config import running_deployment

if TYPE_CHECKING:
    from uuid import UUID

    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, TaskRun

#: Seconds between two looks at a subflow that runs elsewhere.
POLL: Final = 0.5
_CANCELLED: Final = "The parent flow was cancelled."


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
        self._cancelled = threading.Event()
        self._noted: dict[UUID, Noted] = {}

    def noted(self, flow_run_id: UUID) -> Noted | None:
        """Return where the results of a subflow's tasks are, if it ran in here."""
        return self._noted.get(flow_run_id)

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

    def cancel(self) -> None:
        """Cancel every subflow that is under way, and those that are just starting."""
        self._cancelled.set()
        for run_id in list(self._running):
            self._cancel(run_id)

    @abstractmethod
    def _cancel(self, run_id: UUID) -> None:
        """Cancel one subflow."""

    @contextlib.contextmanager
    def _under_way(self, run: FlowRun, step: Step) -> Iterator[None]:
        self._running[run.id] = step.name
        if self._cancelled.is_set():
            self._cancel(run.id)
        try:
            yield
        finally:
            self._running.pop(run.id, None)


class InProcess(Runner):
    """Runs subflows in this process, as Prefect runs a flow called in a flow.

    Args:
        storage: The filesystem Block to which kept results are written, as
            ``"type-slug/name"``; ``None`` means Prefect's default.
    """

    def __init__(self, storage: str | None = None) -> None:
        super().__init__()
        self._storage = storage

    def run(
        self, step: Step, parameters: Mapping[str, Any], tracking: TaskRun
    ) -> FlowRun:
        """Run a subflow in the calling thread and return its run."""
        flow = step.flow
        if flow is None:  # pragma: no cover - refused before anything runs.
            raise RuntimeError(f"The subflow {step.name!r} has no flow object.")
        for run in children.unfinished(children.attempts(tracking)):
            # The process of an earlier attempt died, and this run of it with it.
            message = "The process of its parent ended before it did."
            children.set_state(run.id, Crashed(message=message), force=True)
        started = _Once(self._creating)
        try:
            noted = Noted()
            child = as_child(
                flow,
                step.kept,
                storage=self._storage,
                noted=noted,
                started=started.release,
            )
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
            self._noted[run.id] = noted
            with self._under_way(run, step), self._surroundings(step):
                _call(child, run, complete)
        finally:
            started.release()
        return children.read(run.id)

    def _cancel(self, run_id: UUID) -> None:
        # A thread cannot be stopped from outside: it ends with the process.
        children.set_state(run_id, Cancelled(message=_CANCELLED), force=True)

    @contextlib.contextmanager
    def _surroundings(self, step: Step) -> Iterator[None]:
        token = running_deployment.set(step.registry_deployment)
        # Prefect joins the thread of its heartbeats in steps of a second.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            try:
                yield
            finally:
                running_deployment.reset(token)


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

    def _cancel(self, run_id: UUID) -> None:
        # The worker ends its process, and then says that it is cancelled.
        children.set_state(run_id, Cancelling(message=_CANCELLED))

    def _create(
        self, step: Step, parameters: Mapping[str, Any], tracking: TaskRun
    ) -> FlowRun:
        earlier = children.attempts(tracking)
        for run in children.unfinished(earlier):
            # The parent's process died and came back: its child lives on.
            return run
        key = f"{self._parent_run_id}:{step.name}:{len(earlier)}"
        with get_client(sync_client=True) as client:
            deployment = find_prefect_deployment(
                client, step.prefect_deployment, step.project_name
            )
            return client.create_flow_run_from_deployment(
                deployment.id,
                name=step.name,
                parameters=dict(parameters),
                state=Scheduled(),
                tags=children.tags_of(step),
                idempotency_key=key,
                parent_task_run_id=tracking.id,
                job_variables=_job_variables(step, deployment.entrypoint),
            )


def _job_variables(step: Step, entrypoint: str | None) -> dict[str, Any] | None:
    """Return what tells one of our own Prefect deployments which results to keep."""
    if entrypoint != ENTRYPOINT or not step.kept:
        return None
    return {"env": {KEEP: json.dumps(sorted(step.kept))}}


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


def _call(child: Flow[..., Any], run: FlowRun, parameters: dict[str, Any]) -> None:
    """Run a child flow to its end; what it raises is kept in its state."""
    outcome = run_flow(child, flow_run=run, parameters=parameters, return_type="state")
    if asyncio.iscoroutine(outcome):
        asyncio.run(outcome)


def copied(job: Callable[[], Any]) -> Callable[[], Any]:
    """Return a job that runs in a copy of the caller's context variables."""
    context = contextvars.copy_context()
    return functools.partial(context.run, job)
