"""``prefect-lume runs cleanup``: remove the records of old runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._parameters import Duration, dry_run_option, yes_option
from prefect_lume.cli.results._running import confirm
from prefect_lume.cli.runs._parameters import When, open_services
from prefect_lume.cli.runs._shown import counts_json, iso, time_text
from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines.describing import counts_text
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.tally import Counts, counts_of
from prefect_lume.results.describing import counted

_STAY = "Result documents stay: `prefect-lume results prune` looks after those."


@click.command("cleanup")
@click.option(
    "--before",
    metavar="WHEN",
    type=When(),
    help="Remove runs that started before: 2026-01-31, 2026-01-31T12:00, yesterday.",
)
@click.option(
    "--older-than",
    metavar="DURATION",
    type=Duration(),
    help="Remove runs that started longer ago than this, such as 90d, 12h or 2w.",
)
@click.option("--all", "everything", is_flag=True, help="Remove every run.")
@dry_run_option
@yes_option
@services_option
@json_option
def command(
    before: datetime | None,
    older_than: timedelta | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Remove the records of old runs, those that never started included.

    Runs, their tasks and their state changes go; the result documents that they
    stored stay. A run that still runs goes as well, if it started before that time.
    """
    limit = _limit(before, older_than, everything=everything)
    storage = open_services(services).pipeline_storage()
    counts = counts_of(storage.tally(Kind.EXECUTION, before=limit))
    oldest = storage.find(Kind.EXECUTION, before=limit, limit=1)
    newest = storage.find(Kind.EXECUTION, before=limit, limit=1, newest_first=True)
    outlook = _outlook(counts, oldest, newest, limit)
    number = counts.total + counts.superseded
    if not number or dry_run:
        if as_json:
            click.echo(json.dumps({**outlook, "dry_run": dry_run, "removed": []}))
        else:
            click.echo(_told("would go" if number else "", outlook, counts))
        return
    if not yes:
        click.echo(_told("will go", outlook, counts), err=True)
        confirm("Remove them?")
    removed = storage.cleanup(limit)
    if as_json:
        click.echo(json.dumps({**outlook, "dry_run": False, "removed": removed}))
        return
    for run_id in removed:
        click.echo(run_id)
    click.echo(f"Removed {counted(len(removed), 'run')}. {_STAY}", err=True)


def _limit(
    before: datetime | None, older_than: timedelta | None, *, everything: bool
) -> datetime | None:
    given = [before is not None, older_than is not None, everything]
    if sum(given) != 1:
        raise InvalidInputError(
            "Say what to remove by one of --before WHEN, --older-than DURATION and "
            "--all, for example --older-than 90d."
        )
    if older_than is None:
        return before
    try:
        return datetime.now(UTC) - older_than
    except OverflowError:
        raise InvalidInputError(
            "--older-than reaches back beyond the calendar: nothing is that old."
        ) from None


def _outlook(
    counts: Counts, oldest: list[Row], newest: list[Row], limit: datetime | None
) -> dict[str, Any]:
    return {
        "before": iso(limit),
        "runs": counts_json(counts),
        "oldest": iso(_when(oldest[0])) if oldest else None,
        "newest": iso(_when(newest[0])) if newest else None,
    }


def _when(row: Row) -> datetime | None:
    return row.started or row.created


def _told(verb: str, outlook: dict[str, Any], counts: Counts) -> str:
    if not verb:
        return "There is no such run: nothing to remove."
    oldest, newest = (
        time_text(datetime.fromisoformat(outlook[end])) if outlook[end] else "unknown"
        for end in ("oldest", "newest")
    )
    runs = counted(counts.total, "run")
    return (
        f"{runs} {verb} ({counts_text(counts)}), the oldest of {oldest} UTC, the "
        f"newest of {newest} UTC, with all tasks and state changes. {_STAY}"
    )
