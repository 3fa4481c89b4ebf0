"""``prefect-lume results import``: results out of a folder."""

from __future__ import annotations

from pathlib import Path

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._parameters import duplicate_option
from prefect_lume.cli.results._running import open_results, print_report, shown
from prefect_lume.results.transfer import import_results
from prefect_lume.results.writer import OnDuplicate


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@duplicate_option
@services_option
@json_option
def command(
    folder: Path, on_duplicate: OnDuplicate, services: str | None, as_json: bool
) -> None:
    """Read results that were exported to FOLDER.

    All of the folder is checked first: nothing of a broken one is stored. An import
    that was interrupted can be run again.
    """
    service = open_results(services)
    with shown("Importing") as progress:
        report = import_results(service, folder, on_duplicate, progress)
    print_report(report, service.db_service.where, as_json=as_json)
