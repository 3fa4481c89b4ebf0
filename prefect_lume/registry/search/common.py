"""Which tags many deployments have: SQLite has no statistics that would tell.

A tag that few have is best looked up first, one that many have only for the rows that
come in order: a wrong guess costs seconds among a million deployments. So on SQLite one
more statement counts, up to a number, the entries in the index of tags. The planners of
servers know.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Integer, Select, func, literal_column, select

from prefect_lume.registry.search.conditions import Conditions
from prefect_lume.registry.search.meaning import Term

#: Looking up so many rows takes about as long as meeting one among as many in order.
_MANY: Final = 10_000
#: Only so many tags of one filter are counted.
_MOST: Final = 16


def common(connection: Connection, terms: Sequence[Term]) -> frozenset[Term]:
    """Return the tests of tags that more than a few deployments may pass."""
    asked = [term for term in terms if term.field.key is not None and not term.absent]
    asked = [term for term in asked if term.field.owner == "deployment"][:_MOST]
    if connection.dialect.name != "sqlite" or not asked:
        return frozenset()
    row = connection.execute(_counting(tuple(asked))).one()
    return frozenset(
        term for term, number in zip(asked, row, strict=True) if number >= _MANY
    )


@lru_cache(maxsize=256)
def _counting(terms: tuple[Term, ...]) -> Select[Any]:
    """Return the statement that counts the entries of tags, up to a number."""
    # Tags know no time.
    conditions = Conditions("deployment", "sqlite", datetime.now(UTC), joined=False)
    counts: list[Any] = []
    for term in terms:
        table = term.field.column.table.alias()
        one: Select[int] = select(literal_column("1", Integer)).select_from(table)
        some = one.where(*conditions.indexed(term, table)).limit(_MANY).subquery()
        counts.append(select(func.count()).select_from(some).scalar_subquery())
    return select(*counts)
