"""Conditions on values inside documents, as SQL in three-valued logic.

A condition becomes an expression that is true where it holds, false where it does not,
and NULL where the server cannot know: those documents are tested in Python. SQL's own
AND, OR and NOT combine the three as is needed, so that ``expression IS NOT FALSE``
never loses a document, and where it is true there is nothing left to test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, not_, null, or_
from sqlalchemy.sql.elements import Grouping

from prefect_lume.results.query.match import is_operators
from prefect_lume.results.stores.sql import asked as sql_asked
from prefect_lume.results.stores.sql import plan as sql_plan
from prefect_lume.results.stores.sql.values import Values

_NEGATED = {"$ne": "$eq", "$nin": "$in"}


@dataclass(frozen=True)
class Verdict:
    """An expression, and which of the answers it can give at all."""

    expression: ColumnElement[Any]
    may_be_true: bool = True
    may_be_false: bool = True

    def negated(self) -> Verdict:
        """Return the opposite."""
        # In brackets: NOT binds less than the IS that follows.
        opposite = Grouping(not_(self.expression))
        return Verdict(opposite, self.may_be_false, self.may_be_true)


_UNKNOWN = Verdict(null(), may_be_true=False, may_be_false=False)


def verdict(query: Mapping[str, Any], values: Values) -> ColumnElement[Any] | None:
    """Return what the server can say about a query, or None if that excludes nothing.

    Args:
        query: A validated query in stored form, not empty.
        values: Reads documents in the server's dialect.
    """
    found = _query(query, values)
    return found.expression if found.may_be_false else None


def _query(query: Mapping[str, Any], values: Values) -> Verdict:
    return _all(_clause(name, operand, values) for name, operand in query.items())


def _all(parts: Iterable[Verdict]) -> Verdict:
    found = list(parts)
    if len(found) == 1:
        return found[0]
    known = [part for part in found if part is not _UNKNOWN]
    if len(known) < len(found):
        known.append(_UNKNOWN)
    return Verdict(
        and_(*(part.expression for part in known)),
        all(part.may_be_true for part in known),
        any(part.may_be_false for part in known),
    )


def _any(parts: Iterable[Verdict]) -> Verdict:
    found = list(parts)
    if len(found) == 1:
        return found[0]
    return Verdict(
        or_(*(part.expression for part in found)),
        any(part.may_be_true for part in found),
        all(part.may_be_false for part in found),
    )


def _clause(name: str, operand: Any, values: Values) -> Verdict:
    if name == "$and":
        return _all(_query(inner, values) for inner in operand)
    if name in {"$or", "$nor"}:
        scalar = sql_asked.as_scalar(operand)
        found = None
        if scalar is not None:
            found = _leaf(*scalar, values, scalars=True)
        if found is None:
            found = _any(_query(inner, values) for inner in operand)
        return found if name == "$or" else found.negated()
    conditions = operand if is_operators(operand) else {"$eq": operand}
    if name in sql_plan.COLUMNS:
        return _all(_column(name, key, value) for key, value in conditions.items())
    return _all(
        _leaf(name, key, value, values) or _UNKNOWN for key, value in conditions.items()
    )


def _column(name: str, key: str, value: Any) -> Verdict:
    condition = sql_plan.condition(sql_plan.COLUMNS[name], key, value)
    return _UNKNOWN if condition is None else Verdict(condition)


def _leaf(
    path: str, name: str, operand: Any, values: Values, *, scalars: bool = False
) -> Verdict | None:
    if name in _NEGATED:
        found = _leaf(path, _NEGATED[name], operand, values, scalars=scalars)
        return None if found is None else found.negated()
    if name == "$exists" and operand is False:
        found = _leaf(path, name, True, values)  # noqa: FBT003 - the operand.
        return None if found is None else found.negated()
    parts = sql_asked.segments(path)
    asked = sql_asked.ask(name, operand, scalars=scalars)
    if parts is None or asked is None:
        return None
    return Verdict(values.satisfies(parts, asked))
