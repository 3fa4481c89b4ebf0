"""What differs between the tables in the code and those in a database."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, MetaData, inspect
from sqlalchemy.sql.schema import HasSchemaAttr


def metadatas() -> tuple[MetaData, ...]:
    """Return the tables that the code works with."""
    from prefect_lume.pipelines.orm.tables import metadata as pipelines
    from prefect_lume.registry.tables import metadata as registry
    from prefect_lume.results.stores.sql.tables import metadata as results

    return registry, results, pipelines


def differences(connection: Connection) -> list[str]:
    """Return one line per difference between code and database."""
    lines: list[str] = []
    for metadata in metadatas():
        lines += _of(connection, metadata)
        lines += _checks(connection, metadata)
    return lines


def _of(connection: Connection, metadata: MetaData) -> Iterator[str]:
    names = set(metadata.tables)

    def is_ours(name: str | None, kind: str, _parents: Any) -> bool:
        return kind != "table" or name in names

    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "include_name": is_ours,
            "target_metadata": metadata,
        },
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = compare_metadata(context, metadata)
    missing = {item[1].name for item in _flat(found) if item[0] == "add_table"}
    for difference in _flat(found):
        # A missing table says it all.
        if difference[0] != "add_index" or difference[1].table.name not in missing:
            yield _describe(difference)
    for warning in caught:
        # Alembic can tell that a generated column differs, but only warns of it.
        if "omputed" in str(warning.message):
            yield f"{warning.message}."


def _flat(found: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    for difference in found:
        if isinstance(difference, list):
            yield from difference
        else:
            yield difference


def _describe(difference: tuple[Any, ...]) -> str:
    kind, *rest = difference
    if kind in {"add_table", "remove_table"}:
        return f"Table {rest[0].name!r} is {_state(kind)}."
    if kind in {"add_column", "remove_column"}:
        return f"Column {rest[2].name!r} of table {rest[1]!r} is {_state(kind)}."
    if kind.startswith("modify_"):
        _, table, column, _, before, after = rest
        return (
            f"Column {column!r} of table {table!r} has another "
            f"{kind.removeprefix('modify_')}: {before!r} in the database, {after!r} in "
            f"the code."
        )
    item: HasSchemaAttr = rest[0]
    table = getattr(getattr(item, "table", None), "name", "?")
    what = kind.partition("_")[2].replace("fk", "foreign key")
    name = getattr(item, "name", None)
    return f"The {what} {name!r} of table {table!r} is {_state(kind)}."


def _state(kind: str) -> str:
    added = kind.startswith("add_")
    return "missing in the database" if added else "in the database but not in the code"


def _checks(connection: Connection, metadata: MetaData) -> Iterator[str]:
    # Alembic does not compare CHECK constraints at all.
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in there:
            continue
        found = {item["name"] for item in inspector.get_check_constraints(table.name)}
        for item in table.constraints:
            if isinstance(item, CheckConstraint) and item.name not in found:
                yield (
                    f"The check {item.name!r} of table {table.name!r} is missing in "
                    f"the database."
                )
