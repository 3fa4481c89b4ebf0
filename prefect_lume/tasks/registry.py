"""Tasks that register models and deployments."""

from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.models import Model


@task(name="register_model", cache_policy=NO_CACHE)
def register_model(
    author: str,
    laboratory: str,
    facility: str,
    beampath: str,
    description: str,
    *,
    services: LumeServices | str | None = None,
) -> int:
    """Register a model, or find the one whose five fields are the same.

    Args:
        author: Who wrote it.
        laboratory: Whose it is, for example `slac`.
        facility: The machine it describes, for example `lcls`.
        beampath: The part of the machine, for example `cu_hxr`.
        description: What it does, in a line.
        services: The services Block, its name, or nothing for the default.

    Returns:
        The model's id in the registry.

    Raises:
        InvalidInputError: A field is too long or holds a null byte.
        StorageError: The registry cannot be used.
    """
    model = Model.create_model(
        author=author,
        laboratory=laboratory,
        facility=facility,
        beampath=beampath,
        description=description,
        services=services,
    )
    return model.model_id


@task(name="register_deployment", cache_policy=NO_CACHE)
def register_deployment(
    source_path: str,
    model_id: int,
    project_name: str,
    *,
    project_description: str = "",
    image: str | None = None,
    asset_dir: str | None = None,
    is_live: bool = True,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    aliases: Sequence[str] = (),
    parent_deployment_id: int | None = None,
    reason: str = "",
    services: LumeServices | str | None = None,
) -> int:
    """Register a version of a model from its package, with the package's flows.

    Args:
        source_path: An sdist, a wheel or a source directory, or the `http(s)` address
            of an sdist or wheel. It is read, never run.
        model_id: The model, as `register_model` returned it.
        project_name: The project of the package's flows; created if it is new.
        project_description: What the project is about; empty keeps the one it has.
        image: Container image; by default the package's own `IMAGE`.
        asset_dir: Folder of the files that the model imports, if any.
        is_live: Whether this version becomes the model's live one.
        description: What is to be said of this release.
        tags: Key → value, what else to note of it.
        aliases: Names that point at it from now on, for example `candidate`.
        parent_deployment_id: The deployment that it was made from.
        reason: Why, for the history.
        services: The services Block, its name, or nothing for the default.

    Returns:
        The deployment's id in the registry. Registering the same package again returns
        the first one's.

    Raises:
        PackageError: The source is not a model package.
        NotFoundError: There is no such model.
        ConflictError: The version is registered with another source.
    """
    context = open_context(services)
    model = Model.get_model(services, model_id=model_id)
    context.scheduling_service().create_project(project_name, project_description)
    deployment = model.store_deployment(
        source_path,
        project_name,
        image=image,
        asset_dir=asset_dir,
        is_live=is_live,
        description=description,
        tags=tags,
        aliases=aliases,
        parent_deployment_id=parent_deployment_id,
        reason=reason,
    )
    return deployment.deployment_id
