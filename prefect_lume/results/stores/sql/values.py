"""Read values out of JSON documents in each server's SQL.

A document is canonical JSON text in a text column. Every answer is true, false or NULL
for "ask Python": where a list is on the way, where a number is too near to the operand
to tell them apart after a conversion, where the server does not read what is stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Double,
    and_,
    case,
    false,
    func,
    literal,
    null,
    or_,
    true,
    type_coerce,
)

from prefect_lume.results.query.operands import SCALAR, SCALAR_MARK, SCALAR_VALUE
from prefect_lume.results.stores.sql import asked as sql_asked
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.asked import Asked, Number

Expression = ColumnElement[Any]

DOCUMENT: Final[Expression] = sql_tables.result.c.document
COMPARE: Final[dict[str, Any]] = {
    "$gt": lambda left, right: left > right,
    "$gte": lambda left, right: left >= right,
    "$lt": lambda left, right: left < right,
    "$lte": lambda left, right: left <= right,
}
Kind = Literal["text", "true", "false", "null", "array", "object"]


class Values(ABC):
    """Reads values at paths in one dialect."""

    def satisfies(self, path: Sequence[str], asked: Asked) -> Expression:
        """Return whether the value at a path is what was asked for; NULL: unknown."""
        absent = self.absent(path, answer(asked.null))
        return type_coerce(self.readable(self.answer(path, asked, absent)), Boolean)

    @abstractmethod
    def answer(
        self, path: Sequence[str], asked: Asked, absent: Expression
    ) -> Expression:
        """Return the answer, given the one for a field that is not there."""

    @abstractmethod
    def text(self, path: Sequence[str]) -> Expression:
        """Return a value's JSON text, NULL if it is absent."""

    @abstractmethod
    def number(self, path: Sequence[str]) -> Expression:
        """Return about the number at a path, NULL if there is none."""

    def nulls_first(self, key: Expression) -> ColumnElement[Any]:
        """Return a rising order in which NULL comes first."""
        return key.asc()

    @abstractmethod
    def is_list(self, path: Sequence[str]) -> Expression:
        """Return whether there is a list at a path; NULL if nothing is there."""

    def readable(self, expression: Expression) -> Expression:
        """Return an expression, NULL for documents that the server cannot read."""
        return expression

    def careful(self) -> Values | None:
        """Return a slower reader that fails at fewer documents, or None."""
        return None

    def exact(self) -> bool:
        """Return whether :meth:`text` gives numbers as they are stored."""
        return True

    def absent(self, path: Sequence[str], outcome: Expression) -> Expression:
        """Return the outcome if nothing is at a path, NULL if a list is before it."""
        parent = path[:-1]
        if not parent:
            return outcome
        return case(
            (true(), null()),
            (false(), outcome),
            value=self.is_list(parent),
            else_=self.absent(parent, outcome),
        )

    def outcomes(
        self, path: Sequence[str], asked: Asked, text: Expression
    ) -> dict[Kind, Expression]:
        """Return the outcome for each kind of value, numbers left out."""
        there = true() if asked.exists else false()
        inner: Expression = there
        if asked.scalars:
            mark, value = Asked(texts=(SCALAR,)), Asked(numbers=asked.numbers)
            inner = and_(
                self.answer([*path, SCALAR_MARK], mark, false()),
                self.answer([*path, SCALAR_VALUE], value, false()),
            )
        return {
            "object": inner,
            "array": true() if asked.exists else null(),
            "text": there if asked.exists else text,
            "true": answer(asked.exists or True in asked.booleans),
            "false": answer(asked.exists or False in asked.booleans),
            "null": answer(asked.exists or asked.null),
        }


def answer(value: bool) -> Expression:
    """Return a constant."""
    return true() if value else false()


def one_of(conditions: Iterable[Expression]) -> Expression:
    """Return whether any of some conditions holds, of which there may be none."""
    found = list(conditions)
    return or_(*found) if found else false()


def zone(relation: str, sign: int) -> Expression:
    """Return what holds for numbers less, equal or greater than the operand."""
    return answer(sql_asked.holds(relation, sign))


def by_band(
    number: Expression, relation: str, operand: Number, equal: Expression
) -> Expression:
    """Return a comparison that is NULL where a conversion may have rounded."""
    low, high = sql_asked.band(operand)
    below = (number < literal(low, Double), zone(relation, -1))
    above = (number > literal(high, Double), zone(relation, 1))
    # What excludes a document comes first: it is what most are.
    ranges = [below, above] if sql_asked.holds(relation, 1) else [above, below]
    return case(*ranges, (equal, zone(relation, 0)), else_=null())


def dotted(path: Sequence[str]) -> str:
    """Return a path as SQLite, MySQL and MariaDB write it."""
    return "$" + "".join(f'."{part}"' for part in path)


def text_outcome(asked: Asked, text: Expression, plain: Expression) -> Expression:
    """Return what holds for text: ``plain`` is its content, if it needs no escapes."""
    conditions = []
    if asked.texts:
        conditions.append(text.in_([sql_asked.json_text(t) for t in asked.texts]))
    if asked.text_range is not None:
        relation, operand = asked.text_range
        conditions.append(COMPARE[relation](plain, operand))
    return one_of(conditions)


def by_first(
    text: Expression,
    outcomes: dict[Kind, Expression],
    number: Expression,
    absent: Expression,
) -> Expression:
    """Return the outcome by the first character of a value's JSON text."""
    kinds = {
        "{": outcomes["object"],
        "[": outcomes["array"],
        '"': outcomes["text"],
        "t": outcomes["true"],
        "f": outcomes["false"],
        "n": outcomes["null"],
    }
    return case(
        kinds,
        value=func.left(text, 1),
        else_=case((text.is_(None), absent), else_=number),
    )
