"""Tasks that show recorded runs in the Prefect UI."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.actions import ArtifactCreate

from prefect_lume._optional import installed
from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import NotFoundError
from prefect_lume.pipelines.tree import read_tree
from prefect_lume.tasks._artifacts import (
    checked_key,
    create,
    of_running,
    picture_data,
)
from prefect_lume.tasks._run_artifacts import digest_markdown, run_markdown


@task(name="publish_digest", cache_policy=NO_CACHE)
def publish_digest(
    pipeline: str | None = None,
    *,
    key: str = "pipelines",
    services: LumeServices | str | None = None,
) -> None:
    """Show in the Prefect UI how often each pipeline ran, and how well.

    A markdown artifact with a table. In a flow with a schedule it is always fresh: the
    UI shows the latest version of a key, and the earlier ones.

    Args:
        pipeline: Only this pipeline.
        key: The artifact's key: small letters, digits and dashes.
        services: The services Block, its name, or nothing for the default.

    Raises:
        NotFoundError: There is no such pipeline.
        InvalidInputError: The key has another form.

    Example:
        ```python
        from prefect import flow
        from prefect_lume.tasks import publish_digest

        @flow
        def every_morning():
            publish_digest()
        ```
    """
    name = checked_key(key)
    digest = open_context(services).pipeline_storage().get_pipeline_digest()
    if pipeline is not None:
        if pipeline not in digest:
            raise NotFoundError("pipeline", pipeline, digest)
        digest = {pipeline: digest[pipeline]}
    artifact = ArtifactCreate(
        key=name,
        type="markdown",
        description="How often each pipeline ran, and how well",
        data=digest_markdown(digest),
        **of_running(),
    )
    create([artifact])


@task(name="publish_run", cache_policy=NO_CACHE)
def publish_run(
    run_id: str,
    *,
    key: str | None = None,
    plot: bool = True,
    services: LumeServices | str | None = None,
) -> None:
    """Show a recorded run in the Prefect UI: its tasks, and what ran when.

    A markdown artifact with the tasks; of many runs those that failed or run are
    listed, the others are counted. Where matplotlib is installed also a Gantt plot.

    Args:
        run_id: The run: Prefect's id of the flow run.
        key: The artifacts' key; the plot's ends in `-plot`. By default each run has
            its own.
        plot: Whether to draw the plot.
        services: The services Block, its name, or nothing for the default.

    Raises:
        NotFoundError: No such run was recorded.
        InvalidInputError: The key has another form.
    """
    given = key or f"run-{''.join(c for c in run_id.lower() if c.isalnum())[:12]}"
    name = checked_key(given)
    storage = open_context(services).pipeline_storage()
    tree = read_tree(storage, run_id)
    about = f"Run {run_id} of {tree.row.pipeline_id}"
    artifacts = [
        ArtifactCreate(
            key=name,
            type="markdown",
            description=about,
            data=run_markdown(tree),
            **of_running(),
        )
    ]
    if plot and installed("matplotlib"):
        from prefect_lume.pipelines.gantt import gantt_png

        artifacts.append(
            ArtifactCreate(
                key=f"{name}-plot",
                type="image",
                description=about,
                data=picture_data(gantt_png(storage, run_id)),
                **of_running(),
            )
        )
    create(artifacts)
