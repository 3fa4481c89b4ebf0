"""Stream documents out of SQL: page by page, each in a transaction of its own.

No transaction stays open while the caller works on a document: he may store others
meanwhile, even where writers exclude each other. Each page starts after the last row
of the one before (by the sort keys, which end in the unique hash), so that a page
costs the same wherever it is.

Where the server has to look into the documents, the first thousand in order are tried
first. If few of them match, a single pass finds the keys of all others that do, and
the documents are fetched by their keys: pages would make the server search the same
documents again and again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, not_, select
from sqlalchemy.engine import Row

from prefect_lume.results import query as language
from prefect_lume.results.stores.sql import fields as sql_fields
from prefect_lume.results.stores.sql import plan as sql_plan
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.plan import Condition
from prefect_lume.results.stores.sql.search import Search
from prefect_lume.results.stores.sql.transactions import Transactions

_RESULT = sql_tables.result
_FIRST_PAGE: Final = 20
_LARGEST_PAGE: Final = 1000
_BY_HASH_AT_ONCE: Final = 500
#: Pages are sized to take about so many characters of JSON.
_PAGE_TEXT: Final = 4 << 20
#: So many documents are tried first; if fewer than one in five match, keys are sought.
_WINDOW: Final = 1000
_DENSE: Final = 5
#: Most keys held in memory.
_MOST_KEYS: Final = 50_000

Keys = list[tuple[ColumnElement[Any], int]]
#: A document's text, and whether it is sure to match.
Found = Iterator[tuple[str, bool]]


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
        language.check_page(skip, limit)
        stop = None if limit is None else skip + limit
        if limit == 0:
            return iter(())
        search = Search(self._transactions, collection, query)
        search.narrow()
        keys = sql_plan.order(pairs)
        if keys is not None:
            found = _matching(search, _texts(search, keys, stop))
            return itertools.islice(found, skip, stop)
        return _sorted_here(search, pairs, skip, stop)

    def count(self, collection: str, query: Mapping[str, Any]) -> int:
        """Return how many documents match."""
        search = Search(self._transactions, collection, query)
        counted = search.count()
        if counted is not None:
            return counted
        return sum(1 for _ in _matching(search, _texts(search, _by_hash(), None)))

    def distinct(
        self, collection: str, field: str, query: Mapping[str, Any]
    ) -> list[Any]:
        """Return the distinct values of a field, in MongoDB's order."""
        language.prepare_projection([field], stored=True)
        search = Search(self._transactions, collection, query)
        column = sql_plan.COLUMNS.get(field)
        if column is not None and not search.rest:
            rows = search.read(lambda s: select(column).distinct().where(*s.conditions))
            return sorted((row[0] for row in rows), key=language.order_key)
        values = sql_fields.distinct(search, field)
        if values is None:
            pairs = language.prepare_sort(None, stored=True)
            keys = sql_plan.order(pairs) or []
            found: dict[tuple[Any, ...], Any] = {}
            for tree in _matching(search, _texts(search, keys, None)):
                for value in language.values(tree, field):
                    found.setdefault(language.order_key(value), value)
            values = found
        return [values[key] for key in sorted(values)]


def _by_hash() -> Keys:
    return [(_RESULT.c.unique_hash, 1)]


def _matching(search: Search, found: Found) -> Iterator[dict[str, Any]]:
    for text, sure in found:
        tree = json.loads(text)
        if sure or search.test(tree):
            yield tree


def _texts(search: Search, keys: Keys, most: int | None) -> Found:
    """Yield documents in order; ``most``: more than so many are not asked for."""
    if search.hashes is not None:
        yield from _few(search, search.hashes, keys)
        return
    bound: list[Any] | None = None
    if search.verdict is not None:
        bound, rows = _window(search, keys)
        yield from search.documents([row.unique_hash for row in rows])
        if bound is None:
            return
        if len(rows) * _DENSE < _WINDOW:
            others = _keys_after(search, keys, bound)
            if others is not None:
                yield from search.documents(others)
                return
    yield from _paged(search, keys, bound, most)


def _few(search: Search, hashes: Sequence[str], keys: Keys) -> Found:
    rows: list[Row[Any]] = []
    whole = len(hashes) <= _FIRST_PAGE
    for start in range(0, len(hashes), _BY_HASH_AT_ONCE):
        some = hashes[start : start + _BY_HASH_AT_ONCE]

        def page(search: Search, some: Sequence[str] = some) -> Select[Any]:
            # The result type is in no index that has the keys: SQLite would scan such
            # an index from end to end instead of looking the hashes up.
            other = [_RESULT.c.document, search.still] if whole else []
            return (
                _columns(keys)
                .add_columns(_RESULT.c.result_type, *other)
                .where(search.conditions[0], _RESULT.c.unique_hash.in_(some))
            )

        rows += search.read(page)
    if not whole:
        yield from search.documents([row.unique_hash for row in _sorted(rows, keys)])
        return
    for row in _sorted(rows, keys):
        if row.sure is not False:
            yield row.document, row.sure is True


def _columns(keys: Keys) -> Select[Any]:
    labels = [key.label(f"k{n}") for n, (key, _) in enumerate(keys)]
    return select(*labels, _RESULT.c.unique_hash.label("unique_hash"))


def _ordering(keys: Keys) -> list[ColumnElement[Any]]:
    return [key.asc() if way > 0 else key.desc() for key, way in keys]


def _sorted(rows: Sequence[Row[Any]], keys: Keys) -> list[Row[Any]]:
    ordered = list(rows)
    for place in reversed(range(len(keys))):
        ordered.sort(key=lambda row: row[place], reverse=keys[place][1] < 0)
    return ordered


def _window(search: Search, keys: Keys) -> tuple[list[Any] | None, Sequence[Row[Any]]]:
    """Try the first documents; return where they end and the rows that may match."""
    (*ends,) = search.read(
        lambda s: (
            _columns(keys)
            .where(*s.conditions)
            .order_by(*_ordering(keys))
            .offset(_WINDOW - 1)
            .limit(1)
        )
    )
    bound = list(ends[0][: len(keys)]) if ends else None
    within = [] if bound is None else [_up_to(keys, bound)]
    rows = search.read(
        lambda s: _columns(keys).where(*s.filters, *within).order_by(*_ordering(keys))
    )
    return bound, rows


def _up_to(keys: Keys, bound: list[Any]) -> Condition:
    (first, way), *_ = keys
    near: Condition = first <= bound[0] if way > 0 else first >= bound[0]
    return near & not_(sql_plan.after(keys, bound))


def _keys_after(search: Search, keys: Keys, bound: list[Any]) -> list[str] | None:
    """Return the keys of what may match beyond the bound, or None if they are many."""
    # Without an order, the server may read its table as it lies.
    rows = search.read(
        lambda s: (
            _columns(keys)
            .where(*s.filters, sql_plan.after(keys, bound))
            .limit(_MOST_KEYS + 1)
        )
    )
    if len(rows) > _MOST_KEYS:
        return None
    return [row.unique_hash for row in _sorted(rows, keys)]


def _paged(
    search: Search, keys: Keys, bound: list[Any] | None, most: int | None
) -> Found:
    size = _FIRST_PAGE if most is None else max(1, min(_LARGEST_PAGE, most))
    if most is not None and search.rest:
        size = _FIRST_PAGE
    while True:
        beyond = [] if bound is None else [sql_plan.after(keys, bound)]

        def page(
            search: Search, size: int = size, beyond: list[Condition] = beyond
        ) -> Select[Any]:
            return (
                _columns(keys)
                .add_columns(_RESULT.c.document, search.sure.label("sure"))
                .where(*search.filters, *beyond)
                .order_by(*_ordering(keys))
                .limit(size)
            )

        rows = search.read(page)
        for row in rows:
            yield row.document, bool(row.sure)
        if len(rows) < size:
            return
        bound = list(rows[-1][: len(keys)])
        mean = max(1, sum(len(row.document) for row in rows) // len(rows))
        size = max(1, min(_LARGEST_PAGE, size * 4, _PAGE_TEXT // mean))


def _sorted_here(
    search: Search, pairs: list[tuple[str, int]], skip: int, stop: int | None
) -> Iterator[dict[str, Any]]:
    """Sort by keys kept in memory, then fetch the documents in that order."""
    if stop is not None and stop <= _LARGEST_PAGE:
        sql_fields.narrow(search, *pairs[0], stop)
    found: list[list[Any]] = []
    for keys in _sort_keys(search, pairs):
        found.append(keys)
        if stop is not None and len(found) > 2 * stop + _LARGEST_PAGE:
            found = _in_order(found, pairs)[:stop]
    hashes = [keys[-1] for keys in _in_order(found, pairs)[skip:stop]]
    for text, sure in search.documents(hashes):
        tree = json.loads(text)
        if sure or search.test(tree):
            yield tree


def _sort_keys(search: Search, pairs: list[tuple[str, int]]) -> Iterator[list[Any]]:
    """Yield the sort keys of each document that matches, the unique hash last."""
    paths = [path for path, _ in pairs]
    fields = sql_fields.rows(search, paths)
    if fields is not None:
        for unique_hash, trees in fields:
            yield [
                *(
                    language.sort_key(tree, path, way)
                    for tree, (path, way) in zip(trees, pairs, strict=True)
                ),
                unique_hash,
            ]
        return
    for tree in _matching(search, _texts(search, _by_hash(), None)):
        keys = [language.sort_key(tree, path, way) for path, way in pairs]
        yield [*keys, tree["_id"]]


def _in_order(found: list[list[Any]], pairs: list[tuple[str, int]]) -> list[list[Any]]:
    # Sorting is stable: by the least significant key first.
    for place in reversed(range(len(pairs))):
        found.sort(key=lambda keys: keys[place], reverse=pairs[place][1] < 0)
    return found
