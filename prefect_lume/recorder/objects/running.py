"""Running a flow over objects, as one pipeline."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, TagsContext
from prefect.flow_engine import run_flow
from prefect.settings import get_current_settings
from prefect.states import Pending
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from prefect_lume.credentials import LumeServices
from prefect_lume.errors import ConfigurationError, ConflictError, SubflowError, clip
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.building import path_of
from prefect_lume.pipelines.changes import Batch, FlowRunFacts, StateChange
from prefect_lume.pipelines.pipeline import Pipeline
from prefect_lume.pipelines.rows import Kind, derived_id, result_id
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.recorder.inprocess.decorating import (
    RecordingHooks,
    StorageArgument,
    record_with,
    recording_above,
)
from prefect_lume.recorder.inprocess.mapping import as_json
from prefect_lume.recorder.inprocess.recording import LIMIT, Recording
from prefect_lume.recorder.marks import (
    NAME_PARAMETER,
    OBJECTS_PARAMETER,
    PIPELINE_PARAMETER,
    PIPELINE_TAG,
)
from prefect_lume.recorder.objects.deployed import run_deployments
from prefect_lume.recorder.objects.given import Target, json_objects, listed
from prefect_lume.recorder.objects.parent import (
    ObjectRun,
    begun,
    close_gate,
    object_task,
    open_gate,
    tracking_task,
)

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

#: Objects that are worked on at the same time in this process, unless said otherwise.
WORKERS: Final = 16
#: Characters of JSON of all objects up to which Prefect keeps them with the run.
_MOST_KEPT: Final = 200_000


@overload
def run_pipeline(
    flow: Flow[..., Any] | str,
    objects: Iterable[Any],
    *,
    parameter: str | None = ...,
    parameters: Mapping[str, Any] | None = ...,
    task_runner: TaskRunner[Any] | type[TaskRunner[Any]] | None = ...,
    services: LumeServices | str | None = ...,
    storage: StorageArgument = ...,
    name: str | None = ...,
    return_state: Literal[False] = ...,
) -> list[Any]: ...


@overload
def run_pipeline(
    flow: Flow[..., Any] | str,
    objects: Iterable[Any],
    *,
    parameter: str | None = ...,
    parameters: Mapping[str, Any] | None = ...,
    task_runner: TaskRunner[Any] | type[TaskRunner[Any]] | None = ...,
    services: LumeServices | str | None = ...,
    storage: StorageArgument = ...,
    name: str | None = ...,
    return_state: Literal[True],
) -> State[list[Any]]: ...


def run_pipeline(
    flow: Flow[..., Any] | str,
    objects: Iterable[Any],
    *,
    parameter: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    task_runner: TaskRunner[Any] | type[TaskRunner[Any]] | None = None,
    services: LumeServices | str | None = None,
    storage: StorageArgument = None,
    name: str | None = None,
    return_state: bool = False,
) -> list[Any] | State[list[Any]]:
    """Run a flow over objects as one pipeline, and record how each of them does.

    There is one flow run for the pipeline, and below it one for each object. Before
    anything runs, the storage holds a pipeline result for each object. An object that
    fails does not stop the others.

    May be called anywhere: also within a flow, of which the pipeline is a subflow then.

    Args:
        flow: A Prefect flow, sync or async; or the name of a Prefect deployment,
            ``"flow-name/deployment-name"``, of which each object's run is then made, on
            whatever work pool it has.
        objects: What to run it over. In this process any objects; for a deployment they
            must have a JSON form.
        parameter: The flow's parameter that takes an object. If left out, the only one
            that it needs and that is not among ``parameters``; else the first.
        parameters: The flow's other parameters, the same for all objects.
        task_runner: Where the flow runs on the objects: any of Prefect's task runners;
            by default threads of this process, 16 at a time unless Prefect's settings
            say otherwise. Deployments run on their work pools.
        services: Whose storage to record in; the configured one, if left out.
        storage: Where to record, if not there.
        name: The name of the pipeline's flow run.
        return_state: Return the final state of the pipeline's flow run, whatever it
            is, instead of raising.

    Returns:
        What the flow returned for each object, in their order. For a deployment, what
        it persisted, else nothing.

    Raises:
        InvalidInputError: The flow or its parameters are not what they should be.
        SubflowError: The flow did not complete for one or more objects; the message
            says for which, and why.
        ConfigurationError: There is no such Prefect deployment.

    Example:
        >>> from prefect import flow
        >>> from prefect_lume import run_pipeline
        >>> @flow
        ... def track(charge: float, steps: int = 100) -> float:
        ...     return charge * steps
        >>> run_pipeline(track, [1e-9, 2e-9], parameters={"steps": 10})
        ... # doctest: +SKIP
        [1e-08, 2e-08]
    """
    items = listed(objects)
    target = Target.of(flow, parameter, parameters)
    if target.flow is None:
        items = json_objects(items)
    hooks = RecordingHooks(services, storage)
    pipeline = _PipelineRun(target, items, hooks, _runner(task_runner))
    outcome: list[Any] | State[list[Any]] = pipeline.run(
        name, return_state=return_state
    )
    return outcome


def _runner(given: TaskRunner[Any] | type[TaskRunner[Any]] | None) -> TaskRunner[Any]:
    if given is None:
        workers = get_current_settings().tasks.runner.thread_pool_max_workers
        return ThreadPoolTaskRunner(max_workers=workers or WORKERS)
    return given() if isinstance(given, type) else given


class _PipelineRun:
    """One run of a flow over objects."""

    def __init__(
        self,
        target: Target,
        objects: list[Any],
        hooks: RecordingHooks,
        task_runner: TaskRunner[Any],
    ) -> None:
        self._target = target
        self._objects = objects
        self._hooks = hooks
        self._task_runner = task_runner
        self._tags = tuple(sorted(TagsContext.get().current_tags))
        self._run_id = ""
        self._recording: Recording | None = None

    def run(self, name: str | None, *, return_state: bool) -> Any:
        """Run it; see :func:`run_pipeline`."""
        flow = record_with(self._hooks, self._flow())
        parameters = self._parameters()
        run = self._create(flow, parameters, name)
        self._run_id = str(run.id)
        self._recording = self._record(flow, run)
        if run.state is not None:
            self._recording.told(run, run.state)
        self._recording.do(self._build, LIMIT)
        open_gate(self._run_id)
        try:
            outcome: Any = run_flow(
                flow,
                flow_run=run,
                parameters=parameters,
                return_type="state" if return_state else "result",
            )
            return outcome
        finally:
            close_gate(self._run_id)

    def _flow(self) -> Flow[..., Any]:
        def pipeline(
            pipeline: str, objects: Any, parameter: str, parameters: Any
        ) -> list[Any]:
            del pipeline, objects, parameter, parameters
            return self._work()

        return Flow(
            pipeline,
            name=self._target.flow_name,
            task_runner=self._task_runner,
            description="Runs the flow of this name over objects.",
            validate_parameters=False,
            persist_result=False,
            retries=0,
        )

    def _parameters(self) -> dict[str, Any]:
        """Return what Prefect shows of the pipeline, as JSON."""
        objects: list[Any] = []
        length = 0
        for obj in self._objects:
            shown = as_json(obj)
            length += len(repr(shown))
            objects.append(shown)
        return {
            PIPELINE_PARAMETER: self._target.flow_name,
            # Each object is also among the parameters of its own flow run.
            OBJECTS_PARAMETER: objects
            if length <= _MOST_KEPT
            else {"count": len(objects)},
            NAME_PARAMETER: self._target.parameter,
            "parameters": {k: as_json(v) for k, v in self._target.parameters.items()},
        }

    def _create(
        self, flow: Flow[..., Any], parameters: dict[str, Any], name: str | None
    ) -> FlowRun:
        context: Any = FlowRunContext.get()
        parent = context.flow_run.id if context and context.flow_run else None
        with get_client(sync_client=True) as client:
            tracking = None
            if parent is not None:
                tracking = client.create_task_run(
                    task=tracking_task(flow.name),
                    name=name or flow.name,
                    flow_run_id=parent,
                    dynamic_key=str(uuid.uuid4()),
                    state=Pending(),
                ).id
            return client.create_flow_run(
                flow=flow,
                name=name,
                parameters=parameters,
                tags=[*self._tags, PIPELINE_TAG],
                parent_task_run_id=tracking,
                state=Pending(),
            )

    def _record(self, flow: Flow[..., Any], run: FlowRun) -> Recording:
        above = recording_above()
        if above is not None and self._hooks == RecordingHooks():
            above.join(run.id)
            return above
        recording = self._hooks.recording(flow, run)
        recording.start()
        return recording

    def _build(self, storage: PipelineStorage) -> None:
        """Make the objects of the run, before it runs."""
        pipeline = Pipeline(self._target.flow_name, objects=self._objects)
        target = self._target
        runner = target.deployment or path_of(self._task_runner)
        try:
            storage.build_pipeline_execution(pipeline, self._run_id, runner)
        except ConflictError:
            # Tried again after it was done and the connection lost.
            return

    # In the pipeline's flow run -------------------------------------------------------

    def _work(self) -> list[Any]:
        target = self._target
        if target.problem:
            self._report(Kind.EXECUTION, self._run_id, target.problem)
            raise ConfigurationError(target.problem)
        if target.flow is None:
            results, failures = run_deployments(
                target, self._objects, self._tags, self._recording, self._invalid
            )
        else:
            results, failures = self._run_here(target.flow)
        if failures:
            told = {f"object {i}": why for i, why in sorted(failures.items())}
            raise SubflowError(target.flow_name, told)
        return [results.get(index) for index in range(len(self._objects))]

    def _run_here(self, flow: Flow[..., Any]) -> tuple[dict[int, Any], dict[int, str]]:
        child = record_with(
            RecordingHooks(self._hooks.services, self._hooks.storage, joins_only=True),
            flow,
        )
        child.on_running_hooks = [*child.on_running_hooks, begun]
        failures: dict[int, str] = {}
        futures: dict[int, Any] = {}
        for index, obj in enumerate(self._objects):
            arguments = self._target.arguments(obj)
            try:
                if flow.should_validate_parameters:
                    flow.validate_parameters(arguments)
            except Exception as error:  # noqa: BLE001 - validators raise what they like.
                failures[index] = self._invalid(index, error)
                continue
            job = ObjectRun(child, index, arguments, self._run_id, self._tags)
            # Quoted, so that Prefect does not look through the object.
            futures[index] = object_task(flow.name, index).submit(quote(job))
        results: dict[int, Any] = {}
        for index, future in futures.items():
            future.wait()
            if future.state.is_completed():
                results[index] = future.result(raise_on_failure=False)
            else:
                failures[index] = future.state.message or str(future.state.name)
        return results, failures

    def _invalid(self, index: int, error: BaseException) -> str:
        """Record that the parameters for an object are not valid; say why."""
        message = f"The parameters are not valid: {clip(error)}"
        id_ = result_id(self._run_id, index)
        self._report(Kind.RESULT, id_, message, index)
        return message

    def _report(
        self, kind: Kind, target: str, message: str, index: int | None = None
    ) -> None:
        if self._recording is None:
            return
        wrong = PipelineTaskStatus.VALIDATION_ERROR
        if kind is Kind.EXECUTION:
            wrong = PipelineTaskStatus.CONFIG_ERROR
        change = StateChange(
            id=derived_id("wrong", target),
            run_id=self._run_id,
            kind=kind,
            target=target,
            status=wrong,
            timestamp=datetime.now(UTC),
            message=message,
        )
        facts = FlowRunFacts(
            run_id=self._run_id,
            flow_run_id=self._run_id if index is None else "",
            pipeline_id=self._target.flow_name,
            is_mapped=True,
            index=index,
            pipeline_object=None if index is None else as_json(self._objects[index]),
        )
        self._recording.put(Batch([change], [facts]))
