"""``prefect-lume runs list``: runs as a table, the newest first."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, cast

import click
from rich.text import Text

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._parameters import MOST
from prefect_lume.cli.results._tables import cell, output, plain_table
from prefect_lume.cli.runs._lookup import NO_RUNS
from prefect_lume.cli.runs._parameters import When, open_services
from prefect_lume.cli.runs._shown import (
    SHORT,
    brief_counts,
    counts_json,
    pin,
    row_json,
    status_text,
    time_text,
)
from prefect_lume.errors import name_list
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.describing import duration_text, seconds_of
from prefect_lume.pipelines.rows import ExecutionRow, Kind
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.pipelines.tally import NO_COUNTS, Counts, counts_by_parent
from prefect_lume.results.describing import counted

_TOGETHER = 500
#: Below this width the year is left out.
_NARROW = 120
#: Below this one, Prefect's own names of states.
_NARROWEST = 100


@click.command("list")
@click.option("--pipeline", metavar="NAME", help="Only runs of this pipeline (flow).")
@click.option(
    "--status",
    "statuses",
    type=click.Choice([*PipelineTaskStatus], case_sensitive=False),
    multiple=True,
    help="Only runs of this status. It may be given many times.",
)
@click.option("--project", metavar="NAME", help="Only runs of this project.")
@click.option(
    "--deployment",
    metavar="N",
    type=click.IntRange(1, MOST),
    help="Only runs of this deployment, by the registry's number.",
)
@click.option(
    "--since",
    metavar="WHEN",
    type=When(),
    help="Only runs that started since: 2026-01-31, 2026-01-31T12:00, today, 2h, 7d.",
)
@click.option("--before", metavar="WHEN", type=When(), help="Only those before.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, MOST),
    default=20,
    show_default=True,
    help="The most runs to show.",
)
@services_option
@json_option
def command(
    pipeline: str | None,
    statuses: tuple[PipelineTaskStatus, ...],
    project: str | None,
    deployment: int | None,
    since: datetime | None,
    before: datetime | None,
    limit: int,
    services: str | None,
    as_json: bool,
) -> None:
    """List runs, the newest first.

    A RUN is named by its id or the beginning of it, here as elsewhere.
    """
    storage = open_services(services).pipeline_storage()
    asked = {
        "pipeline_id": pipeline,
        "status": list(statuses) or None,
        "project_name": project,
        "deployment_id": deployment,
    }
    where = {name: value for name, value in asked.items() if value is not None}
    found: list[Any] = storage.find(
        Kind.EXECUTION,
        where,
        since=since,
        before=before,
        limit=limit + 1,
        newest_first=True,
    )
    rows = cast("list[ExecutionRow]", found[:limit])
    objects = _objects(storage, [row.id for row in rows])
    if as_json:
        listed = [
            {**row_json(row), "objects": counts_json(objects.get(row.id, NO_COUNTS))}
            for row in rows
        ]
        click.echo(json.dumps(listed))
    elif rows:
        print_runs(rows, objects)
        if len(found) > limit:
            shown = counted(limit, "run")
            click.echo(f"{shown}; there are more: use --limit.", err=True)
    else:
        click.echo(_nothing(storage, where, pipeline), err=True)


def _objects(storage: PipelineStorage, ids: list[str]) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for start in range(0, len(ids), _TOGETHER):
        where = {"parent_id": ids[start : start + _TOGETHER]}
        found |= counts_by_parent(storage.tally(Kind.RESULT, where))
    return found


def print_runs(rows: list[ExecutionRow], objects: dict[str, Counts]) -> None:
    """Print runs as a table, with the counts of the objects of those that have some."""
    console = output()
    narrow = console.width < _NARROW
    names = ["run", "started (UTC)", "pipeline", "name", "status"]
    if any(row.is_mapped for row in rows):
        names.append("objects")
    table = plain_table(*names, "duration", numbers=("duration",))
    digits = _telling_length([row.id for row in rows])
    for row in rows:
        started = time_text(row.started) or "not started"
        cells: list[Text] = [
            cell(row.id[:digits]),
            cell(started[len("2026-") :] if narrow and row.started else started),
            cell(row.pipeline_id),
            cell(row.run_name),
            status_text(row, brief=console.width < _NARROWEST),
        ]
        if "objects" in names:
            counts = objects.get(row.id, NO_COUNTS)
            cells.append(brief_counts(counts) if row.is_mapped else Text())
        cells.append(cell(duration_text(seconds_of(row))))
        table.add_row(*cells)
    pin(table, console.width, "pipeline", "name")
    console.print(table)


def _telling_length(ids: list[str]) -> int:
    """Return how many characters tell these ids from each other, eight at least."""
    digits = SHORT
    while len({id_[:digits] for id_ in ids}) < len(set(ids)):
        digits += 4
    return digits


def _nothing(
    storage: PipelineStorage, where: dict[str, Any], pipeline: str | None
) -> str:
    """Say why nothing is listed."""
    if not storage.find(Kind.EXECUTION, limit=1):
        return NO_RUNS
    known = storage.get_pipeline_digest()
    if pipeline is not None and pipeline not in known:
        return f"No run of a pipeline {pipeline!r}. There are: {name_list(known)}."
    asked = " and ".join(name for name in where) or "that time"
    return f"No run matches {asked}."
