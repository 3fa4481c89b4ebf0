"""Runs a flow of a deployment: in this process, or as a Prefect deployment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect.client.orchestration import get_client
from prefect.deployments.flow_runs import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.states import Pending
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.utilities.callables import get_call_parameters

from prefect_lume.composer.child import as_child
from prefect_lume.composer.keeping import Noted
from prefect_lume.composer.packages import import_flow
from prefect_lume.composer.remote_names import ENTRYPOINT, KEEP
from prefect_lume.composer.results import returned
from prefect_lume.config import Context
from prefect_lume.config.current import running_deployment
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
    from prefect.client.schemas.objects import FlowRun


@dataclass(frozen=True)
class Ran:
    """A run of a model's flow, and where its tasks' results are, if that is known."""

    run: FlowRun
    noted: Noted | None = None

    def value(self, task_name: str | None) -> Any:
        """Return what the flow returned, or its task of that name.

        Raises:
            FlowRunError: The run did not complete.
            NotFoundError: No such task completed; the message lists those that did.
            AmbiguousError: Several did.
            DecodingError: The result was not kept in a form that can be read.
        """
        state = self.run.state
        if state is None or not state.is_completed():
            name = state.name if state else "unknown"
            why = f": {clip(state.message)}" if state and state.message else ""
            raise FlowRunError(
                str(self.run.id),
                f"The flow run {self.run.name!r} ({self.run.id}) is {name}, not "
                f"Completed{why}",
            )
        return returned(self.run, task_name, self.noted)


def flow_of(deployment: DeploymentRecord, flow_name: str | None) -> str:
    """Return the name of the flow of a deployment that is to run.

    Raises:
        InvalidInputError: It offers several, and none is named.
        NotFoundError: It offers no such flow.
    """
    offered = sorted(deployment.entrypoints)
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


def run_in_process(
    context: Context,
    deployment: DeploymentRecord,
    flow_name: str,
    parameters: Mapping[str, Any],
    kept_tasks: frozenset[str],
) -> Ran:
    """Run a flow of a deployment here; what it raises is in its state.

    Raises:
        PackageError: The package cannot be imported, or another version of it is.
        IntegrityError: The source is not the one that was registered.
        InvalidInputError: The parameters do not fit.
    """
    flow = import_flow(deployment, flow_name, context.packages_path)
    try:
        complete = get_call_parameters(flow.fn, (), dict(parameters))
    except TypeError as error:
        raise InvalidInputError(
            f"The parameters do not fit the flow {flow_name!r}: {error}. It takes "
            f"{name_list(flow.parameters.properties)}."
        ) from error
    noted: Noted = {}
    storage = context.services.file_storage or None
    child = as_child(flow, kept_tasks, storage=storage, noted=noted)
    if context.settings.record:
        child = recorded(child, services=context.services)
    token = running_deployment.set(deployment.deployment_id)
    try:
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(
                flow=child,
                parameters=flow.serialize_parameters(complete),
                state=Pending(),
            )
            outcome = run_flow(
                child, flow_run=run, parameters=complete, return_type="state"
            )
            if asyncio.iscoroutine(outcome):
                asyncio.run(outcome)
            return Ran(client.read_flow_run(run.id), noted)
    finally:
        running_deployment.reset(token)


def run_elsewhere(
    deployment: str,
    parameters: Mapping[str, Any],
    kept_tasks: frozenset[str],
    timeout: float | None,
) -> Ran:
    """Run a Prefect deployment, and wait for its end.

    Args:
        deployment: Its name, ``flow/deployment``.
        parameters: The flow's parameters.
        kept_tasks: The tasks whose results will be asked for.
        timeout: Seconds to wait; ``None``: until it has ended.

    Raises:
        NotFoundError: There is no such Prefect deployment.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except (ObjectNotFound, ValueError) as error:
            known = [f"{d.name}" for d in client.read_deployments(limit=50)]
            raise NotFoundError(
                "Prefect deployment",
                deployment,
                known,
                hint="Name it as flow/deployment.",
            ) from error
    variables = None
    if found.entrypoint == ENTRYPOINT and kept_tasks:
        variables = {"env": {KEEP: json.dumps(sorted(kept_tasks))}}
    run = run_coro_as_sync(
        arun_deployment(
            found.id,
            parameters=dict(parameters),
            job_variables=variables,
            timeout=timeout,
            as_subflow=False,
        )
    )
    return Ran(run)
