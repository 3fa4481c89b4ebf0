"""Runs a flow of a deployment as a Prefect deployment, on its work pool."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.deployments.flow_runs import arun_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_lume.composer.location import find_prefect_deployment
from prefect_lume.composer.remote_names import (
    DEPLOYMENT,
    ENTRYPOINT,
    FLOW,
    FLOW_NAME,
    KEEP,
    PACKAGE,
)
from prefect_lume.errors import (
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
    clip,
)
from prefect_lume.models.running import Order, Ran
from prefect_lume.recorder.api.links import deployment_in

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

#: Seconds between two looks at a run that somebody else runs.
_POLL: Final = 0.5
_MOST_KNOWN: Final = 50
#: What the API answers to parameters that do not fit.
_UNFIT: Final = frozenset({409, 422})


def run_elsewhere(order: Order, name: str | None, timeout: float | None) -> Ran:
    """Run a Prefect deployment, and wait for its end.

    One that the composer made runs the very deployment of the order; any other one
    runs the code that it was made with.

    Args:
        order: What is to run.
        name: The Prefect deployment, ``flow/deployment``; left out, the one that is
            named after the project.
        timeout: Seconds to wait; ``None``: until it has ended.

    Raises:
        NotFoundError: There is no such Prefect deployment.
        InvalidInputError: The parameters do not fit.
        ConflictError: It runs another deployment of the registry.
        ConnectionFailedError: Prefect's server cannot be used.
    """
    name = name or f"{order.flow_name}/{order.project_name}"
    try:
        with get_client(sync_client=True) as client:
            found = _find(client, name, order)
        run = run_coro_as_sync(
            arun_deployment(
                found.id,
                parameters=dict(order.parameters),
                job_variables={"env": _environment(order, name, found)},
                timeout=timeout,
                poll_interval=_POLL,
                tags=order.tags,
            )
        )
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in _UNFIT:
            raise _unreachable(error) from error
        raise InvalidInputError(
            f"The parameters do not fit the Prefect deployment {name!r}: "
            f"{clip(_detail(error.response), 300)}"
        ) from error
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    return Ran(run)


def _find(client: SyncPrefectClient, name: str, order: Order) -> DeploymentResponse:
    try:
        return find_prefect_deployment(client, name, order.project_name)
    except (ObjectNotFound, ValueError) as error:
        flow = FlowFilter(name=FlowFilterName(any_=[order.flow_name]))
        some = client.read_deployments(flow_filter=flow, limit=_MOST_KNOWN)
        raise NotFoundError(
            "Prefect deployment",
            name,
            [f"{order.flow_name}/{deployment.name}" for deployment in some],
            hint="Make one with `prefect deploy`, or FlowOfFlows.deploy_subflows.",
        ) from error


def _environment(order: Order, name: str, found: DeploymentResponse) -> dict[str, str]:
    """Return what tells a worker whose code it runs, and which results to keep."""
    deployment = order.deployment
    own = {DEPLOYMENT: str(deployment.deployment_id)}
    if found.entrypoint != ENTRYPOINT:
        told = deployment_in(found.job_variables)
        if told not in (None, deployment.deployment_id):
            raise ConflictError(
                f"The Prefect deployment {name!r} runs deployment {told} of the "
                f"registry, not {deployment.deployment_id}: choose that one with "
                f"load_deployment, or bring the Prefect deployment up to date."
            )
        return own
    package = deployment.package_import_name
    return {
        **own,
        FLOW: deployment.entrypoints[order.flow_name],
        FLOW_NAME: order.flow_name,
        PACKAGE: f"{package}=={deployment.version}",
        KEEP: json.dumps(sorted(order.kept_tasks)),
    }


def _unreachable(error: httpx.HTTPError) -> ConnectionFailedError:
    return ConnectionFailedError(
        f"Prefect's server cannot be used ({clip(type(error).__name__)}): start it, or "
        f"correct PREFECT_API_URL."
    )


def _detail(response: httpx.Response) -> str:
    try:
        answer: Any = response.json()
    except ValueError:
        return response.text
    return str(answer.get("detail", answer) if isinstance(answer, dict) else answer)
