"""From what a filter means to SQL. Values are bound parameters, always."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    and_,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)

from prefect_lume.registry.search.fields import DEPLOYMENT, MODEL, Field, Kind, Target
from prefect_lume.registry.search.meaning import Meaning, Term
from prefect_lume.registry.search.texts import START, Texts, beginning, pattern
from prefect_lume.registry.search.times import Ago, Span, When

Condition = ColumnElement[bool]

_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: Tags that are joined; databases join some sixty tables at most.
_MOST_JOINS: Final = 4


class Conditions:
    """Makes the conditions of one search.

    Args:
        target: What is searched for.
        dialect: SQLAlchemy's name of the kind of database.
        now: What ``now`` is.
        joined: Whether the statement joins the model to each deployment.
    """

    def __init__(
        self, target: Target, dialect: str, now: datetime, *, joined: bool
    ) -> None:
        self._target = target
        self._texts = Texts(dialect)
        self._now = now
        self._joined = joined
        self._sqlite = dialect == "sqlite"
        self.common: frozenset[Term] = frozenset()
        """Tests of tags that so many rows pass that each row had better ask."""

    def of(self, meaning: Meaning) -> Condition:
        """Return the condition for what a filter, or a part of it, means."""
        return self._of(meaning)[0]

    def _of(self, meaning: Meaning) -> tuple[Condition, int]:
        if isinstance(meaning, Term):
            return self._term(meaning), 0
        found = [self._of(part) for part in meaning.parts]
        # SQLite's parser holds a hundred open parts. The deepest one first, it has
        # nothing else open meanwhile.
        found.sort(key=lambda part: part[1], reverse=True)
        join = and_ if meaning.every else or_
        return join(*(part[0] for part in found)), found[0][1] + 1

    def tables(
        self, parts: Sequence[Meaning], source: FromClause
    ) -> tuple[FromClause, list[Meaning]]:
        """Join the tags that must have a value, and return what remains to be asked.

        Servers' planners know joins best. A row has a key once, so none is repeated.
        """
        if self._sqlite:
            return source, list(parts)
        rest: list[Meaning] = []
        joins = 0
        for part in parts:
            if joins < _MOST_JOINS and isinstance(part, Term) and self._fixed(part):
                joins += 1
                table = _alias(part.field)
                link = table.c[_link(part.field).key]
                fits = self._inner(part, table)
                source = source.join(table, and_(link == self._owner(part), *fits))
            else:
                rest.append(part)
        return source, rest

    def _fixed(self, term: Term) -> bool:
        return (
            term.field.key is not None
            and term.field.owner == self._target
            and term.asked == "="
            and not (term.negated or term.absent)
        )

    def _owner(self, term: Term) -> Column[Any]:
        if self._target == "model":
            return MODEL.c.model_id
        return DEPLOYMENT.c[f"{term.field.owner}_id"]

    def _term(self, term: Term) -> Condition:
        if term.field.kind is Kind.WORDS:
            return self._words(term)
        if term.field.kind is Kind.LIVE:
            if term.asked == "any":
                return false() if term.absent else true()
            return self._live(term.values[0] is not term.absent)
        if term.field.link is not None:
            return self._linked(term)
        column = term.field.column
        fits = self._fits(term, column)
        if not term.absent:
            return fits
        if not column.nullable:
            return not_(fits)
        return column.is_(None) if term.asked == "any" else _missing_or(column, fits)

    def _linked(self, term: Term) -> Condition:
        table = _alias(term.field)
        link, owner = table.c[_link(term.field).key], self._owner(term)
        fits = self._inner(term, table)
        if term.absent or term.field.probed or term in self.common:
            found = exists().where(link == owner, *fits)
            return not_(found) if term.absent else found
        return owner.in_(select(link).where(*fits))

    def _inner(self, term: Term, table: FromClause) -> list[Condition]:
        """Return what a row of another table must be like to pass a test."""
        fits = self._fits(term, table.c[term.field.column.key])
        if term.field.key is None:
            return [fits]
        indexed = self.indexed(term, table)
        return indexed if term.asked == "any" else [*indexed, fits]

    def indexed(self, term: Term, table: FromClause) -> list[Condition]:
        """Return as much of a tag's test as the index of tags can look up."""
        near = [] if term.negated else self._near(term, table.c.value_start)
        return [table.c.key == term.field.key, *near]

    def _near(self, term: Term, start: ColumnElement[Any]) -> list[Condition]:
        """Return how a tag's value must begin."""
        if term.asked == "=":
            return [start == term.values[0][:START]]
        if term.asked == "in":
            return [start.in_(sorted({value[:START] for value in term.values}))]
        if term.asked == "like":
            signs = beginning(pattern(term.values[0]))
            return [self._texts.like(start, signs)] if signs else []
        return []

    def _words(self, term: Term) -> Condition:
        (part,) = term.values
        own = self._has(term.field.column, part)
        if self._target == "model":
            return not_(own) if term.absent else own
        model = MODEL.alias()
        found = self._has(model.c.search_text, part)
        owner = DEPLOYMENT.c.model_id
        if term.absent:
            return and_(
                not_(own), not_(exists().where(model.c.model_id == owner, found))
            )
        return or_(own, owner.in_(select(model.c.model_id).where(found)))

    def _has(self, column: ColumnElement[Any], part: str) -> Condition:
        return self._texts.contains(func.coalesce(column, ""), part)

    def _live(self, wanted: bool) -> Condition:
        live = DEPLOYMENT.c.live_model_id
        if self._target == "model":
            deployment = DEPLOYMENT.alias()
            found = exists().where(deployment.c.live_model_id == MODEL.c.model_id)
            return found if wanted else not_(found)
        if not wanted:
            return DEPLOYMENT.c.is_live == false()
        # ``is_live`` has no index. One deployment of a model is live, so it is looked
        # up, whatever the order is: SQLite would rather read all in order.
        if self._sqlite:
            other = DEPLOYMENT.alias()
            all_live = select(other.c.deployment_id).where(other.c.live_model_id > 0)
            return DEPLOYMENT.c.deployment_id.in_(all_live)
        return live == MODEL.c.model_id if self._joined else live > 0

    def _fits(self, term: Term, column: ColumnElement[Any]) -> Condition:
        """Return whether a value passes; NULL does not."""
        if term.asked == "any":
            return column.is_not(None)
        if term.field.kind is Kind.DATE:
            found = self._dated(term, column)
        elif term.field.kind is Kind.FLAG:
            found = column == (true() if term.values[0] else false())
        elif term.field.kind is Kind.NUMBER:
            found = _compared(term, column)
        else:
            found = self._written(term, column)
        return not_(found) if term.negated else found

    def _written(self, term: Term, column: ColumnElement[Any]) -> Condition:
        value: str = term.values[0]
        if term.asked == "like":
            return self._texts.like(column, pattern(value))
        if term.asked == "ilike":
            return self._texts.ilike(column, pattern(value))
        if term.asked == "contains":
            return self._texts.contains(column, value)
        if term.asked in {"=", "in"}:
            values = sorted(set(term.values))
            return _one_of(column, [self._texts.exact(column, v) for v in values])
        return _compared(term, self._texts.ordered(column))

    def _dated(self, term: Term, column: ColumnElement[Any]) -> Condition:
        spans = [self._span(value) for value in term.values]
        first, last = spans[0].first, spans[-1].last
        if term.asked in {"=", "in"}:
            return or_(*(column.between(span.first, span.last) for span in spans))
        if term.asked == "between":
            return and_(column >= first, column <= last)
        bound = first if term.asked in {"<", ">="} else last
        found: Condition = _COMPARISONS[term.asked](column, bound)
        return found

    def _span(self, when: When) -> Span:
        return when.at(self._now) if isinstance(when, Ago) else when


def _link(field: Field) -> Column[Any]:
    if field.link is None:  # pragma: no cover - asked of fields with a link only
        raise ValueError(field.name)
    return field.link


def _alias(field: Field) -> FromClause:
    return _link(field).table.alias()


def _missing_or(column: ColumnElement[Any], fits: Condition) -> Condition:
    return or_(column.is_(None), not_(fits))


def _compared(term: Term, column: ColumnElement[Any]) -> Condition:
    values = [literal(value, column.type) for value in term.values]
    if term.asked in {"=", "in"}:
        return _one_of(column, values)
    if term.asked == "between":
        return and_(column >= values[0], column <= values[1])
    found: Condition = _COMPARISONS[term.asked](column, values[0])
    return found


def _one_of(column: ColumnElement[Any], values: Sequence[Any]) -> Condition:
    return column == values[0] if len(values) == 1 else column.in_(values)


__all__ = ["Condition", "Conditions"]
