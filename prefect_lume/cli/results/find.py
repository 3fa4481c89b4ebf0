"""``prefect-lume results find``: results as a table, or the projects that have some."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._parameters import query_option, type_option
from prefect_lume.cli.results._running import open_results
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.describing import describe
from prefect_lume.results.flattening import flatten, header, plain

#: Columns that a table shows unless others are asked for.
_MOST_COLUMNS = 6


@click.command("find")
@click.argument("project", required=False)
@query_option
@type_option
@click.option(
    "--sort",
    metavar="FIELD",
    multiple=True,
    help="Sort by a field, -FIELD for descending order. It may be given many times. "
    "Default: the newest first.",
)
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True)
@click.option("--skip", type=click.IntRange(0), default=0)
@click.option(
    "--column",
    "columns",
    metavar="FIELD",
    multiple=True,
    help="A field to show, such as outputs.sigma_x. It may be given many times.",
)
@click.option("--count", is_flag=True, help="Only say how many match.")
@services_option
@json_option
def command(
    project: str | None,
    query: dict[str, Any] | None,
    result_type: str | None,
    sort: tuple[str, ...],
    limit: int,
    skip: int,
    columns: tuple[str, ...],
    count: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Find results of PROJECT; without one, show the projects.

    prefect-lume results find injector --query '{"outputs.sigma_x": {"$lt": 1e-3}}'
    """
    service = open_results(services)
    if project is None:
        _show_projects(service, as_json=as_json)
        return
    total = service.count(project, query, result_type=result_type)
    if count:
        click.echo(json.dumps({"count": total}) if as_json else str(total))
        return
    found = service.find(
        project,
        query,
        result_type=result_type,
        sort=list(sort) or "-date_modified",
        skip=skip,
        limit=limit,
        lazy=True,
    )
    if as_json:
        click.echo(json.dumps([_as_json(result) for result in found]))
        return
    results = list(found)
    Console().print(_table(results, columns))
    rest = total - skip - len(results)
    more = f"; {rest} more: use --limit or --skip" if rest > 0 else ""
    click.echo(f"{len(results)} of {total} results{more}.", err=True)


def _show_projects(service: ResultsService, *, as_json: bool) -> None:
    rows = [
        {
            "project_name": name,
            "results": service.count(name),
            "newest": header(service.find_one(name, sort="-date_modified", lazy=True))[
                "date_modified"
            ],
        }
        for name in service.projects()
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("project")
    table.add_column("results", justify="right")
    table.add_column("newest (UTC)")
    for row in rows:
        table.add_row(row["project_name"], str(row["results"]), _short(row["newest"]))
    Console().print(table)
    if not rows:
        click.echo("There are no results yet.", err=True)


def _as_json(result: Result) -> dict[str, Any]:
    values = {path: plain(value) for path, value in flatten(result)}
    return {**header(result), "values": values}


def _table(results: Iterable[Result], wanted: tuple[str, ...]) -> Table:
    rows = [(result, dict(flatten(result))) for result in results]
    columns = list(wanted) or _telling(rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stored (UTC)", "hash", "type", "flow run"):
        table.add_column(name, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", overflow="ellipsis")
    for result, values in rows:
        about = header(result)
        table.add_row(
            _short(about["date_modified"]),
            result.unique_hash[:12],
            result.type_name,
            (result.flow_run_id or "")[:8],
            *(_cell({**values, **about}, name) for name in columns),
        )
    return table


def _telling(rows: list[tuple[Result, dict[str, Any]]]) -> list[str]:
    """Return the fields worth a column: small values, first those that differ."""
    names = dict.fromkeys(name for _, values in rows for name in values)
    small = [n for n in names if any(_is_small(v.get(n)) for _, v in rows)]
    differing = {n for n in small if len({repr(v.get(n)) for _, v in rows}) > 1}
    small.sort(key=lambda name: name not in differing)
    return sorted(small[:_MOST_COLUMNS], key=list(names).index)


def _is_small(value: Any) -> bool:
    return isinstance(plain(value), int | float) or (
        isinstance(value, str) and len(value) <= 24
    )


def _cell(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return ""
    value = plain(values[name])
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else describe(value, 24)


def _short(moment: str) -> str:
    return moment[:19].replace("T", " ")
