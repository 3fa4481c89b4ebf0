"""Prefect artifacts that show a stored result in the UI of the run that made it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import FlowRunContext, TaskRunContext

from prefect_lume._optional import installed
from prefect_lume.errors import InvalidInputError, clip
from prefect_lume.results import Result
from prefect_lume.results.describing import describe
from prefect_lume.results.flattening import flatten

_KEY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
#: A table of more rows is nothing to look at.
_MOST_ROWS = 200


def publish(result: Result, *, key: str | None = None, plot: bool = True) -> None:
    """Create the artifacts of a result.

    Args:
        result: A stored result, lazily loaded or not.
        key: The artifacts' key; the picture's ends in ``-plot``.
        plot: Whether to draw its arrays and tables, if matplotlib is installed.

    Raises:
        InvalidInputError: The key is not of small letters, digits and dashes.
    """
    name = checked_key(key or f"result-{result.unique_hash[:12]}")
    about = _about(result)
    artifacts = [
        ArtifactCreate(
            key=name,
            type="markdown",
            description=about,
            data=_markdown(result),
            **_run(result),
        )
    ]
    if plot and installed("matplotlib"):
        from prefect_lume.results.plotting import plot_png

        picture = plot_png(result)
        if picture is not None:
            artifacts.append(
                ArtifactCreate(
                    key=f"{name}-plot",
                    type="image",
                    description=about,
                    data=picture_data(picture),
                    **_run(result),
                )
            )
    create(artifacts)


def checked_key(key: str) -> str:
    """Return the key of an artifact.

    Raises:
        InvalidInputError: It is not of small letters, digits and dashes.
    """
    if not _KEY.fullmatch(key):
        raise InvalidInputError(
            f"{clip(repr(key), 80)} cannot be the key of an artifact: use small "
            f"letters, digits and single dashes."
        )
    return key


def picture_data(picture: bytes) -> str:
    """Return a PNG picture as the data of an image artifact."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"


def create(artifacts: Iterable[ArtifactCreate]) -> None:
    """Create artifacts on the Prefect server."""
    with get_client(sync_client=True) as client:
        for artifact in artifacts:
            client.create_artifact(artifact)


def of_running() -> dict[str, UUID]:
    """Return the task run and the flow run in which this code runs, as far as any."""
    task_run, flow_run = TaskRunContext.get(), FlowRunContext.get()
    found: dict[str, UUID] = {}
    if task_run is not None:
        found["task_run_id"] = task_run.task_run.id
        if task_run.task_run.flow_run_id is not None:
            found["flow_run_id"] = task_run.task_run.flow_run_id
    elif flow_run is not None and flow_run.flow_run is not None:
        found["flow_run_id"] = flow_run.flow_run.id
    return found


def _run(result: Result) -> dict[str, UUID]:
    """Return the run that made the result, and the task that runs now if it is its."""
    here = of_running()
    running = here.get("flow_run_id")
    try:
        made_by = UUID(result.flow_run_id) if result.flow_run_id else running
    except ValueError:
        # Not one of this Prefect's ids: the result was made elsewhere.
        made_by = running
    found = {} if made_by is None else {"flow_run_id": made_by}
    if "task_run_id" in here and made_by == running:
        found["task_run_id"] = here["task_run_id"]
    return found


def _about(result: Result) -> str:
    return (
        f"{result.type_name} result of project {result.project_name}, "
        f"unique_hash {result.unique_hash}"
    )


def _markdown(result: Result) -> str:
    rows = list(flatten(result))
    lines = [
        f"### {escaped(result.type_name)} result",
        "",
        "| origin | |",
        "|---|---|",
        markdown_row("project", result.project_name),
        markdown_row("unique hash", f"`{result.unique_hash}`", raw=True),
        markdown_row("stored", result.date_modified.isoformat(timespec="seconds")),
        markdown_row("flow run", result.flow_run_id or "unknown"),
        markdown_row("deployment", result.deployment_id or "unknown"),
        "",
        "| value | |",
        "|---|---|",
        *(
            markdown_row(path, describe(value, limit=200))
            for path, value in rows[:_MOST_ROWS]
        ),
    ]
    if len(rows) > _MOST_ROWS:
        lines.append(markdown_row(f"… {len(rows) - _MOST_ROWS} more", ""))
    return "\n".join(lines)


def markdown_row(name: Any, value: Any, *, raw: bool = False) -> str:
    """Return a row of a markdown table with two columns."""
    return f"| {escaped(name)} | {value if raw else escaped(value)} |"


def escaped(text: Any) -> str:
    """Return text that markdown shows as it is."""
    kept = re.sub(r"([\\`*_{}\[\]<>|#~$!&])", r"\\\1", str(text))
    # What reads like an address is text, too, not a link.
    return re.sub(r"\s+", " ", kept).replace("://", r"\://")
