"""What a diagram shows of SQLAlchemy's metadata: tables, columns, references."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ForeignKeyConstraint, MetaData, Table, UniqueConstraint
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql.compiler import GenericTypeCompiler


class _Words(GenericTypeCompiler):
    """Names of types that are no dialect's own."""

    def visit_JSON(self, type_: Any, **_: Any) -> str:  # noqa: N802 - SQLAlchemy's.
        return "JSON"


class _Common(DefaultDialect):
    type_compiler_cls = _Words


@dataclass(frozen=True)
class Column:
    """A column as it is shown.

    Attributes:
        name: Its name.
        kind: Its type in words that every database understands.
        keys: Of ``PK``, ``FK``, ``UK``.
        optional: It may be NULL.
    """

    name: str
    kind: str
    keys: tuple[str, ...]
    optional: bool


@dataclass(frozen=True)
class Entity:
    """A table and its columns."""

    name: str
    columns: tuple[Column, ...]

    def row(self, column: str) -> int:
        """Return the number of a column's row, from 0."""
        return [item.name for item in self.columns].index(column)


@dataclass(frozen=True)
class Reference:
    """A foreign key: rows of ``child`` name a row of ``parent``.

    Attributes:
        parent: The table that is referred to.
        parent_column: The (first) column that is referred to.
        child: The table that holds the key.
        child_column: The (first) column of the key.
        many: Several rows may name the same one.
        optional: A row may name none.
    """

    parent: str
    parent_column: str
    child: str
    child_column: str
    many: bool
    optional: bool


@dataclass(frozen=True)
class Schema:
    """Tables, those that are referred to first, and the references between them."""

    entities: tuple[Entity, ...]
    references: tuple[Reference, ...]


def read(metadata: MetaData) -> Schema:
    """Return what there is to draw."""
    tables = metadata.sorted_tables
    return Schema(
        tuple(_entity(table) for table in tables),
        tuple(item for table in tables for item in _references(table)),
    )


def _uniques(table: Table) -> Iterator[Set[str]]:
    yield set(table.primary_key.columns.keys())
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield set(constraint.columns.keys())
    for index in table.indexes:
        if index.unique:
            yield set(index.columns.keys())


def _entity(table: Table) -> Entity:
    dialect = _Common()
    alone = {next(iter(names)) for names in _uniques(table) if len(names) == 1}
    columns = []
    for column in table.columns:
        marks = {
            "PK": column.primary_key,
            "FK": bool(column.foreign_keys),
            "UK": column.name in alone and not column.primary_key,
        }
        kind = column.type.compile(dialect=dialect).partition(" COLLATE")[0]
        keys = tuple(mark for mark, holds in marks.items() if holds)
        columns.append(Column(column.name, kind, keys, bool(column.nullable)))
    return Entity(table.name, tuple(columns))


def _references(table: Table) -> Iterator[Reference]:
    keys = [
        item for item in table.constraints if isinstance(item, ForeignKeyConstraint)
    ]
    # A table's constraints are a set, which has no order of its own.
    for key in sorted(keys, key=lambda item: list(item.column_keys)):
        first = key.elements[0]
        names = set(key.column_keys)
        yield Reference(
            parent=first.column.table.name,
            parent_column=first.column.name,
            child=table.name,
            child_column=key.column_keys[0],
            many=not any(unique <= names for unique in _uniques(table)),
            optional=any(table.columns[name].nullable for name in names),
        )
