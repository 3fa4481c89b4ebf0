"""What the commands that move or remove results share: services, progress, reports."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from prefect_lume.cli._progress import quiet_prefect
from prefect_lume.cli.results._tables import add, output, plain_table
from prefect_lume.config import open_context
from prefect_lume.errors import InvalidInputError
from prefect_lume.results.describing import counted, size_text

if TYPE_CHECKING:
    from prefect_lume.credentials import LumeServices
    from prefect_lume.results import ResultsService
    from prefect_lume.results.transfer import TransferReport


def open_results(services: LumeServices | str | None) -> ResultsService:
    """Return the results service of a Block, a stored Block's name, or the default."""
    with quiet_prefect():
        return open_context(services).results_db_service()


@contextmanager
def shown(
    title: str, interrupted: str = "What was done stays; run it again to go on."
) -> Iterator[Callable[[int, int, int], None]]:
    """Show a bar on the error stream, if that is a terminal, while the block runs.

    Args:
        title: What is being done.
        interrupted: What somebody who stops it is told.

    Yields:
        To be called with documents done, documents in all, and bytes done.
    """
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[size]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(title, total=None, size="")

        def tell(done: int, total: int, size: int) -> None:
            bar.update(task, completed=done, total=total, size=size_text(size))

        try:
            yield tell
        except KeyboardInterrupt:
            bar.stop()
            click.echo(f"{title} was interrupted. {interrupted}", err=True)
            raise


def confirm(question: str) -> None:
    """Ask whether to go on, on a terminal; elsewhere ask for ``--yes``.

    Raises:
        InvalidInputError: Nobody can be asked.
        Abort: The answer was no.
    """
    if not sys.stdin.isatty():
        raise InvalidInputError(
            "Nobody is there to confirm this: add --yes to do it, or --dry-run to see "
            "what would be done."
        )
    click.confirm(question, abort=True, err=True)


def print_report(
    report: TransferReport, where: str, *, as_json: bool, dry_run: bool = False
) -> None:
    """Print what an export, import or copy did.

    Args:
        report: What it returned.
        where: Where the results went.
        as_json: For a script.
        dry_run: Whether nothing was done.
    """
    if as_json:
        found = dataclasses.asdict(report)
        click.echo(json.dumps({**found, "where": where, "dry_run": dry_run}))
        return
    table = plain_table("project", "results", numbers=("results",))
    for project, count in report.projects.items():
        add(table, project, count)
    if report.projects:
        output().print(table)
    would = "would be " if dry_run else ""
    of = counted(report.documents, "result")
    parts = [f"{report.stored} of {of} {would}written"]
    if report.present:
        were = "was" if report.present == 1 else "were"
        parts.append(f"{report.present} {were} there already")
    if not dry_run:
        size = size_text(report.blob_bytes)
        parts.append(f"{counted(report.blobs, 'blob')} ({size})")
    click.echo(f"{where}: {', '.join(parts)}.")
