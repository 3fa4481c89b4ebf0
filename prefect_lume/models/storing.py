"""Registers a release of a model from its package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from prefect_lume.config import Context
from prefect_lume.errors import PackageError
from prefect_lume.packages import PackageSource, build_sdist, inspect_source
from prefect_lume.packages.downloads import download, is_remote, without_secret
from prefect_lume.registry import DeploymentRecord, ModelDBService


@dataclass(frozen=True)
class Release:
    """What is said of a release beside what its package says.

    Attributes:
        image: Container image; by default the package's own ``IMAGE``.
        asset_dir: Folder of the files that the model imports, if any.
        is_live: Whether it becomes the model's live deployment.
        description: What is to be said of it.
        tags: Key → value.
        aliases: Names that point at it from now on.
        parent_deployment_id: The deployment that it was made from.
        reason: Why, for the history.
    """

    image: str | None = None
    asset_dir: str | None = None
    is_live: bool = True
    description: str = ""
    tags: Mapping[str, str] | None = None
    aliases: Iterable[str] = ()
    parent_deployment_id: int | None = None
    reason: str = ""


def store(
    context: Context,
    registry: ModelDBService,
    model_id: int,
    source_path: str | Path,
    project_name: str,
    release: Release,
) -> DeploymentRecord:
    """Register a release, and the package's flows.

    Raises:
        PackageError: The source is not a model package.
        ConflictError: The version is registered with another source.
        NotFoundError: There is no such project or model.
    """
    registry.get_project(project_name)
    source = kept_source(context, source_path)
    if not source.flow_entrypoints:
        raise PackageError(
            f"{source.uri}: the package offers no flow. Name its flow or the "
            f"module of its flows in the entry point group 'orchestration': "
            f'"{source.import_name}.flow" = "{source.import_name}.flow".'
        )
    deployment_id = registry.store_deployment(
        model_id=model_id,
        version=source.version,
        source=source.uri,
        sha256=source.sha256,
        package_import_name=source.import_name,
        asset_dir=release.asset_dir,
        image=release.image or source.image,
        is_live=release.is_live,
        entrypoints=dict(source.flow_entrypoints),
        description=release.description,
        tags=release.tags,
        aliases=release.aliases,
        parent_deployment_id=release.parent_deployment_id,
        reason=release.reason,
    )
    stored = registry.get_deployment(deployment_id=deployment_id)
    _register_flows(context, registry, stored, project_name)
    return registry.get_deployment(deployment_id=deployment_id)


def kept_source(context: Context, source_path: str | Path) -> PackageSource:
    """Return a package that stays what it is: a folder is packed, an address fetched.

    Raises:
        PackageError: It is not a model package, or cannot be fetched.
    """
    kept = context.packages_path / "sources"
    if isinstance(source_path, str) and is_remote(source_path):
        found = inspect_source(download(source_path, kept))
        return replace(found, uri=without_secret(source_path))
    source = inspect_source(source_path)
    if source.kind != "directory":
        return source
    return inspect_source(build_sdist(source.path, kept))


def _register_flows(
    context: Context,
    registry: ModelDBService,
    deployment: DeploymentRecord,
    project_name: str,
) -> None:
    scheduling = context.scheduling_service()
    known = {flow.flow_name for flow in registry.get_flows(project_name=project_name)}
    for flow_name in deployment.entrypoints:
        # A version that is not live leaves the flows of the live one alone.
        if deployment.is_live or flow_name not in known:
            scheduling.register_flow(flow_name, project_name, deployment.deployment_id)
