"""``prefect-lume results show``: one result, its values and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli._progress import quiet_prefect
from prefect_lume.cli._provenance import provenance_rows
from prefect_lume.cli.results._lookup import find_by_hash
from prefect_lume.cli.results._tables import add, output
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
    console = output()
    origin, values = _named_values(console), _named_values(console)
    for name, value in about.items():
        if value is not None:
            add(origin, name, value)
    for path, value in flatten(result):
        add(values, path, describe(value, limit=400))
    console.print(origin, "", values, sep="\n")


def _named_values(console: Console) -> Table:
    """Return an empty table of two columns, of which the first is not too wide."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", overflow="fold", max_width=console.width // 2)
    table.add_column(overflow="fold")
    return table


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
