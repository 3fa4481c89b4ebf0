"""Makes a Prefect deployment of every subflow, so that a work pool can run it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from prefect_lume.composer.location import Located, prefect_deployment_name
from prefect_lume.composer.remote_names import (
    DEPLOYMENT,
    ENTRYPOINT,
    FLOW,
    FLOW_NAME,
    HOME,
    PACKAGE,
    SERVICES,
)
from prefect_lume.composition import ComposingFlow
from prefect_lume.config import Context, open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import WorkPool


_MOST_POOLS: Final = 50


def deploy(
    subflows: Sequence[tuple[ComposingFlow, Located]],
    work_pool_name: str,
    *,
    job_variables: Mapping[str, Any],
    image: str | None,
    services: LumeServices | str | None,
) -> list[str]:
    """Create, or update, a Prefect deployment of each subflow's flow.

    Returns:
        Their names, without repetition. A flow of which only a Prefect deployment is
        known keeps that one.

    Raises:
        NotFoundError: There is no such work pool.
        ConfigurationError: A flow cannot be found by a worker, the services Block is
            not stored, or the work pool takes no image.
    """
    context = open_context(services)
    shared = _services_env(context, services)
    names: list[str] = []
    with get_client(sync_client=True) as client:
        pool = _pool(client, work_pool_name)
        if pool.type == "process" and SERVICES not in shared:
            # Same machine, same embedded databases, whatever the worker's home is.
            shared[HOME] = str(context.home)
        for subflow, located in subflows:
            name = prefect_deployment_name(subflow)
            if name in names:
                continue
            names.append(name)
            if located.flow is None:
                continue
            own = {**shared, **_flow_env(subflow, located, located.flow)}
            variables = _variables(own, job_variables, pool, image, located)
            _create(client, located.flow, subflow, name, work_pool_name, variables)
    return names


def _create(
    client: SyncPrefectClient,
    flow: Flow[..., Any],
    subflow: ComposingFlow,
    name: str,
    work_pool_name: str,
    job_variables: dict[str, Any],
) -> None:
    flow_name, _, deployment_name = name.partition("/")
    if flow_name != flow.name:
        raise ConfigurationError(
            f"The Prefect deployment {name!r} of the subflow {subflow.name!r} cannot "
            f"be made of the flow {flow.name!r}: name it '{flow.name}/...'."
        )
    client.create_deployment(
        flow_id=client.create_flow_from_name(flow_name),
        name=deployment_name,
        version=flow.version,
        description=flow.description,
        tags=[subflow.project_name, *subflow.labels],
        entrypoint=ENTRYPOINT,
        parameter_openapi_schema=flow.parameters.model_dump_for_openapi(),
        enforce_parameter_schema=True,
        job_variables=job_variables,
        work_pool_name=work_pool_name,
    )


def _variables(
    env: dict[str, str],
    given: Mapping[str, Any],
    pool: WorkPool,
    image: str | None,
    located: Located,
) -> dict[str, Any]:
    variables = {**given, "env": {**env, **(given.get("env") or {})}}
    taken = (pool.base_job_template.get("variables") or {}).get("properties") or {}
    if "image" in taken:
        chosen = image or (located.deployment.image if located.deployment else None)
        if chosen:
            variables["image"] = chosen
    elif image:
        raise ConfigurationError(
            f"The work pool {pool.name!r} of type {pool.type!r} takes no image: leave "
            f"image out, or name a Docker or Kubernetes work pool."
        )
    return variables


def _pool(client: SyncPrefectClient, name: str) -> WorkPool:
    try:
        return client.read_work_pool(name)
    except ObjectNotFound as error:
        known = [pool.name for pool in client.read_work_pools(limit=_MOST_POOLS)]
        raise NotFoundError(
            "work pool",
            name,
            known,
            hint=f"Create it: prefect work-pool create {name} --type process",
        ) from error


def _services_env(
    context: Context, services: LumeServices | str | None
) -> dict[str, str]:
    if isinstance(services, str):
        name: str | None = services
    elif services is None:
        name = getattr(context.services, "_block_document_name", None)
        name = name or context.settings.services or None
    else:
        name = getattr(services, "_block_document_name", None)
        if name is None:
            raise ConfigurationError(
                "Subflows on a work pool find their services by the Block's name: "
                "save the LumeServices Block first, services.save('lume')."
            )
    return {SERVICES: name} if name else {}


def _flow_env(
    subflow: ComposingFlow, located: Located, flow: Flow[..., Any]
) -> dict[str, str]:
    """Return what tells a worker which flow to import, and from where."""
    deployment = located.deployment
    if deployment is not None:
        return {
            FLOW: deployment.entrypoints[subflow.flow_name],
            FLOW_NAME: flow.name,
            DEPLOYMENT: str(deployment.deployment_id),
            PACKAGE: (f"{deployment.package_import_name}=={deployment.version}"),
        }
    module, name = flow.fn.__module__, flow.fn.__qualname__
    found = sys.modules.get(module)
    if module == "__main__" or "<" in name or found is None:
        raise ConfigurationError(
            f"A worker cannot import the flow {flow.name!r} of the subflow "
            f"{subflow.name!r}: it is defined in {module}:{name}. Move it to a module "
            f"of its own, or register the package that holds it."
        )
    env = {FLOW: f"{module}:{name}", FLOW_NAME: flow.name}
    file = getattr(found, "__file__", None)
    if file and "site-packages" not in file:
        levels = module.count(".") + (Path(file).name == "__init__.py")
        env["PYTHONPATH"] = str(Path(file).resolve().parents[levels])
    return env
