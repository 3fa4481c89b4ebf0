"""``prefect-lume results find``: results as a table, or the projects that have some."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.cells import cell_len

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._parameters import MOST, query_option, type_option
from prefect_lume.cli.results._running import open_results
from prefect_lume.cli.results._tables import add, output, plain_table
from prefect_lume.errors import clip, name_list
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.describing import MISSING, counted, describe, one_line
from prefect_lume.results.flattening import flatten, header, plain, value_at

#: Columns that a table shows unless others are asked for.
_MOST_COLUMNS: Final = 12
#: Names that a message lists.
_MOST_NAMES: Final = 4
#: Characters of a text in a cell.
_LONGEST: Final = 60


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
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(0, MOST),
    default=20,
    show_default=True,
    help="The most results to show.",
)
@click.option(
    "--skip",
    metavar="N",
    type=click.IntRange(0, MOST),
    default=0,
    help="Leave out the first N.",
)
@click.option(
    "--column",
    "columns",
    metavar="FIELD",
    multiple=True,
    help="A field to show beside time and hash, such as outputs.sigma_x or "
    "flow_run_id. It may be given many times.",
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
    chosen = (query, result_type, sort, columns, skip, count)
    if project is None and any(value not in (None, (), 0, False) for value in chosen):
        raise click.UsageError("Say in which PROJECT to find results.")
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
    if results:
        _print(results, columns)
    rest = total - skip - len(results)
    more = f"; {rest} more: use --limit or --skip" if rest > 0 else ""
    click.echo(f"{len(results)} of {counted(total, 'result')}{more}.", err=True)
    if not total:
        _say_why(service, project, result_type)


def _show_projects(service: ResultsService, *, as_json: bool) -> None:
    rows = [
        {"project_name": name, "results": service.count(name), "newest": newest}
        for name in service.projects()
        for newest in _newest(service, name)
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo("There are no results yet.", err=True)
        return
    table = plain_table("project", "results", "newest (UTC)", numbers=("results",))
    for row in rows:
        add(table, row["project_name"], row["results"], _short(str(row["newest"])))
    output().print(table)


def _newest(service: ResultsService, project: str) -> list[str]:
    """Return when a project's newest result was stored; nothing if all are gone."""
    trees = service.db_service.find(
        project, sort=[("date_modified", -1)], limit=1, projection=["date_modified"]
    )
    times = (datetime.fromisoformat(tree["date_modified"]) for tree in trees)
    return [time.isoformat(timespec="milliseconds") for time in times]


def _say_why(service: ResultsService, project: str, result_type: str | None) -> None:
    """Tell which types there are, when none of the one asked for was found."""
    if result_type is None:
        return
    types = service.distinct(project, "result_type")
    if result_type not in types:
        click.echo(f"The types of this project are: {name_list(types)}.", err=True)


def _as_json(result: Result) -> dict[str, Any]:
    values = {path: plain(value) for path, value in flatten(result)}
    return {**header(result), "values": values}


def _print(results: Sequence[Result], wanted: tuple[str, ...]) -> None:
    """Print results as a table, and say what of them has no room in it."""
    about = _about(results, brief=bool(wanted))
    console = output()
    if wanted:
        values = {name: [_field(r, name) for r in results] for name in wanted}
        left_out = []
    else:
        rows = [dict(flatten(result)) for result in results]
        names = _telling(rows)
        found = {
            name: [_cell(row.get(name, MISSING)) for row in rows]
            for name in names[:_MOST_COLUMNS]
        }
        values = _fitting(found, console.width - _width(about))
        left_out = [name for name in names if name not in values]
        order = [name for row in rows for name in row]
        values = {name: values[name] for name in sorted(values, key=order.index)}
    table = plain_table(*about, *values, numbers=tuple(values))
    for column in table.columns[: len(about)]:
        column.no_wrap = True
    for row in zip(*about.values(), *values.values(), strict=True):
        add(table, *row)
    console.print(table)
    for name in wanted:
        if not any(values[name]):
            click.echo(f"None of these results has {one_line(name)}.", err=True)
    if left_out:
        some = [one_line(clip(name, _LONGEST)) for name in left_out[:_MOST_NAMES]]
        rest = len(left_out) - len(some)
        told = ", ".join(some) + (f" and {rest} more" if rest else "")
        click.echo(f"There is no room for {told}: use --column or --json.", err=True)


def _about(results: Sequence[Result], *, brief: bool) -> dict[str, list[str]]:
    """Return the columns that say what the results are.

    Args:
        results: The results.
        brief: Leave the room to the columns that were asked for.
    """
    about = {
        "stored (UTC)": [_short(header(r)["date_modified"]) for r in results],
        "hash": [result.unique_hash[:12] for result in results],
    }
    types = [result.type_name for result in results]
    runs = [(result.flow_run_id or "")[:8] for result in results]
    # A column that says nothing takes no room either.
    if not brief and set(types) != {Result.result_type}:
        about["type"] = types
    if not brief and any(runs):
        about["flow run"] = runs
    return about


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return how many characters a table of columns takes, gaps included."""
    return sum(
        2 + max(cell_len(one_line(text)) for text in (name, *cells))
        for name, cells in columns.items()
    )


def _fitting(found: Mapping[str, list[str]], room: int) -> dict[str, list[str]]:
    """Return the columns that there is room for, but one at least."""
    kept: dict[str, list[str]] = {}
    for name, cells in found.items():
        width = _width({name: cells})
        if width <= room or not kept:
            kept[name] = cells
            room -= width
    return kept


def _telling(rows: list[dict[str, Any]]) -> list[str]:
    """Return the fields worth a column: small values, those that differ first."""
    names = dict.fromkeys(name for row in rows for name in row)
    small = [n for n in names if any(_is_small(row.get(n)) for row in rows)]
    differing = {n for n in small if len({repr(row.get(n)) for row in rows}) > 1}
    small.sort(key=lambda name: name not in differing)
    return small


def _is_small(value: Any) -> bool:
    return isinstance(plain(value), int | float) or (
        isinstance(value, str) and len(value) <= 24
    )


def _cell(value: Any) -> str:
    if value is MISSING:
        return ""
    short = plain(value)
    if isinstance(short, float):
        return f"{short:.6g}"
    return clip(short, _LONGEST) if isinstance(short, str) else describe(value, 24)


def _field(result: Result, name: str) -> str:
    """Return what a field that was asked for holds."""
    about = header(result)
    return _cell(about[name] if name in about else value_at(result, name))


def _short(moment: str) -> str:
    return moment[:19].replace("T", " ")
