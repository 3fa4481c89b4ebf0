"""``prefect-lume results compare``: in what results differ."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._lookup import find_by_hash
from prefect_lume.cli.results._running import open_results
from prefect_lume.results.comparing import PARTS, Comparison, compare_results


@click.command("compare")
@click.argument("project")
@click.argument("hashes", metavar="HASH HASH...", nargs=-1, required=True)
@click.option("--rel-tol", type=click.FloatRange(0), default=0.0, show_default=True)
@click.option("--abs-tol", type=click.FloatRange(0), default=0.0, show_default=True)
@click.option(
    "--part",
    "parts",
    metavar="FIELD",
    multiple=True,
    default=PARTS,
    show_default=True,
    help="A field of the documents to compare. It may be given many times.",
)
@click.option("--exit-code", is_flag=True, help="End with status 1 if they differ.")
@services_option
@json_option
def command(
    project: str,
    hashes: tuple[str, ...],
    rel_tol: float,
    abs_tol: float,
    parts: tuple[str, ...],
    exit_code: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Show in what two or more results of PROJECT differ.

    The first is what the others are compared with. Numbers agree if they differ by no
    more than the relative tolerance of the larger one, or the absolute tolerance; in
    arrays and tables element by element.
    """
    service = open_results(services)
    results = [find_by_hash(service, project, text) for text in hashes]
    found = compare_results(results, rel_tol=rel_tol, abs_tol=abs_tol, parts=parts)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    else:
        if found:
            Console().print(_table(found))
        click.echo(
            f"{found.equal} values agree, {len(found.differences)} differ.", err=True
        )
    if exit_code and found:
        click.get_current_context().exit(1)


def _table(found: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("value", overflow="fold")
    for unique_hash in found.hashes:
        table.add_column(unique_hash[:12], justify="right", overflow="ellipsis")
    table.add_column("difference", justify="right")
    table.add_column("relative", justify="right")
    for one in found.differences:
        absolute = one.kind if one.absolute is None else f"{one.absolute:.4g}"
        relative = "" if one.relative is None else f"{one.relative:.2%}"
        table.add_row(Text(one.path), *map(Text, one.values), absolute, relative)
    return table
