"""What every database can do, but says in its own words: store what may exist."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, TypeVar

from sqlalchemy import Insert, Table, func
from sqlalchemy.dialects import mysql, postgresql, sqlite

T = TypeVar("T")

#: Values in one list: fewer than any database allows, and enough.
CHUNK: Final = 500


def chunks(items: Collection[T]) -> Iterator[list[T]]:
    """Return items in lists that a statement can take."""
    everything = list(items)
    for start in range(0, len(everything), CHUNK):
        yield everything[start : start + CHUNK]


@functools.cache
def upsert(table: Table, dialect: str) -> Insert:
    """Return a statement that stores rows, whether new or known, as they are."""
    return _insert(table, dialect, lambda _old, new: new)


@functools.cache
def add(table: Table, dialect: str) -> Insert:
    """Return a statement that adds numbers to those of rows, new or known."""
    return _insert(table, dialect, lambda old, new: old + new)


@functools.cache
def raise_to(table: Table, dialect: str) -> Insert:
    """Return a statement that stores values where they are greater than those known."""
    greatest = func.max if dialect == "sqlite" else func.greatest
    return _insert(table, dialect, greatest)


@functools.cache
def insert_missing(table: Table, dialect: str) -> Insert:
    """Return a statement that stores rows, and leaves known ones as they are.

    On MySQL and MariaDB it locks known ones as well.
    """
    return _insert(table, dialect, None)


def _insert(
    table: Table, dialect: str, merged: Callable[[Any, Any], Any] | None
) -> Insert:
    others = [
        column.name
        for column in table.columns
        if not column.primary_key and column.computed is None
    ]
    keys = list(table.primary_key.columns)
    values: dict[str, Any] = {}
    statement: Insert
    if dialect in {"mysql", "mariadb"}:
        insert = mysql.insert(table)
        if merged is not None:
            values = _merged(merged, others, table.c, insert.inserted)
        # Setting a key to what it is leaves the row as it is.
        return insert.on_duplicate_key_update(values or {keys[0].name: keys[0]})
    into: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    if merged is None:
        statement = into.on_conflict_do_nothing(index_elements=keys)
    else:
        values = _merged(merged, others, table.c, into.excluded)
        statement = into.on_conflict_do_update(index_elements=keys, set_=values)
    return statement


def _merged(
    merged: Callable[[Any, Any], Any], names: list[str], old: Any, new: Any
) -> dict[str, Any]:
    return {name: merged(old[name], new[name]) for name in names}
