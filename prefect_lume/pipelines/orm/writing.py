"""Writing many rows at a time.

SQLAlchemy looks at every value of every row. Here a statement is compiled once for a
database, and values are looked at by column, the same one once: most of the values of
many changes are the same few.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Connection, Dialect, Insert

from prefect_lume.pipelines.orm.columns import JsonText
from prefect_lume.storage.columns import UTCDateTime

#: Returns the values of a column as the driver takes them.
_Encode = Callable[[Sequence[Any]], Iterable[Any]]


def write_many(
    connection: Connection,
    statement: Insert,
    columns: Sequence[Column[Any]],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    """Execute an insert for many rows.

    Args:
        connection: A connection in a transaction.
        statement: An insert without values of its own.
        columns: The columns of which the rows are.
        rows: Values, in the order of the columns; at least one row.
    """
    dialect = connection.dialect
    if getattr(dialect, "use_insertmanyvalues_wo_returning", False):
        # A driver that would send row by row: SQLAlchemy knows how to keep it from it.
        names = [column.name for column in columns]
        dicts = [dict(zip(names, row, strict=True)) for row in rows]
        connection.execute(statement, dicts)
        return
    ready = _compiled(statement, tuple(columns), dialect)
    by_column = list(zip(*rows, strict=True))
    encoded = [
        by_column[position] if encode is None else encode(by_column[position])
        for position, encode in ready.parameters
    ]
    parameters: Any = list(zip(*encoded, strict=True))
    if ready.names is not None:
        parameters = [dict(zip(ready.names, row, strict=True)) for row in parameters]
    connection.exec_driver_sql(ready.text, parameters)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A statement as a driver takes it.

    Attributes:
        text: The SQL.
        parameters: For each parameter the position of its column in a row, and what
            encodes that column.
        names: The names of the parameters; nothing if they go by their order.
    """

    text: str
    parameters: list[tuple[int, _Encode | None]]
    names: list[str] | None


@functools.lru_cache(maxsize=64)
def _compiled(
    statement: Insert, columns: tuple[Column[Any], ...], dialect: Dialect
) -> _Ready:
    names = [column.name for column in columns]
    compiled: Any = statement.compile(dialect=dialect, column_keys=names)
    order: list[str] = compiled.positiontup if compiled.positional else names
    positions = [names.index(name) for name in order]
    return _Ready(
        str(compiled),
        [(position, _encoder(columns[position], dialect)) for position in positions],
        None if compiled.positional else order,
    )


def _encoder(column: Column[Any], dialect: Dialect) -> _Encode | None:
    encode = column.type.dialect_impl(dialect).bind_processor(dialect)
    if dialect.name == "sqlite" and isinstance(column.type, UTCDateTime):
        # Nearly every time differs, and this takes a third of what SQLAlchemy's does.
        encode = _sqlite_time
    if encode is None:
        return None
    if isinstance(column.type, JsonText):
        # 1 and True are equal, but not the same JSON.
        return functools.partial(map, encode)
    return functools.partial(_encode_distinct, encode)


def _encode_distinct(
    encode: Callable[[Any], Any], values: Sequence[Any]
) -> Iterable[Any]:
    encoded = {value: encode(value) for value in set(values)}
    return map(encoded.__getitem__, values)


def _sqlite_time(value: datetime | None) -> str | None:
    """Return a time as SQLAlchemy writes it into SQLite."""
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be stored")
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]
