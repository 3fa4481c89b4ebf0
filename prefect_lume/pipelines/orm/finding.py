"""Finding rows by their fields and times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Select,
    UnaryExpression,
    func,
    or_,
    select,
)
from sqlalchemy.sql.operators import custom_op

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines.filters import check_time, check_where
from prefect_lume.pipelines.orm.columns import Id, is_id
from prefect_lume.pipelines.orm.mapping import ROW_COLUMNS, rows_of
from prefect_lume.pipelines.orm.tables import TABLES
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.tally import Tally

#: Values that one condition may have: fewer than any database allows.
_VALUES: Final = 10_000
#: Rows that are in memory at a time.
_ROWS: Final = 1000
_INTEGER_END: Final = 1 << 31
#: SQLite's way to say that a column is not to be looked up in an index.
_NO_INDEX: Final = custom_op[Any]("+")


@dataclass(frozen=True, slots=True)
class Question:
    """Which rows are asked for, and in which order: see ``StorageReads.find``."""

    kind: Kind
    conditions: tuple[ColumnElement[bool], ...]
    limit: int | None
    skip: int
    newest_first: bool
    since: datetime | None

    @classmethod
    def of(
        cls,
        kind: Kind,
        where: Mapping[str, Any] | None,
        since: datetime | None,
        before: datetime | None,
        limit: int | None = None,
        skip: int = 0,
        *,
        newest_first: bool = False,
    ) -> Question:
        """Return a question after a look at its parts.

        Raises:
            InvalidInputError: A filter does not exist, or a time has no zone.
        """
        check_time("since", since)
        check_time("before", before)
        columns = TABLES[kind].c
        conditions = [
            _among(columns[name], values)
            for name, values in check_where(kind, where).items()
        ]
        ran_at: Any = columns.get("ran_at")
        if ran_at is None:
            ran_at = func.coalesce(columns.started, columns.created)
        if since is not None:
            conditions.append(ran_at >= since)
        if before is not None:
            conditions.append(ran_at < before)
        return cls(kind, tuple(conditions), limit, skip, newest_first, since)

    def answer(self, connection: Connection) -> list[Row]:
        """Return the rows."""
        return rows_of(self.kind, connection.execute(self._statement(connection)))

    def stream(self, connection: Connection) -> Iterator[Row]:
        """Yield the rows, a thousand in memory at a time."""
        connection = connection.execution_options(yield_per=_ROWS)
        found = connection.execute(self._statement(connection))
        for some in found.partitions():
            yield from rows_of(self.kind, some)

    def tally(self, connection: Connection) -> list[Tally]:
        """Count the rows by parent, status and whether superseded."""
        columns = TABLES[self.kind].c
        groups = [columns.parent_id, columns.status, columns.superseded]
        statement = select(*groups, func.count()).where(*self.conditions)
        found = connection.execute(statement.group_by(*groups))
        return [Tally(*tuple(row)) for row in found]

    def _statement(self, connection: Connection) -> Select[Any]:
        columns = TABLES[self.kind].c
        conditions = [*self.conditions]
        if self.newest_first and self.limit is not None:
            oldest = self._oldest(connection)
            if oldest is not None:
                conditions.append(columns.created >= oldest)
        statement = (
            select(*ROW_COLUMNS[self.kind])
            .where(*conditions)
            .order_by(*self._order(connection.dialect.name))
            .limit(self.limit)
            .offset(self.skip or None)
        )
        if self.limit is None and self.skip:
            # MySQL and SQLite know no OFFSET without a LIMIT.
            statement = statement.limit(_INTEGER_END - 1)
        return statement

    def _oldest(self, connection: Connection) -> datetime | None:
        """Return when the last row of a page was made, if the page is full.

        An index tells it at once. Without, all rows would be sorted for a page of the
        newest, because ids are in the other order.
        """
        created = TABLES[self.kind].c.created
        statement = (
            select(created)
            .where(created.is_not(None), *self.conditions)
            .order_by(created.desc())
            .limit(1)
            .offset(max(0, self.skip + (self.limit or 0) - 1))
        )
        return connection.scalar(statement)

    def _order(self, dialect: str) -> list[Any]:
        columns = TABLES[self.kind].c
        created: Any = columns.created
        is_page = self.newest_first and self.limit is not None
        if dialect == "sqlite" and self.since is not None and not is_page:
            # To be in order SQLite would read all rows by the index of "created". What
            # has run since a time is few rows, which another index finds.
            created = UnaryExpression(created, operator=_NO_INDEX)
        order = [created.desc() if self.newest_first else created.asc()]
        if "index" in columns:
            order.append(columns["index"].asc())
        if dialect == "postgresql":
            # Elsewhere NULL is less than any value.
            nulls_last = order[0].nulls_last() if self.newest_first else None
            first = order[0].nulls_first() if nulls_last is None else nulls_last
            order = [first, *(column.nulls_first() for column in order[1:])]
        return [*order, columns.id]


def find_run_ids(connection: Connection, prefix: str, limit: int) -> list[str]:
    """Return ids of executions that begin so."""
    ids = TABLES[Kind.EXECUTION].c.id
    # As a range: what LIKE does with an index depends on the database.
    statement = select(ids).where(ids >= prefix).order_by(ids).limit(limit)
    return [id_ for id_ in connection.scalars(statement) if id_.startswith(prefix)]


def _among(column: Column[Any], values: list[Any]) -> ColumnElement[bool]:
    """Return the condition that a column has one of these values.

    Values which it cannot have are left out, so that no database has to compare a text
    with a number, each in its own way.
    """
    if len(values) > _VALUES:
        raise InvalidInputError(
            f"{column.name!r} has {len(values)} values to be found by: give at most "
            f"{_VALUES} at once."
        )
    possible = [value for value in values if _is_possible(column, value)]
    found: ColumnElement[bool] = column.in_(possible)
    return or_(found, column.is_(None)) if None in values else found


def _is_possible(column: Column[Any], value: Any) -> bool:
    if isinstance(column.type, Boolean):
        return isinstance(value, bool)
    if isinstance(column.type, Integer):
        return isinstance(value, int) and -_INTEGER_END < value < _INTEGER_END
    if isinstance(column.type, Id):
        return is_id(value)
    return isinstance(value, str)
