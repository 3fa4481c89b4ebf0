"""``prefect-lume results prune``: remove old results and unused blobs."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._parameters import (
    MOST,
    Duration,
    dry_run_option,
    projects_option,
    query_option,
    type_option,
    yes_option,
)
from prefect_lume.cli.results._running import confirm, open_results, shown
from prefect_lume.cli.results._tables import add, output, plain_table
from prefect_lume.errors import InvalidInputError
from prefect_lume.results.describing import counted, size_text
from prefect_lume.results.pruning import PruneReport, prune_results


@click.command("prune")
@click.option(
    "--older-than",
    metavar="DURATION",
    type=Duration(),
    default=None,
    help="Remove results older than this, such as 90d, 12h or 2w.",
)
@click.option(
    "--keep-last",
    metavar="N",
    type=click.IntRange(1, MOST),
    default=None,
    help="Keep the N newest results of each project and type.",
)
@projects_option
@type_option
@query_option
@click.option(
    "--blobs-older-than",
    metavar="DURATION",
    type=Duration(),
    default="1d",
    show_default=True,
    help="Remove unused blobs older than this.",
)
@dry_run_option
@yes_option
@services_option
@json_option
def command(
    older_than: timedelta | None,
    keep_last: int | None,
    projects: tuple[str, ...],
    result_type: str | None,
    query: dict[str, Any] | None,
    blobs_older_than: timedelta,
    dry_run: bool,
    yes: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Remove old results, expired ones, and blobs that no result holds.

    With both --older-than and --keep-last a result goes only if it is older and not
    among the newest. With neither, only expired results and unused blobs go.
    """
    if query and older_than is None and keep_last is None:
        raise InvalidInputError(
            "--query says among what to choose: add --older-than, --keep-last or both. "
            "To remove all that it finds use `prefect-lume results delete`."
        )
    service = open_results(services)
    chosen: dict[str, Any] = {
        "projects": projects or None,
        "older_than": older_than,
        "keep_last": keep_last,
        "result_type": result_type,
        "query": query,
        "blobs_older_than": blobs_older_than,
    }
    outlook = None
    if dry_run or not yes:
        outlook = prune_results(service, **chosen, dry_run=True)
        if not (dry_run and as_json):
            _print(outlook, err=not dry_run)
    if outlook is not None and not dry_run and not _empty(outlook):
        confirm("Remove them?")
    if outlook is not None and (dry_run or _empty(outlook)):
        if as_json:
            click.echo(_json(outlook))
        return
    total = outlook.documents if outlook else 0
    with shown("Removing") as progress:
        gone = 0

        def tell(removed: int) -> None:
            nonlocal gone
            gone += removed
            progress(gone, max(gone, total), 0)

        report = prune_results(service, **chosen, progress=tell)
    if as_json:
        click.echo(_json(report))
    else:
        _print(report)


def _empty(report: PruneReport) -> bool:
    return not (report.documents or report.expired or report.blobs)


def _json(report: PruneReport) -> str:
    found = dataclasses.asdict(report)
    return json.dumps({**found, "documents": report.documents})


def _print(report: PruneReport, *, err: bool = False) -> None:
    """Print what went, or would go, and what stays."""
    would = "would go" if report.dry_run else "removed"
    table = plain_table("project", "type", would, "kept", numbers=(would, "kept"))
    for row in report.types:
        add(table, row.project, row.result_type, row.removed, row.kept)
    if report.types:
        output(err=err).print(table)
    verb = "Would remove" if report.dry_run else "Removed"
    click.echo(
        f"{verb} {counted(report.documents, 'result')}, "
        f"{counted(report.expired, 'expired one')} and "
        f"{counted(report.blobs, 'unused blob')} ({size_text(report.blob_bytes)}).",
        err=err,
    )
