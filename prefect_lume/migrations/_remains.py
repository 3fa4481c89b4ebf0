"""What a first upgrade finds in a database: nothing, remains, or another's tables."""

from __future__ import annotations

from sqlalchemy import Connection, MetaData, func, inspect, select, table

from prefect_lume.errors import SchemaError, name_list
from prefect_lume.storage.sql import safe_url


def make_room(connection: Connection, version_table: str) -> None:
    """Remove what a first upgrade left that was killed; refuse what others made.

    Alembic makes the table of the revision first, and is let to only where nothing of
    these names is. So beside that table, while it names no revision, stands nothing but
    what an upgrade made that did not end: on MySQL and MariaDB, as the others take it
    back.

    Args:
        connection: In the transaction of the upgrade, with its lock.
        version_table: The table that would name the revision, and does not.

    Raises:
        SchemaError: Tables of our names are there which no upgrade made.
    """
    from prefect_lume.migrations import _drift

    ours = {name for metadata in _drift.metadatas() for name in metadata.tables}
    names = set(inspect(connection).get_table_names())
    there = ours & names
    begun = version_table in names
    if begun and not any(count(connection, name) for name in there):
        drop_tables(connection, names - there)
    elif there:
        where = safe_url(connection.engine)
        raise SchemaError(
            f"{where} has tables named {name_list(there)} already, and no schema "
            f"revision: another program made them. Use an empty database.",
            where,
        )


def drop_tables(connection: Connection, keep: set[str]) -> None:
    """Drop all tables but those, in an order that their foreign keys allow."""
    made = set(inspect(connection).get_table_names()) - keep
    metadata = MetaData()
    metadata.reflect(connection, only=sorted(made), resolve_fks=False)
    metadata.drop_all(connection)


def count(connection: Connection, name: str) -> int:
    """Return the number of a table's rows."""
    found: int = connection.scalar(select(func.count()).select_from(table(name))) or 0
    return found
