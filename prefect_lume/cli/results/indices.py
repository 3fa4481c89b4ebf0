"""``prefect-lume results indices``: what is indexed, and what stands in the way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli._progress import quiet_prefect
from prefect_lume.cli.results._tables import cell, output, plain_table
from prefect_lume.config import open_context
from prefect_lume.errors import NotFoundError
from prefect_lume.results.describing import counted, one_line
from prefect_lume.results.documents import DocumentBase
from prefect_lume.results.stores.index_changes import IndexChange, IndexChanges
from prefect_lume.results.stores.indices import DeclaredIndex, declared

_COLOURS = {"present": "green", "created": "green", "blocked": "red"}


@click.command("indices")
@click.option("--project", metavar="NAME", help="Show what concerns this project only.")
@click.option("--type", "result_type", metavar="NAME", help="Only this document type.")
@click.option(
    "--apply",
    "apply",
    is_flag=True,
    help="Create what is missing in all projects, and drop what is not declared any "
    "more.",
)
@services_option
@json_option
def command(
    project: str | None,
    result_type: str | None,
    apply: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Show the indices of document types, or bring them up to date.

    The types are the built-in ones and those that installed packages offer. An index
    is present, missing, unfinished (its making was interrupted), replaced (the type
    declares another on the same fields), obsolete (it declares none on them), or
    blocked by results that have the same values.

    Ends with status 1 when an index is blocked.
    """
    with quiet_prefect():
        service = open_context(services).results_db_service()
        docs = _chosen(service.model_docs, result_type)
        store = service.db_service
        if apply:
            changes = store.migrate_indices(docs)
            states = {"create": "created", "drop": "dropped"}
        else:
            changes = store.compare_indices(docs)
            states = {}
    found = list(_rows(docs, changes, states))
    if project is not None:
        found = [
            row for row in found if not row["projects"] or project in row["projects"]
        ]
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print(found)
    if any(row["state"] == "blocked" for row in found):
        click.get_current_context().exit(1)


def _chosen(
    model_docs: Mapping[str, type[DocumentBase]], result_type: str | None
) -> list[type[DocumentBase]]:
    if result_type is None:
        return list(model_docs.values())
    if result_type not in model_docs:
        raise NotFoundError("document type", result_type, model_docs)
    return [model_docs[result_type]]


def _rows(
    docs: Iterable[type[DocumentBase]],
    changes: IndexChanges,
    states: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """Yield each index: first those that are as declared, then what differs."""
    differing = {c.index.name for c in (*changes.create, *changes.blocked)}
    for doc in docs:
        for index in declared(doc):
            if index.name not in differing:
                yield _row(IndexChange(index, "missing"), "present")
    for change in changes.create:
        yield _row(change, states.get("create", change.reason))
    for change in changes.drop:
        yield _row(change, states.get("drop", change.reason))
    for change in changes.blocked:
        yield _row(change, change.reason)


def _row(change: IndexChange, state: str) -> dict[str, Any]:
    index = change.index
    return {
        "type": index.result_type,
        "fields": list(index.fields),
        "unique": index.unique,
        "sparse": index.sparse,
        "where": [list(clause) for clause in index.where],
        "expire_after": index.expire_after,
        "state": state,
        "projects": list(change.collections),
        "options": _options(index),
        "duplicate_groups": change.total,
        "duplicates": [dataclasses.asdict(group) for group in change.groups],
    }


def _options(index: DeclaredIndex) -> str:
    """Return the options of an index as a person reads them."""
    found = [name for name in ("unique", "sparse") if getattr(index, name)]
    found += [f"where {path} {name} {value!r}" for path, name, value in index.where]
    if index.expire_after is not None:
        found.append(f"expires after {timedelta(seconds=index.expire_after)}")
    return ", ".join(found)


def _print(rows: list[dict[str, Any]]) -> None:
    console = output()
    if not rows:
        console.print("No document type declares an index of its own.")
        return
    table = plain_table("type", "fields", "options", "state", "projects")
    for row in rows:
        colour = _COLOURS.get(row["state"], "yellow")
        table.add_row(
            cell(row["type"]),
            cell(", ".join(row["fields"])),
            cell(row["options"]),
            Text(row["state"], style=colour),
            cell(", ".join(row["projects"])),
        )
    console.print(table)
    for row in rows:
        if row["duplicates"]:
            _print_duplicates(console, row)


def _print_duplicates(console: Console, row: Mapping[str, Any]) -> None:
    groups = counted(row["duplicate_groups"], "group")
    heading = f"{groups} of results in the way of {row['type']}"
    _print_line(console, f"\n{heading}: {', '.join(map(one_line, row['fields']))}")
    for group in row["duplicates"]:
        values = one_line(f"{group['collection']}: {group['values']}")
        _print_line(console, f"  {values}")
        for unique_hash in group["unique_hashes"]:
            _print_line(console, f"    {unique_hash}")
        if group["count"] > len(group["unique_hashes"]):
            rest = group["count"] - len(group["unique_hashes"])
            _print_line(console, f"    and {rest} more")


def _print_line(console: Console, text: str) -> None:
    """Print a line whole, however long: it is there to be copied."""
    console.print(Text(text), soft_wrap=True)
