"""What every database can do, but says in its own words: store what may exist."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Dialect, Insert, Table, func
from sqlalchemy.dialects import mysql, postgresql, sqlite

T = TypeVar("T")

#: Values in one list: fewer than any database allows, and enough.
CHUNK: Final = 500


def chunks(items: Collection[T]) -> Iterator[list[T]]:
    """Return items in lists that a statement can take."""
    everything = list(items)
    for start in range(0, len(everything), CHUNK):
        yield everything[start : start + CHUNK]


def on_mysql(dialect: Dialect) -> bool:
    """Tell whether a server is MySQL or MariaDB."""
    return dialect.name in {"mysql", "mariadb"}


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
    keys: Sequence[Any] = list(table.primary_key.columns)
    others = [
        column
        for column in table.columns
        if not column.primary_key and column.computed is None
    ]
    if dialect in {"mysql", "mariadb"}:
        statement = mysql.insert(table)
        if merged is None:
            return statement.on_duplicate_key_update({keys[0].name: keys[0]})
        new = statement.inserted
        return statement.on_duplicate_key_update(
            {column.name: merged(column, new[column.name]) for column in others}
        )
    conflicting = postgresql if dialect == "postgresql" else sqlite
    inserted = conflicting.insert(table)
    if merged is None:
        return inserted.on_conflict_do_nothing(index_elements=keys)
    return inserted.on_conflict_do_update(
        index_elements=keys,
        set_={
            column.name: merged(column, inserted.excluded[column.name])
            for column in others
        },
    )
