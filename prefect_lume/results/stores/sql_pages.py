"""Stream documents out of SQL: page by page, each in a transaction of its own.

No transaction stays open while the caller works on a document: he may store others
meanwhile, even where writers exclude each other. Each page starts after the last row
of the one before (by the sort keys, which end in the unique hash), so that a page
costs the same wherever it is.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select

from prefect_lume.errors import QueryError
from prefect_lume.results import query as language
from prefect_lume.results.stores import sql_index, sql_plan, sql_tables
from prefect_lume.results.stores.sql_plan import Condition
from prefect_lume.results.stores.sql_transactions import Transactions

_RESULT = sql_tables.result
_FIRST_PAGE: Final = 20
_LARGEST_PAGE: Final = 1000
#: Pages are sized to take about so many characters of JSON.
_PAGE_TEXT: Final = 4 << 20
_BY_HASH_AT_ONCE: Final = 50

Keys = list[tuple[ColumnElement[Any], int]]


class Pages:
    """Finds documents of an SQL database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        pairs: list[tuple[str, int]],
        skip: int,
        limit: int | None,
    ) -> Iterator[dict[str, Any]]:
        """Yield documents; all arguments are checked and in stored form.

        Raises:
            QueryError: ``skip`` or ``limit`` is negative.
        """
        if skip < 0 or (limit is not None and limit < 0):
            raise QueryError(f"skip ({skip}) and limit ({limit}) are 0 or more.")
        stop = None if limit is None else skip + limit
        if limit == 0:
            return iter(())
        conditions, rest = sql_plan.plan(query)
        conditions.insert(0, _RESULT.c.collection == collection)
        if rest:
            chosen = self._transactions.read(
                lambda c: sql_index.candidates(c, collection, query)
            )
            if chosen is not None:
                conditions.append(_RESULT.c.unique_hash.in_(chosen))
        keys = sql_plan.order(pairs)
        if keys is not None:
            found = self._matching(conditions, rest, keys, None if rest else stop)
            return itertools.islice(found, skip, stop)
        return self._sorted_here(conditions, rest, pairs, skip, stop)

    def _matching(
        self,
        conditions: list[Condition],
        rest: Mapping[str, Any],
        keys: Keys,
        most: int | None,
    ) -> Iterator[dict[str, Any]]:
        test = language.compile_query(rest)
        for text in self._texts(conditions, keys, most):
            tree = json.loads(text)
            if test(tree):
                yield tree

    def _texts(
        self, conditions: list[Condition], keys: Keys, most: int | None
    ) -> Iterator[str]:
        ordering = [key.asc() if way > 0 else key.desc() for key, way in keys]
        labels = [key.label(f"k{n}") for n, (key, _) in enumerate(keys)]
        statement = select(_RESULT.c.document, *labels).order_by(*ordering)
        beyond: list[Condition] = []
        size = _FIRST_PAGE
        while most is None or most > 0:
            size = size if most is None else min(size, most)
            page = statement.where(*conditions, *beyond).limit(size)

            def read(connection: Connection, page: Any = page) -> list[Any]:
                return list(connection.execute(page))

            rows = self._transactions.read(read)
            for row in rows:
                yield row.document
            if len(rows) < size:
                return
            most = None if most is None else most - len(rows)
            beyond = [sql_plan.after(keys, list(rows[-1][1:]))]
            mean = max(1, sum(len(row.document) for row in rows) // len(rows))
            size = max(1, min(_LARGEST_PAGE, size * 4, _PAGE_TEXT // mean))

    def _sorted_here(
        self,
        conditions: list[Condition],
        rest: Mapping[str, Any],
        pairs: list[tuple[str, int]],
        skip: int,
        stop: int | None,
    ) -> Iterator[dict[str, Any]]:
        """Sort by keys kept in memory, then fetch the documents in that order."""
        by_hash = sql_plan.order([("_id", 1)])
        found: list[list[Any]] = []
        for tree in self._matching(conditions, rest, by_hash or [], None):
            found.append([language.sort_key(tree, path, way) for path, way in pairs])
            found[-1].append(tree["_id"])
            if stop is not None and len(found) > 2 * stop + _LARGEST_PAGE:
                found = _in_order(found, pairs)[:stop]
        hashes = [keys[-1] for keys in _in_order(found, pairs)[skip:stop]]
        for start in range(0, len(hashes), _BY_HASH_AT_ONCE):
            yield from self._by_hash(conditions[0], hashes[start:][:_BY_HASH_AT_ONCE])

    def _by_hash(
        self, condition: Condition, hashes: list[str]
    ) -> Iterator[dict[str, Any]]:
        statement = select(_RESULT.c.unique_hash, _RESULT.c.document).where(
            condition, _RESULT.c.unique_hash.in_(hashes)
        )
        texts = self._transactions.read(
            lambda c: {row.unique_hash: row.document for row in c.execute(statement)}
        )
        for unique_hash in hashes:
            if unique_hash in texts:
                yield json.loads(texts[unique_hash])


def _in_order(found: list[list[Any]], pairs: list[tuple[str, int]]) -> list[list[Any]]:
    # Sorting is stable: by the least significant key first.
    for place in reversed(range(len(pairs))):
        found.sort(key=lambda keys: keys[place], reverse=pairs[place][1] < 0)
    return found
