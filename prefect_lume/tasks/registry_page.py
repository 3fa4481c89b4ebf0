"""A task that shows the registry in the Prefect UI."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.actions import ArtifactCreate

from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.tasks._artifacts import checked_key, create, of_running
from prefect_lume.tasks._registry_markdown import registry_markdown


@task(name="publish_registry", cache_policy=NO_CACHE)
def publish_registry(
    *,
    key: str = "lume-registry",
    services: LumeServices | str | None = None,
) -> None:
    """Show in the Prefect UI what is live, since when, by whom and why.

    A markdown artifact: the live deployment of each model with source, hash, image,
    aliases and flows, and the last changes. In a flow with a schedule, or in one that
    an automation runs at each change of the registry, it is always fresh: the UI shows
    the latest version of a key, and the earlier ones.

    Args:
        key: The artifact's key: small letters, digits and dashes.
        services: The services Block, its name, or nothing for the default.

    Raises:
        InvalidInputError: The key has another form.
        StorageError: The registry cannot be used.

    Example:
        ```python
        from prefect import flow
        from prefect_lume.tasks import publish_registry

        @flow
        def every_morning():
            publish_registry()
        ```
    """
    name = checked_key(key)
    text = registry_markdown(open_context(services).model_db_service())
    artifact = ArtifactCreate(
        key=name,
        type="markdown",
        description="What the model registry has live, since when, by whom and why",
        data=text,
        **of_running(),
    )
    create([artifact])
