"""Finds the flow of every subflow: given, registered, or a Prefect deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterName,
)
from prefect.exceptions import ObjectNotFound

from prefect_lume.composer.packages import import_entrypoint, import_flow
from prefect_lume.composer.signatures import signature_of, signature_of_deployment
from prefect_lume.composition import ComposingFlow, SubflowSignature
from prefect_lume.config import open_context
from prefect_lume.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

    from prefect_lume.registry import DeploymentRecord, FlowRecord


@dataclass(frozen=True)
class Located:
    """A subflow's flow, and what is known of it.

    Attributes:
        signature: Its parameters and tasks.
        flow: The flow object; ``None`` when only a Prefect deployment is known.
        deployment: The registry's deployment that serves it, if it was found there.
    """

    signature: SubflowSignature
    flow: Flow[..., Any] | None = None
    deployment: DeploymentRecord | None = None


def prefect_deployment_name(subflow: ComposingFlow) -> str:
    """Return the name of the Prefect deployment that runs a subflow."""
    named = subflow.prefect_deployment
    return named or f"{subflow.flow_name}/{subflow.project_name}"


def find_prefect_deployment(
    client: SyncPrefectClient, name: str, project_name: str
) -> DeploymentResponse:
    """Return a Prefect deployment by its name.

    The one of a project, ``flow/project``, keeps its name when the project is renamed:
    then it is the only one of its flow that has the project's tag.

    Args:
        client: Prefect's client.
        name: Its name, ``flow/deployment``.
        project_name: The flow's project.

    Raises:
        ObjectNotFound: There is none.
    """
    flow_name, _, own_name = name.partition("/")
    try:
        return client.read_deployment_by_name(name)
    except (ObjectNotFound, ValueError) as error:
        # The name of a project may have characters that Prefect takes in none.
        if own_name != project_name:
            raise ObjectNotFound(error) from error
        found = client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])),
            deployment_filter=DeploymentFilter(
                tags=DeploymentFilterTags(all_=[project_name])
            ),
            limit=2,
        )
        if len(found) != 1:
            raise ObjectNotFound(error) from error
        return found[0]


def locate(
    subflow: ComposingFlow,
    given: Mapping[str, Flow[..., Any] | str],
    compose: Callable[[FlowRecord], Flow[..., Any]],
    services: Any = None,
) -> Located | None:
    """Return the flow of a subflow, or ``None`` if there is none anywhere.

    Args:
        subflow: The subflow.
        given: Subflow name or flow name → flow, or ``"module:attribute"``.
        compose: Makes the flow of a registered flow-of-flows that takes part in this
            one.
        services: Whose registry to ask.

    Raises:
        PackageError: The flow is registered, and its package cannot be imported.
    """
    found = given.get(subflow.name, given.get(subflow.flow_name))
    if found is not None:
        flow = import_entrypoint(found) if isinstance(found, str) else found
        return _of_flow(flow, subflow)
    registered = _registered(subflow, compose, services)
    if registered is not None:
        return registered
    return _deployed(subflow)


def _of_flow(
    flow: Any, subflow: ComposingFlow, deployment: DeploymentRecord | None = None
) -> Located:
    if not isinstance(flow, Flow):
        raise InvalidInputError(
            f"The flow of the subflow {subflow.name!r} is a {type(flow).__name__}: "
            f"give a flow or 'module:attribute'."
        )
    if flow.isgenerator:
        raise InvalidInputError(
            f"The flow {flow.name!r} of the subflow {subflow.name!r} yields: a subflow "
            f"must return. Collect what it yields in a list and return that."
        )
    return Located(signature_of(flow, subflow.project_name), flow, deployment)


def _registered(
    subflow: ComposingFlow,
    compose: Callable[[FlowRecord], Flow[..., Any]],
    services: Any,
) -> Located | None:
    context = open_context(services)
    registry = context.model_db_service()
    try:
        record: FlowRecord = registry.get_flow(
            flow_name=subflow.flow_name, project_name=subflow.project_name
        )
    except NotFoundError:
        return None
    if record.deployment is not None:
        flow = import_flow(record.deployment, record.flow_name, context.packages_path)
        return _of_flow(flow, subflow, record.deployment)
    if record.composition is not None:
        return _of_flow(compose(record), subflow)
    return None


def _deployed(subflow: ComposingFlow) -> Located | None:
    with get_client(sync_client=True) as client:
        try:
            deployment = find_prefect_deployment(
                client, prefect_deployment_name(subflow), subflow.project_name
            )
        except ObjectNotFound:
            return None
    signature = signature_of_deployment(
        subflow.flow_name, deployment, subflow.project_name
    )
    return Located(signature)
