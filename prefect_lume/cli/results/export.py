"""``prefect-lume results export``: results into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._parameters import (
    projects_option,
    query_option,
    type_option,
)
from prefect_lume.cli.results._running import open_results, print_report, shown
from prefect_lume.results.transfer import export_results


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@projects_option
@type_option
@query_option
@services_option
@json_option
def command(
    folder: Path,
    projects: tuple[str, ...],
    result_type: str | None,
    query: dict[str, Any] | None,
    services: str | None,
    as_json: bool,
) -> None:
    """Write results into FOLDER: JSON Lines and blobs.

    FOLDER must not exist yet, or be empty. It appears when all of it is written. Equal
    results make equal files, whatever database they come out of.
    """
    service = open_results(services)
    with shown("Exporting", "Nothing was written.") as progress:
        report = export_results(
            service, folder, projects or None, query, result_type, progress
        )
    print_report(report, str(folder), as_json=as_json)
