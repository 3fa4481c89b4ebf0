"""In which order rows come, and what comes after a row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Integer,
    String,
    and_,
    case,
    false,
    func,
    literal,
    or_,
)
from sqlalchemy.types import TypeEngine

from prefect_lume.errors import InvalidInputError, clip, name_list, suggestion
from prefect_lume.registry.search.fields import (
    DEPLOYMENT,
    MODEL,
    Kind,
    Target,
    columns,
    kind_of,
    plain,
)
from prefect_lume.registry.search.fields import Field as SearchField
from prefect_lume.registry.search.parsing import check_text
from prefect_lume.registry.search.problems import problem
from prefect_lume.registry.search.texts import Texts
from prefect_lume.storage.columns import UTCDateTime

#: Longer text is ordered by so many characters of it: MySQL looks at 1,024 bytes.
LONGEST: Final = 250
_MOST_KEYS: Final = 20
_PART: Final = re.compile(
    r"\s*(?P<name>[\w.]+)(?:\s+(?P<way>asc|desc))?\s*", re.IGNORECASE
)


@dataclass(frozen=True, eq=False)
class Key:
    """One column of an order."""

    name: str
    column: ColumnElement[Any]
    kind: Kind
    nullable: bool
    cut: bool
    of_model: bool
    falling: bool = False

    def value(self, texts: Texts) -> ColumnElement[Any]:
        """Return what is compared."""
        if self.kind is Kind.FLAG:
            return case((self.column, 1), else_=0)
        if self.kind in {Kind.TEXT, Kind.SHA}:
            cut = func.substr(self.column, 1, LONGEST, type_=String)
            return texts.ordered(cut if self.cut else self.column)
        return self.column

    def bound(self, value: object) -> ColumnElement[Any]:
        """Return a value as a parameter of the type of what is compared."""
        kinds: dict[Kind, TypeEngine[Any]] = {
            Kind.NUMBER: Integer(),
            Kind.FLAG: Integer(),
            Kind.DATE: UTCDateTime(),
        }
        return literal(value, kinds.get(self.kind, String()))


@dataclass(frozen=True, eq=False)
class Order:
    """The columns by which rows are ordered; the last one is the unique id."""

    keys: tuple[Key, ...]

    @property
    def text(self) -> str:
        """The order in one spelling."""
        return ", ".join(
            f"{key.name} {'desc' if key.falling else 'asc'}" for key in self.keys
        )

    def by(self, texts: Texts) -> list[ColumnElement[Any]]:
        """Return the expressions to order by. NULL is last, in either direction."""
        found: list[ColumnElement[Any]] = []
        for key in self.keys:
            if key.nullable:
                found.append(case((key.column.is_(None), 1), else_=0))
            value = key.value(texts)
            found.append(value.desc() if key.falling else value.asc())
        return found

    def after(self, values: Sequence[Any], texts: Texts) -> ColumnElement[bool]:
        """Return the condition that a row comes after the one with these values."""
        condition: ColumnElement[bool] = false()
        for key, value in zip(reversed(self.keys), reversed(values), strict=True):
            column = key.value(texts)
            if value is None:
                condition = and_(key.column.is_(None), condition)
                continue
            bound = key.bound(value)
            beyond = column < bound if key.falling else column > bound
            if key.nullable:
                beyond = or_(beyond, key.column.is_(None))
            condition = or_(beyond, and_(column == bound, condition))
        first = self.keys[0]
        if first.nullable:
            return condition
        # Says nothing new, but an index is read from there.
        column, bound = first.value(texts), first.bound(values[0])
        return and_(column <= bound if first.falling else column >= bound, condition)


def read(target: Target, order_by: str | Sequence[str]) -> Order:
    """Return the order that a text means: ``"laboratory, version DESC"``.

    Rows that are equal in it come by their id, in the direction of the last column.

    Raises:
        InvalidInputError: It names a column that is not there, or one twice.
    """
    parts = [order_by] if isinstance(order_by, str) else list(order_by)
    for part in parts:
        check_text("order", part)
    text = ", ".join(parts)
    check_text("order", text)
    return _read(target, text)


@lru_cache(maxsize=256)
def _read(target: Target, text: str) -> Order:
    known = _known(target)
    keys: dict[str, Key] = {}
    start = 0
    for part in text.split(",") if text.strip() else ():
        key = _key(text, start, part, known)
        if key.name in keys:
            name = f"{key.name} is named twice."
            raise problem("order", text, start, start + len(part), name)
        keys[key.name] = key
        start += len(part) + 1
    if len(keys) > _MOST_KEYS:
        raise InvalidInputError(
            f"The order has {len(keys)} columns; at most {_MOST_KEYS} are allowed."
        )
    return Order(_complete(target, list(keys.values())))


def _complete(target: Target, keys: list[Key]) -> tuple[Key, ...]:
    unique = f"{target}_id"
    for place, key in enumerate(keys):
        if key.name == unique:
            return tuple(keys[: place + 1])
    falling = bool(keys) and keys[-1].falling
    return (*keys, _made(unique, _known(target)[unique], falling=falling))


def _key(text: str, start: int, part: str, known: dict[str, SearchField]) -> Key:
    found = _PART.fullmatch(part)
    if not found:
        message = (
            "An order is one or several columns, each with ASC or DESC if need be: "
            "laboratory, version DESC."
        )
        raise problem("order", text, start, start + len(part), message)
    name = found["name"]
    field = known.get(name)
    if field is None:
        at = start + found.start("name")
        message = (
            f"There is no order by {clip(name, 60)!r}.{suggestion(name, known)} "
            f"Allowed: {name_list(known, 40)}."
        )
        raise problem("order", text, at, at + len(name), message)
    return _made(name, field, falling=(found["way"] or "").lower() == "desc")


def _made(name: str, field: SearchField, *, falling: bool) -> Key:
    column = field.column
    length = getattr(column.type, "length", None)
    kind = kind_of(column)
    return Key(
        # One name for one column, however it was named.
        name=name if field.joined else column.key,
        column=column,
        kind=kind,
        nullable=bool(column.nullable),
        cut=kind is Kind.TEXT and (length is None or length > 255),
        of_model=column.table is MODEL,
        falling=falling,
    )


def _known(target: Target) -> dict[str, SearchField]:
    table = DEPLOYMENT if target == "deployment" else MODEL
    own = columns(table)
    found = {name: field for name, field in plain(target).items() if name in own}
    if target == "model":
        return found
    of_model = {
        f"model.{name}": SearchField(f"model.{name}", kind_of(column), column)
        for name, column in columns(MODEL).items()
    }
    named = {n: f for n, f in plain(target).items() if f.joined}
    return found | named | of_model
