"""``prefect-lume results compare``: in what results differ."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
from rich.table import Table

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._lookup import find_by_hash
from prefect_lume.cli.results._running import open_results
from prefect_lume.cli.results._tables import add, cell, output, plain_table
from prefect_lume.errors import InvalidInputError
from prefect_lume.results.comparing import PARTS, Comparison, compare_results
from prefect_lume.results.describing import counted


@click.command("compare")
@click.argument("project")
@click.argument("hashes", metavar="HASH HASH...", nargs=-1, required=True)
@click.option(
    "--rel-tol",
    metavar="NUMBER",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Numbers agree within this share of the larger one.",
)
@click.option(
    "--abs-tol",
    metavar="NUMBER",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Numbers agree within this difference.",
)
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
    _require_different([result.unique_hash for result in results], hashes)
    found = compare_results(results, rel_tol=rel_tol, abs_tol=abs_tol, parts=parts)
    if as_json:
        click.echo(json.dumps(found.to_dict()))
    else:
        if found:
            output().print(_table(found))
        agree = "agrees" if found.equal == 1 else "agree"
        differ = "differs" if len(found.differences) == 1 else "differ"
        click.echo(
            f"{counted(found.equal, 'value')} {agree}, "
            f"{len(found.differences)} {differ}.",
            err=True,
        )
    if exit_code and found:
        click.get_current_context().exit(1)


def _require_different(found: Sequence[str], given: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for unique_hash, text in zip(found, given, strict=True):
        if unique_hash in seen:
            raise InvalidInputError(
                f"{seen[unique_hash]} and {text} are one result, {unique_hash}. Name "
                f"each of those to compare once."
            )
        seen[unique_hash] = text


def _table(found: Comparison) -> Table:
    table = plain_table("value")
    for unique_hash in found.hashes:
        table.add_column(cell(unique_hash[:12]), justify="right", overflow="fold")
    table.add_column("difference", justify="right")
    table.add_column("relative", justify="right")
    for one in found.differences:
        absolute = one.kind if one.absolute is None else f"{one.absolute:.4g}"
        add(table, one.path, *one.values, absolute, _share(one.relative))
    return table


def _share(relative: float | None) -> str:
    """Return a relative difference: per cent, unless that would read as none or all."""
    if relative is None:
        return ""
    percent = 1e-4 <= relative < 10
    return f"{relative:.2%}" if percent else f"{relative:.3g}"
