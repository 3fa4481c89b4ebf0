"""Recording a flow from within its own process: one decorator, nothing else to run."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from prefect import Flow
from prefect.context import FlowRunContext
from prefect.logging.loggers import flow_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_lume.config import open_context, running_deployment
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.configured import StorageChoice, make_storage
from prefect_lume.recorder.inprocess.mapping import next_watcher, watched
from prefect_lume.recorder.inprocess.preparing import ReadStates
from prefect_lume.recorder.inprocess.recording import Recording, find
from prefect_lume.settings import LumeSettings

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

F = TypeVar("F", bound=Flow[..., Any])

#: Where to record: a storage, or what the setting of it may be.
StorageArgument = PipelineStorage | str | tuple[str, dict[str, Any]] | None

_HOOKS: Final = (
    "on_completion_hooks",
    "on_failure_hooks",
    "on_cancellation_hooks",
    "on_crashed_hooks",
)


@overload
def recorded(
    flow: F,
    *,
    services: LumeServices | str | None = ...,
    storage: StorageArgument = ...,
) -> F: ...


@overload
def recorded(
    flow: None = ...,
    *,
    services: LumeServices | str | None = ...,
    storage: StorageArgument = ...,
) -> Callable[[F], F]: ...


def recorded(
    flow: F | None = None,
    *,
    services: LumeServices | str | None = None,
    storage: StorageArgument = None,
) -> F | Callable[[F], F]:
    """Record every state change of a flow's runs, from within their process.

    Put it above ``@flow``. Whatever the flow runs in its process is recorded with it:
    task runs on threads and in processes, subflows and their tasks. What ran elsewhere
    is read from Prefect's API at the end. The flow does what it did before, and goes on
    if the recording fails: its log then says so.

    Args:
        flow: A Prefect flow. It is not changed.
        services: A LumeServices Block, or the name of a stored one, in whose storage to
            record; the configured one, if left out.
        storage: A storage to record in, or the Python path of one, or a pair of a path
            and keyword arguments. A storage object serves this process only: where the
            flow is sent to another one, the configured storage is used there.

    Returns:
        A flow like the given one which is recorded; without ``flow``, a decorator.

    Raises:
        InvalidInputError: What is given is not a Prefect flow.

    Example:
        >>> from prefect import flow
        >>> from prefect_lume import recorded
        >>> @recorded
        ... @flow
        ... def scan(points: int) -> int:
        ...     return points
        >>> scan.name
        'scan'
    """
    hooks = RecordingHooks(services, storage)
    if flow is None:
        return functools.partial(record_with, hooks)
    return record_with(hooks, flow)


def record_with(hooks: RecordingHooks, flow: F) -> F:
    """Return a flow like the given one which is recorded by these hooks.

    Raises:
        InvalidInputError: What is given is not a Prefect flow.
    """
    if not isinstance(flow, Flow):
        raise InvalidInputError(
            f"Only a Prefect flow can be recorded, not a {type(flow).__name__}: put "
            f"@recorded above @flow, not below it."
        )
    made = copy.copy(flow)
    made.on_running_hooks = [hooks.record_start, *_foreign(flow.on_running_hooks)]
    for name in _HOOKS:
        # The flow's own come first: they need not wait until all is written.
        setattr(made, name, [*_foreign(getattr(flow, name)), hooks.record_end])
    # Prefect's own would lose hooks of ours where others are given.
    made.__dict__["with_options"] = functools.partial(_with_options, hooks, made)
    return made


def _foreign(hooks: list[Any]) -> list[Any]:
    return [
        hook
        for hook in hooks
        if not isinstance(getattr(hook, "__self__", None), RecordingHooks)
    ]


def _with_options(
    hooks: RecordingHooks, flow: Flow[..., Any], **options: Any
) -> Flow[..., Any]:
    return record_with(hooks, type(flow).with_options(flow, **options))


@dataclass(frozen=True)
class RecordingHooks:
    """The hooks of a recorded flow.

    Attributes:
        services: Whose storage to record in.
        storage: Where to record, if it is not these services' storage.
        joins_only: Join the recording of a flow above; begin none.
    """

    services: LumeServices | str | None = None
    storage: StorageArgument = None
    joins_only: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # A storage holds connections, which cannot go to another process.
        portable = None if isinstance(self.storage, PipelineStorage) else self.storage
        return RecordingHooks, (self.services, portable, self.joins_only)

    def open_storage(self) -> PipelineStorage:
        """Return the storage to record in.

        Raises:
            ConfigurationError: What was given does not name one.
            StorageError: Its database cannot be used.
        """
        if isinstance(self.storage, PipelineStorage):
            return self.storage
        context = open_context(self.services)
        if self.storage is None:
            return context.pipeline_storage()
        choice = StorageChoice.of(self.storage, "the argument 'storage'")
        return make_storage(choice, context)

    def recording(self, flow: Flow[..., Any], flow_run: FlowRun) -> Recording:
        """Return a new recording of a flow run."""
        return Recording(
            flow_run.id,
            self.open_storage,
            functools.partial(open_context, self.services),
            flow_run_logger(flow_run, flow),
            deployment_id=running_deployment.get() or LumeSettings.load().deployment_id,
        )

    def record_start(
        self, flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]
    ) -> None:
        """Begin to record a run of a flow; called by Prefect when it runs."""
        recording = find(flow_run.id) or recording_above()
        if recording is None:
            if self.joins_only:
                return
            recording = self.recording(flow, flow_run)
            recording.start()
        if watched(own_runner(flow)):
            next_watcher.set(RunWatcher(recording, str(flow_run.id)))
        recording.began(flow_run, state, flow.name)

    def record_end(
        self, flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]
    ) -> Coroutine[Any, Any, None] | None:
        """Finish the record of a run of a flow; called by Prefect when it ended."""
        recording = find(flow_run.id)
        if recording is None:
            if not self.joins_only:
                self._read_whole(flow, flow_run, state)
            return None
        ticket = recording.end(flow_run, state, is_alone=_is_alone(flow_run))
        if ticket is None or not state.is_final():
            return None
        if flow.isasync and _in_event_loop():
            return _until_written(recording, ticket)
        recording.wait(ticket)
        return None

    def _read_whole(
        self, flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]
    ) -> None:
        """Record a run whose process ended, from Prefect's API.

        A worker calls the hooks of a flow in its own process when it cancelled the
        flow's, or found it dead.
        """
        recording = self.recording(flow, flow_run)
        recording.start(listening=False)
        recording.put(ReadStates(str(flow_run.id), with_tasks=True))
        ticket = recording.end(flow_run, state)
        if ticket is not None and state.is_final():
            recording.wait(ticket)


def own_runner(flow: Flow[..., Any]) -> Any:
    """Return a flow's task runner, as an object that no other flow has."""
    runner = flow.task_runner
    if getattr(flow, "_lume_runner", None) is not runner:
        runner = flow.task_runner = copy.copy(runner)
        flow.__dict__["_lume_runner"] = runner
    return runner


def recording_above() -> Recording | None:
    """Return the recording of the flow run that the calling code runs in."""
    context: Any = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return None
    return find(context.flow_run.id)


def _is_alone(flow_run: FlowRun) -> bool:
    """Tell whether a flow run began no other one in this process.

    Prefect counts in the context of a flow run the task runs that stand for subflows,
    and no other ones. Those that a task began are not counted: they are heard of by
    their own tasks. One that has none is found when the server is asked.
    """
    context: Any = FlowRunContext.get()
    if context is None or context.flow_run is None or context.detached:
        return False
    return (
        context.flow_run.id == flow_run.id
        and isinstance(context.task_runner, ThreadPoolTaskRunner)
        and getattr(context, "task_run_dynamic_keys", None) == {}
    )


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _until_written(recording: Recording, ticket: int) -> None:
    while not recording.is_written(ticket):
        await asyncio.sleep(_STEP)
    recording.wait(ticket)


#: Seconds between two looks whether all is written, while others run.
_STEP: Final = 0.01


@dataclass(frozen=True)
class RunWatcher:
    """Tells a recording what the task runner of one flow run does."""

    recording: Recording
    flow_run_id: str

    def submitted(
        self, task_run_id: str, index: int | None, task_object: Any, *, is_local: bool
    ) -> None:
        """Take note of a task run."""
        self.recording.submitted(
            self.flow_run_id, task_run_id, index, task_object, is_local=is_local
        )

    def left(self) -> None:
        """Take note that the task runner was closed."""
        self.recording.left(self.flow_run_id)
