"""One statement for a page of ids, one for a count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final

from sqlalchemy import Connection, FromClause, Select, and_, func, select

from prefect_lume.errors import InvalidInputError
from prefect_lume.registry.search import meaning as meanings
from prefect_lume.registry.search import order as orders
from prefect_lume.registry.search import tokens
from prefect_lume.registry.search.common import common
from prefect_lume.registry.search.conditions import Condition, Conditions
from prefect_lume.registry.search.fields import DEPLOYMENT, MODEL, Kind, Target
from prefect_lume.registry.search.texts import Texts

MOST_ROWS: Final = 10_000


@dataclass(frozen=True)
class Found:
    """One page of what was found.

    Attributes:
        ids: The numbers of the deployments or models, in order.
        next_page_token: What to give for the page after this one; None: it is the last.
    """

    ids: tuple[int, ...]
    next_page_token: str | None = None


def search(
    connection: Connection,
    target: Target,
    where: str,
    order_by: str | Sequence[str],
    limit: int,
    page_token: str | None,
) -> Found:
    """Return one page; see the package for what the arguments are."""
    _check_limit(limit)
    order = orders.read(target, order_by)
    now = datetime.now(UTC)
    place = None
    # The filter first: a token is of no use for one that cannot be read.
    meaning = meanings.understand(target, where)
    if page_token is not None:
        place = tokens.read(target, where, order, page_token)
        now = place.now
    statement = _statement(connection, target, meaning, now, _Wanted(order, limit))
    if place is not None:
        texts = Texts(connection.dialect.name)
        statement = statement.where(order.after(place.values, texts))
    rows = connection.execute(statement).all()
    ids = tuple(int(row[-1]) for row in rows[:limit])
    if len(rows) <= limit:
        return Found(ids)
    last = tokens.Place(now, tuple(rows[limit - 1]))
    return Found(ids, tokens.write(target, where, order, last))


def count(connection: Connection, target: Target, where: str) -> int:
    """Return how many there are."""
    meaning = meanings.understand(target, where)
    statement = _statement(connection, target, meaning, datetime.now(UTC), None)
    return int(connection.execute(statement).scalar_one())


@dataclass(frozen=True)
class _Wanted:
    """One page, as it is asked for."""

    order: orders.Order
    limit: int


def _statement(
    connection: Connection,
    target: Target,
    meaning: meanings.Meaning | None,
    now: datetime,
    wanted: _Wanted | None,
) -> Select[Any]:
    """Return the statement for a page, or, without one, that which counts.

    Making it takes longer than many a search, so that it is kept. What a date of a
    filter is depends on the time.
    """
    terms = tuple(meanings.terms(meaning))
    dialect = connection.dialect.name
    many: frozenset[meanings.Term] = frozenset()
    if target == "deployment":
        many = common(connection, terms)
    timeless = all(term.field.kind is not Kind.DATE for term in terms)
    make = _kept if timeless else _made
    return make(target, meaning, dialect, None if timeless else now, many, wanted)


def _made(
    target: Target,
    meaning: meanings.Meaning | None,
    dialect: str,
    now: datetime | None,
    many: frozenset[meanings.Term],
    wanted: _Wanted | None,
) -> Select[Any]:
    conditions = partial(Conditions, target, dialect, now or datetime.now(UTC))
    if wanted is None:
        source, condition = _asked(target, meaning, conditions, many, joined=False)
        statement: Select[Any] = select(func.count()).select_from(source)
    else:
        texts, keys = Texts(dialect), wanted.order.keys
        joined = any(key.of_model for key in keys)
        source, condition = _asked(target, meaning, conditions, many, joined=joined)
        statement = (
            select(*(key.value(texts) for key in keys))
            .select_from(source)
            .order_by(*wanted.order.by(texts))
            .limit(wanted.limit + 1)
        )
    return statement if condition is None else statement.where(condition)


_kept = lru_cache(maxsize=256)(_made)


def _asked(
    target: Target,
    meaning: meanings.Meaning | None,
    make: Callable[..., Conditions],
    many: frozenset[meanings.Term],
    *,
    joined: bool,
) -> tuple[FromClause, Condition | None]:
    """Return the tables that a filter needs, and its condition."""
    source: FromClause = MODEL
    terms = list(meanings.terms(meaning))
    if target == "deployment":
        source = DEPLOYMENT
        joined = joined or any(term.field.joined for term in terms)
        if joined:
            source = source.join(MODEL, MODEL.c.model_id == DEPLOYMENT.c.model_id)
    conditions = make(joined=joined)
    conditions.common = many
    source, rest = conditions.tables(meanings.conjuncts(meaning), source)
    found = [conditions.of(part) for part in rest]
    return source, and_(*found) if found else None


def _check_limit(limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int):
        kind = type(limit).__name__
        raise InvalidInputError(f"limit must be a whole number, not {kind}.")
    if not 1 <= limit <= MOST_ROWS:
        raise InvalidInputError(
            f"limit must be between 1 and {MOST_ROWS:,}, not {limit}. Further rows are "
            f"on the next page: give its page_token."
        )
