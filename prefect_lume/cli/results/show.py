"""``prefect-lume results show``: one result, its values and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli._progress import quiet_prefect
from prefect_lume.cli._provenance import provenance_rows
from prefect_lume.cli.results._lookup import find_by_hash
from prefect_lume.config import open_context
from prefect_lume.errors import InvalidInputError
from prefect_lume.results import Result
from prefect_lume.results.describing import describe
from prefect_lume.results.flattening import flatten, header, plain


@click.command("show")
@click.argument("project")
@click.argument("unique_hash", metavar="HASH")
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the arrays and tables into a picture (.png, .svg or .pdf).",
)
@services_option
@json_option
def command(
    project: str,
    unique_hash: str,
    plot: Path | None,
    services: str | None,
    as_json: bool,
) -> None:
    """Show a result of PROJECT: its values, its origin, and a plot.

    HASH is the result's unique hash, or the first four digits or more.
    """
    with quiet_prefect():
        context = open_context(services)
        result = find_by_hash(context.results_db_service(), project, unique_hash)
        (origin,) = provenance_rows(context, [result])
    about = header(result) | {
        name: origin[name] for name in ("model_id", "model", "version", "source")
    }
    if as_json:
        values = {path: plain(value) for path, value in flatten(result)}
        click.echo(json.dumps({**about, "values": values}))
    else:
        _print(result, about)
    if plot is not None:
        _draw(result, plot)


def _print(result: Result, about: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in about.items():
        if value is not None:
            table.add_row(name, Text(str(value)))
    table.add_row("", "")
    for path, value in flatten(result):
        table.add_row(path, Text(describe(value, limit=400)))
    Console().print(table)


def _draw(result: Result, file: Path) -> None:
    from prefect_lume.results.plotting import plot_result

    figure = plot_result(result)
    if figure is None:
        raise InvalidInputError("This result holds no array or table to draw.")
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"The picture cannot be written to {str(file)!r}: {error}. Name a .png, "
            f".svg or .pdf file in a folder that exists."
        ) from error
    click.echo(f"Drawn into {file}.", err=True)
