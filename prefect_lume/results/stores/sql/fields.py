"""Fetch single fields of documents instead of the documents: to sort, or to list."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Select, and_, case, func, null, select, true

from prefect_lume.results import query as language
from prefect_lume.results.query.compare import MISSING
from prefect_lume.results.stores.sql import asked as sql_asked
from prefect_lume.results.stores.sql import plan as sql_plan
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.search import Search
from prefect_lume.results.stores.sql.values import Expression, Values

_RESULT = sql_tables.result
_FIRST_PAGE: Final = 1000
_LARGEST_PAGE: Final = 20_000
_PAGE_TEXT: Final = 4 << 20
#: So many more than are wanted are looked at, in the hope of the end of equal ones.
_SPARE: Final = 100

Fields = Iterator[tuple[str, list[dict[str, Any]]]]


def rows(search: Search, paths: Sequence[str]) -> Fields | None:
    """Return the fields of the documents that match, or None if SQL cannot read them.

    Args:
        search: The query.
        paths: The fields.

    Returns:
        For each document its key, and for each path a document with nothing but that
        (or the whole one, where a list is on the way).
    """
    return _rows(search, paths) if _readable(search, paths) else None


def narrow(search: Search, path: str, way: int, most: int) -> None:
    """Leave out documents whose number is beyond that of so many better ones.

    Args:
        search: The query. It is narrowed to the documents that may be among the first.
        path: What they are sorted by, in the first place.
        way: 1, or -1 for descending order.
        most: How many are wanted.
    """
    parts = sql_asked.segments(path)
    searchable = search.hashes is None and not (search.rest and search.verdict is None)
    if path in sql_plan.COLUMNS or parts is None or not searchable:
        return
    if search.reader() is None:
        return

    def ends(search: Search) -> Select[Any]:
        values = search.values
        number = null() if values is None else way * values.number(parts)
        key = number.label("n")
        return (
            select(_RESULT.c.unique_hash, key, search.sure.label("sure"))
            .where(*search.filters)
            .order_by(key.asc() if values is None else values.nulls_first(key))
            .limit(most + _SPARE)
        )

    # First come those with no number, or one that must be looked at in Python.
    found = search.read(ends)
    if search.values is None:
        return
    better = [float(row.n) for row in found if row.n is not None and row.sure]
    if len(found) < most + _SPARE:
        search.hashes = [row.unique_hash for row in found]
    elif len(better) >= most and sql_asked.is_number(better[most - 1]):
        _, high = sql_asked.band(better[most - 1])
        if better[-1] > high:
            search.hashes = [row.unique_hash for row in found]
            return
        beyond = ("$lt", -high) if way < 0 else ("$gt", high)
        excluded = search.values.satisfies(parts, sql_asked.Asked(numbers=(beyond,)))
        search.narrowing = excluded.is_not(true())


def _readable(search: Search, paths: Sequence[str]) -> bool:
    if search.hashes is not None or (search.rest and search.verdict is None):
        return False
    values = search.reader()
    return (
        values is not None
        and values.exact()
        and all(
            path in sql_plan.COLUMNS or sql_asked.segments(path) is not None
            for path in paths
        )
    )


def _rows(search: Search, paths: Sequence[str]) -> Fields:
    last: str | None = None
    size = _FIRST_PAGE
    while True:

        def page(
            search: Search, last: str | None = last, size: int = size
        ) -> Select[Any]:
            beyond = [] if last is None else [_RESULT.c.unique_hash > last]
            return (
                _fields(search, paths)
                .where(*search.filters, *beyond)
                .order_by(_RESULT.c.unique_hash)
                .limit(size)
            )

        found = search.read(page)
        text = 1
        for row in found:
            if row.document is None:
                texts: tuple[Any, ...] = row[3:]
                yield row.unique_hash, list(map(_tree, paths, texts))
                continue
            text += len(row.document)
            tree = json.loads(row.document)
            if row.sure or search.test(tree):
                yield row.unique_hash, [tree] * len(paths)
        if len(found) < size:
            return
        last = found[-1].unique_hash
        size = min(_LARGEST_PAGE, size * 4, max(1, _PAGE_TEXT * len(found) // text))


def _fields(search: Search, paths: Sequence[str]) -> Select[Any]:
    """Return the selection of key, document (if it is needed), certainty and fields."""
    values = search.values
    known: Expression
    if values is None:
        fields: list[Expression] = [null() for _ in paths]
        document: Expression = _RESULT.c.document
    else:
        fields = [_field(values, path) for path in paths]
        known = and_(
            search.sure,
            *(_clear(values, path) for path in paths if path not in sql_plan.COLUMNS),
        )
        document = case((known, null()), else_=_RESULT.c.document)
    return select(
        _RESULT.c.unique_hash,
        document.label("document"),
        search.sure.label("sure"),
        *(field.label(f"f{n}") for n, field in enumerate(fields)),
    )


def _field(values: Values, path: str) -> Expression:
    column = sql_plan.COLUMNS.get(path)
    if column is not None:
        return column
    return values.readable(values.text(path.split(".")))


def _clear(values: Values, path: str) -> Expression:
    """Return true if a field's text is all that a path leads to; else NULL."""
    parts = path.split(".")
    return values.readable(
        case((values.text(parts).is_(None), values.absent(parts, true())), else_=true())
    )


def _tree(path: str, value: Any) -> dict[str, Any]:
    """Return a document that holds a value at a path and nothing else."""
    if path in sql_plan.COLUMNS:
        return {path: value}
    tree: Any = MISSING if value is None else json.loads(value)
    for part in reversed(path.split(".")):
        tree = {} if tree is MISSING else {part: tree}
    return dict(tree)


def distinct(search: Search, path: str) -> dict[tuple[Any, ...], Any] | None:
    """Return the distinct values of a field by their order keys, or None.

    Equal numbers may be written differently: of those, the one counts that comes first
    in the order of time.
    """
    if path in sql_plan.COLUMNS or not _readable(search, [path]):
        return None
    first = func.min(_RESULT.c.date_modified + _RESULT.c.unique_hash).label("first")

    def groups(search: Search) -> Select[Any]:
        values = search.values
        field = null() if values is None else values.text(path.split("."))
        clear = null() if values is None else _clear(values, path)
        field = case((and_(search.sure, clear), field), else_=null())
        return (
            select(field.label("field"), first).where(*search.filters).group_by(field)
        )

    def others(search: Search) -> Select[Any]:
        values = search.values
        clear = null() if values is None else _clear(values, path)
        unknown = and_(search.sure, clear).is_(None)
        return select(_RESULT.c.unique_hash).where(*search.filters, unknown)

    found = [
        (row.first, language.values(_tree(path, row.field), path))
        for row in search.read(groups)
        if row.field is not None
    ]
    hashes = [row.unique_hash for row in search.read(others)]
    for text, _ in search.documents(hashes, verdict=False):
        tree = json.loads(text)
        if search.test(tree):
            moment = tree["date_modified"] + tree["_id"]
            found.append((moment, language.values(tree, path)))
    result: dict[tuple[Any, ...], Any] = {}
    for _, some in sorted(found, key=lambda pair: pair[0]):
        for value in some:
            result.setdefault(language.order_key(value), value)
    return result
