"""A deployable flow that registers a model package in the services it is given."""

from prefect import flow

from prefect_lume.tasks import register_deployment, register_model


@flow(name="register-package")
def register_package(
    source_path: str,
    project_name: str,
    author: str,
    laboratory: str,
    facility: str,
    beampath: str,
    description: str,
    is_live: bool = True,
    services: str = "",
) -> int:
    """Register a model package: its model, deployment, project and flows.

    Args:
        source_path: An sdist, a wheel or a source directory that the worker can read.
        project_name: The project of the package's flows; created if it is new.
        author: Who wrote the model.
        laboratory: Whose it is.
        facility: The machine it describes.
        beampath: The part of the machine.
        description: What it does, in a line.
        is_live: Whether this version becomes the model's live one.
        services: Name of a LumeServices Block; empty means the default.

    Returns:
        The deployment's id in the registry.
    """
    model_id = register_model(
        author, laboratory, facility, beampath, description, services=services or None
    )
    return register_deployment(
        source_path,
        model_id,
        project_name,
        is_live=is_live,
        services=services or None,
    )
