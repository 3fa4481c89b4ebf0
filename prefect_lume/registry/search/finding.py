"""One statement for a page of ids, one for a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, FromClause, Select, and_, func, select

from prefect_lume.errors import InvalidInputError
from prefect_lume.registry.search import meaning as meanings
from prefect_lume.registry.search import order as orders
from prefect_lume.registry.search import tokens
from prefect_lume.registry.search.common import common
from prefect_lume.registry.search.conditions import Condition, Conditions
from prefect_lume.registry.search.fields import DEPLOYMENT, MODEL, Target
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
    texts = Texts(connection.dialect.name)
    joined = any(key.of_model for key in order.keys)
    source, condition = _asked(connection, target, meaning, now, joined=joined)
    statement: Select[Any] = (
        select(*(key.value(texts) for key in order.keys))
        .select_from(source)
        .order_by(*order.by(texts))
        .limit(limit + 1)
    )
    if condition is not None:
        statement = statement.where(condition)
    if place is not None:
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
    now = datetime.now(UTC)
    source, condition = _asked(connection, target, meaning, now, joined=False)
    statement = select(func.count()).select_from(source)
    if condition is not None:
        statement = statement.where(condition)
    return int(connection.execute(statement).scalar_one())


def _asked(
    connection: Connection,
    target: Target,
    meaning: meanings.Meaning | None,
    now: datetime,
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
    conditions = Conditions(target, connection.dialect.name, now, joined=joined)
    if target == "deployment":
        conditions.common = common(connection, conditions, terms)
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
