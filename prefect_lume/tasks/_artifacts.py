"""Prefect artifacts that show a stored result in the UI of the run that made it."""

from __future__ import annotations

import base64
import re
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
    name = key or f"result-{result.unique_hash[:12]}"
    if not _KEY.fullmatch(name):
        raise InvalidInputError(
            f"{clip(repr(name), 80)} cannot be the key of an artifact: use small "
            f"letters, digits and single dashes."
        )
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
            url = f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
            artifacts.append(
                ArtifactCreate(
                    key=f"{name}-plot",
                    type="image",
                    description=about,
                    data=url,
                    **_run(result),
                )
            )
    with get_client(sync_client=True) as client:
        for artifact in artifacts:
            client.create_artifact(artifact)


def _run(result: Result) -> dict[str, UUID]:
    """Return the run that made the result, and the task that runs now if it is its."""
    task_run, flow_run = TaskRunContext.get(), FlowRunContext.get()
    running = None
    if task_run is not None:
        running = task_run.task_run.flow_run_id
    elif flow_run is not None and flow_run.flow_run is not None:
        running = flow_run.flow_run.id
    try:
        made_by = UUID(result.flow_run_id) if result.flow_run_id else running
    except ValueError:
        # Not one of this Prefect's ids: the result was made elsewhere.
        made_by = running
    found = {} if made_by is None else {"flow_run_id": made_by}
    if task_run is not None and made_by == running:
        found["task_run_id"] = task_run.task_run.id
    return found


def _about(result: Result) -> str:
    return (
        f"{result.type_name} result of project {result.project_name}, "
        f"unique_hash {result.unique_hash}"
    )


def _markdown(result: Result) -> str:
    rows = list(flatten(result))
    lines = [
        f"### {_escaped(result.type_name)} result",
        "",
        "| origin | |",
        "|---|---|",
        _row("project", result.project_name),
        _row("unique hash", f"`{result.unique_hash}`", raw=True),
        _row("stored", result.date_modified.isoformat(timespec="seconds")),
        _row("flow run", result.flow_run_id or "unknown"),
        _row("deployment", result.deployment_id or "unknown"),
        "",
        "| value | |",
        "|---|---|",
        *(_row(path, describe(value, limit=200)) for path, value in rows[:_MOST_ROWS]),
    ]
    if len(rows) > _MOST_ROWS:
        lines.append(_row(f"… {len(rows) - _MOST_ROWS} more", ""))
    return "\n".join(lines)


def _row(name: Any, value: Any, *, raw: bool = False) -> str:
    return f"| {_escaped(name)} | {value if raw else _escaped(value)} |"


def _escaped(text: Any) -> str:
    """Return text that markdown shows as it is."""
    kept = re.sub(r"([\\`*_{}\[\]<>|#~$!&])", r"\\\1", str(text))
    # What reads like an address is text, too, not a link.
    return re.sub(r"\s+", " ", kept).replace("://", r"\://")
