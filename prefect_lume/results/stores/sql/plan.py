"""What of a query the SQL server can answer: conditions on promoted columns.

Everything that is handed to the server has exactly the meaning that
:mod:`prefect_lume.results.query` gives it; what has not, stays in the *rest*, which
is evaluated on the documents.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, and_, case, false, func, or_, true
from sqlalchemy.sql.schema import Column

from prefect_lume.results.query.language import combine
from prefect_lume.results.query.match import is_operators
from prefect_lume.results.stores.sql import tables as sql_tables

#: Stored path → the column that holds it.
COLUMNS: Final[dict[str, Column[Any]]] = {
    "_id": sql_tables.result.c.unique_hash,
    **{
        name: sql_tables.result.c[name]
        for name in (
            "result_type",
            "flow_id",
            "flow_run_id",
            "deployment_id",
            "date_modified",
        )
    },
}
_RELATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}

Condition = ColumnElement[bool]


def plan(query: Mapping[str, Any]) -> tuple[list[Condition], dict[str, Any]]:
    """Split a validated query into SQL conditions and the rest.

    Args:
        query: In stored form.

    Returns:
        Conditions that must all hold, and a query that must hold besides; ``{}`` if
        SQL answers all of it.
    """
    conditions: list[Condition] = []
    rest: list[dict[str, Any]] = []
    for name, operand in query.items():
        if name == "$and":
            for inner in operand:
                pushed, left = plan(inner)
                conditions += pushed
                rest += [left] if left else []
        elif name == "$or":
            parts = [plan(inner) for inner in operand]
            if any(left for _, left in parts):
                rest.append({name: operand})
            else:
                conditions.append(or_(*(and_(true(), *pushed) for pushed, _ in parts)))
        elif name in COLUMNS:
            pushed, left = _column(name, operand)
            conditions += pushed
            rest += [left] if left else []
        else:
            rest.append({name: operand})
    return conditions, combine(rest)


def _column(name: str, operand: Any) -> tuple[list[Condition], dict[str, Any]]:
    column = COLUMNS[name]
    pushed: list[Condition] = []
    left: dict[str, Any] = {}
    operators = operand if is_operators(operand) else {"$eq": operand}
    for key, value in operators.items():
        found = condition(column, key, value)
        if found is None:
            left[key] = value
        else:
            pushed.append(found)
    return pushed, {name: left} if left else {}


def condition(column: Column[Any], key: str, value: Any) -> Condition | None:
    """Return one comparison in SQL, or None if SQL might see it differently."""
    values = value if key in {"$in", "$nin"} else [value]
    if not isinstance(values, list) or not all(_alike(column, v) for v in values):
        return None
    if key in _RELATIONS:
        compared: Condition = _RELATIONS[key](column, value)
        return None if value is None else compared
    if key not in {"$eq", "$in", "$ne", "$nin"}:
        return None
    known = [v for v in values if v is not None]
    equal = column.in_(known) if known else false()
    null = column.is_(None)
    if key in {"$eq", "$in"}:
        return or_(equal, null) if None in values else equal
    # In SQL a comparison with NULL is neither true nor false.
    other = column.not_in(known) if known else null | column.is_not(None)
    return and_(column.is_not(None), other) if None in values else or_(null, other)


def _alike(column: Column[Any], value: Any) -> bool:
    """Return whether every SQL server compares this value as Python does."""
    if value is None:
        return bool(column.nullable)
    if isinstance(column.type, Integer):
        return type(value) is int and abs(value) < 2**31
    # Blanks at the end are ignored by some; control characters sort before them.
    return (
        type(value) is str
        and 0 < len(value) <= 255
        and value.isprintable()
        and value == value.strip()
    )


def order(pairs: list[tuple[str, int]]) -> list[tuple[ColumnElement[Any], int]] | None:
    """Return SQL expressions to sort by, or None if a path is not a column.

    No expression is ever NULL, since servers disagree where NULL sorts.
    """
    keys: list[tuple[ColumnElement[Any], int]] = []
    for path, direction in pairs:
        column = COLUMNS.get(path)
        if column is None:
            return None
        if not column.nullable:
            keys.append((column, direction))
            continue
        empty: Any = 0 if isinstance(column.type, Integer) else ""
        keys.append((case((column.is_(None), 0), else_=1), direction))
        keys.append((func.coalesce(column, empty), direction))
    return keys


def after(keys: list[tuple[ColumnElement[Any], int]], row: list[Any]) -> Condition:
    """Return the condition of all rows that sort after one, by the same keys."""
    alternatives: list[Condition] = []
    for place, (expression, direction) in enumerate(keys):
        equal = [e == v for (e, _), v in zip(keys[:place], row, strict=False)]
        beyond = expression > row[place] if direction > 0 else expression < row[place]
        alternatives.append(and_(*equal, beyond))
    # Implied by the alternatives, but only this lets a server start in its index there.
    (first, direction), *_ = keys
    start = first >= row[0] if direction > 0 else first <= row[0]
    return and_(start, or_(*alternatives))
