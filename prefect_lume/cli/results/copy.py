"""``prefect-lume results copy``: from one results database to another."""

from __future__ import annotations

from typing import Any, Final

import click

from prefect_lume.cli._options import json_option
from prefect_lume.cli.results._parameters import (
    dry_run_option,
    duplicate_option,
    projects_option,
    query_option,
    type_option,
)
from prefect_lume.cli.results._running import open_results, print_report, shown
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import InvalidInputError
from prefect_lume.results import ResultsService
from prefect_lume.results.transfer import copy_results
from prefect_lume.results.writer import OnDuplicate

#: Stands for the embedded services where a Block's name is asked for.
EMBEDDED: Final = "embedded"


@click.command("copy")
@click.option(
    "--from",
    "source",
    metavar="NAME",
    required=True,
    help="Name of a stored LumeServices Block, or 'embedded'.",
)
@click.option(
    "--to",
    "target",
    metavar="NAME",
    required=True,
    help="Name of a stored LumeServices Block, or 'embedded'.",
)
@projects_option
@type_option
@query_option
@duplicate_option
@dry_run_option
@json_option
def command(
    source: str,
    target: str,
    projects: tuple[str, ...],
    result_type: str | None,
    query: dict[str, Any] | None,
    on_duplicate: OnDuplicate,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy results, with their blobs, to another results database.

    Done again it copies what is new. The source is not changed.
    """
    here, there = _open(source).db_service, _open(target).db_service
    if here.where == there.where:
        raise InvalidInputError(
            f"--from {source} and --to {target} are one results database: {here.where}."
        )
    with shown("Copying") as progress:
        report = copy_results(
            here,
            there,
            projects or None,
            query,
            result_type,
            on_duplicate,
            dry_run=dry_run,
            progress=progress,
        )
    print_report(report, there.where, as_json=as_json, dry_run=dry_run)


def _open(name: str) -> ResultsService:
    return open_results(LumeServices() if name == EMBEDDED else name)
