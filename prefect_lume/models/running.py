"""Runs a flow of a deployment: in this process, or as a Prefect deployment."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect import tags
from prefect.client.orchestration import get_client
from prefect.utilities.callables import get_call_parameters

from prefect_lume.composer.child import as_child
from prefect_lume.composer.failure import cause
from prefect_lume.composer.keeping import Noted
from prefect_lume.composer.packages import import_flow
from prefect_lume.composer.results import all_returned, returned
from prefect_lume.config import Context, running_deployment, running_services
from prefect_lume.errors import (
    FlowRunError,
    InvalidInputError,
    NotFoundError,
    clip,
    name_list,
)
from prefect_lume.recorder import recorded
from prefect_lume.registry import DeploymentRecord

if TYPE_CHECKING:
    from uuid import UUID

    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun


@dataclass(frozen=True)
class Order:
    """What is to run.

    Attributes:
        deployment: The registry's deployment, whose code runs.
        flow_name: Its flow.
        project_name: The flow's project, or "" if it has none.
        parameters: The flow's parameters, by name.
        kept_tasks: The tasks whose results will be asked for.
    """

    deployment: DeploymentRecord
    flow_name: str
    project_name: str
    parameters: Mapping[str, Any]
    kept_tasks: frozenset[str]

    @property
    def tags(self) -> list[str]:
        """The tags of the run."""
        return [self.project_name] if self.project_name else []


@dataclass(frozen=True)
class Ran:
    """A run of a model's flow, and where its tasks' results are, if that is known."""

    run: FlowRun
    noted: Noted | None = None

    def value(self, task_name: str | None) -> Any:
        """Return what the flow returned, or its task of that name.

        Returns:
            The value; of a task that ran several times a list, in the order in which
            the flow made these runs.

        Raises:
            FlowRunError: The run did not complete.
            NotFoundError: No such task completed; the message lists those that ran.
            DecodingError: The result was not kept in a form that can be read.
        """
        state = self.run.state
        if state is None or not state.is_completed():
            raise FlowRunError(
                str(self.run.id),
                f"The flow run {self.run.name!r} ({self.run.id}) did not complete: "
                f"{cause(state)}",
            )
        if task_name is None:
            return returned(self.run, None)
        values = all_returned(self.run, task_name, self.noted)
        return values[0] if len(values) == 1 else values


def is_here(run_on: str, prefect_deployment: str | None, timeout: float | None) -> bool:
    """Tell whether a flow is to run in this process.

    Raises:
        InvalidInputError: The arguments do not go together.
    """
    if run_on not in {"process", "deployment"}:
        raise InvalidInputError(
            f"run_on is {clip(repr(run_on), 60)}: it must be 'process' or 'deployment'."
        )
    if timeout is not None and timeout < 0:
        raise InvalidInputError(f"timeout is {timeout}: it must not be negative.")
    here = run_on == "process" and prefect_deployment is None
    if here and timeout is not None:
        raise InvalidInputError(
            "wait and timeout are for runs of a Prefect deployment: say "
            "run_on='deployment'. A flow in this process is waited for until it ends."
        )
    return here


def flow_of(
    deployment: DeploymentRecord, flow_name: str | None, prefect_deployment: str | None
) -> str:
    """Return the name of the flow of a deployment that is to run.

    Raises:
        InvalidInputError: It offers several, and none is named; or two are.
        NotFoundError: It offers no such flow.
    """
    offered = sorted(deployment.entrypoints)
    if prefect_deployment is not None:
        of_that, slash, _ = prefect_deployment.partition("/")
        if not slash or flow_name not in (None, of_that):
            raise InvalidInputError(
                f"The Prefect deployment {clip(repr(prefect_deployment), 120)} is not "
                f"named {flow_name or 'flow'}/deployment."
            )
        flow_name = of_that
    if flow_name is None:
        if len(offered) == 1:
            return offered[0]
        raise InvalidInputError(
            f"Deployment {deployment.deployment_id} of the package "
            f"{deployment.package_import_name!r} offers {len(offered)} flows "
            f"({name_list(offered)}): say which one by flow_name."
        )
    if flow_name not in deployment.entrypoints:
        raise NotFoundError(
            f"flow in deployment {deployment.deployment_id}", flow_name, offered
        )
    return flow_name


def run_in_process(context: Context, order: Order) -> Ran:
    """Run a flow here, as Prefect runs a flow that is called; it may be in a flow.

    Returns:
        The run, whatever its state: what the flow raises is in it.

    Raises:
        PackageError: The package cannot be imported, or another version of it is.
        IntegrityError: The source is not the one that was registered.
        InvalidInputError: The parameters do not fit.
    """
    name = order.flow_name
    flow = import_flow(order.deployment, name, context.packages_path)
    complete = _complete(flow, order)
    noted = Noted()
    storage = context.services.file_storage or None
    child = as_child(flow, order.kept_tasks, storage=storage, noted=noted)
    # Nobody else has named the run.
    child.flow_run_name = flow.flow_run_name
    if context.settings.record:
        child = recorded(child, services=context.services)
    deployment = running_deployment.set(order.deployment.deployment_id)
    services = running_services.set(context.services)
    try:
        with tags(*order.tags):
            outcome: Any = child(**complete, return_state=True)
            if asyncio.iscoroutine(outcome):
                outcome = _finished(outcome)
    finally:
        running_services.reset(services)
        running_deployment.reset(deployment)
    run_id: UUID | None = outcome.state_details.flow_run_id
    if run_id is None:
        raise FlowRunError("", f"The flow {name!r} could not be run: {cause(outcome)}")
    with get_client(sync_client=True) as client:
        return Ran(client.read_flow_run(run_id), noted)


def _complete(flow: Flow[..., Any], order: Order) -> dict[str, Any]:
    if flow.isgenerator:
        raise InvalidInputError(
            f"The flow {flow.name!r} yields: collect what it yields in a list and "
            f"return that."
        )
    try:
        return get_call_parameters(flow.fn, (), dict(order.parameters))
    except TypeError as error:
        raise InvalidInputError(
            f"The parameters do not fit the flow {order.flow_name!r}: {error}. It "
            f"takes {name_list(flow.parameters.properties)}."
        ) from error


def _finished(outcome: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, also where a loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(outcome)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(
            contextvars.copy_context().run, asyncio.run, outcome
        ).result()
