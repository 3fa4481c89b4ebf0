"""``prefect-lume check``: try every service once."""

from __future__ import annotations

import dataclasses
import json

import click
from rich.console import Console
from rich.table import Table

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli._progress import quiet_prefect
from prefect_lume.config import open_context


@click.command("check")
@services_option
@json_option
def command(services: str | None, as_json: bool) -> None:
    """Try every service once and say how it is.

    Ends with status 1 when one of them cannot be used.
    """
    with quiet_prefect():
        statuses = open_context(services).check()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(status) for status in statuses]))
    else:
        table = Table("service", "", "where", "detail", box=None, pad_edge=False)
        for status in statuses:
            mark = "[green]ok[/]" if status.ok else "[red]fails[/]"
            table.add_row(status.service, mark, status.where, status.detail)
        Console().print(table)
    if not all(status.ok for status in statuses):
        click.get_current_context().exit(1)
