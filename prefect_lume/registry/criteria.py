"""Keyword arguments as conditions, and what to say when they find none or many."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Integer,
    bindparam,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute

from prefect_lume.errors import (
    AmbiguousError,
    InvalidInputError,
    NotFoundError,
    clip,
    name_list,
    suggestion,
)
from prefect_lume.registry import fields
from prefect_lume.registry.tables import (
    Base,
    DeploymentRow,
    FlowRow,
    ModelRow,
    ProjectRow,
)
from prefect_lume.storage.columns import PLAIN_JSON, SHA256, UTCDateTime

Criteria = Mapping[str, Any]
T = TypeVar("T")

#: What each kind of row is called, and the column that people name it by.
_NAMES: Final[dict[type[Base], tuple[str, str]]] = {
    ModelRow: ("model", "description"),
    DeploymentRow: ("deployment", "version"),
    ProjectRow: ("project", "project_name"),
    FlowRow: ("flow", "flow_name"),
}
#: Columns that are no business of a caller.
_INTERNAL: Final = {
    "fingerprint",
    "history_id",
    "live_model_id",
    "revision",
    "search_text",
}
MOST_KNOWN: Final = 50
#: So many rows, and one more, are looked at where one was asked for.
MOST_ROWS: Final = 50


@functools.cache
def columns(row: type[Base]) -> dict[str, InstrumentedAttribute[Any]]:
    """Return the columns that may be asked for, by name."""
    return {
        column.key: getattr(row, column.key)
        for column in row.__table__.columns
        if column.key not in _INTERNAL and column.type is not PLAIN_JSON
    }


def conditions(row: type[Base], criteria: Criteria) -> list[ColumnElement[bool]]:
    """Return one condition per keyword: equal, exactly. ``None`` asks for NULL.

    The values are parameters of the same names: :func:`parameters` checks the names,
    and gives the values.
    """
    allowed = columns(row)
    return [
        allowed[name].is_(None)
        if value is None
        else allowed[name] == bindparam(name, type_=allowed[name].type)
        for name, value in criteria.items()
    ]


def parameters(row: type[Base], criteria: Criteria) -> dict[str, Any]:
    """Return the values of criteria that are not ``None``, checked.

    Raises:
        InvalidInputError: A keyword is no column, or its value not of the column's
            type. Databases would guess otherwise: on MySQL every text equals 0.
    """
    checks = _checks(row)
    found: dict[str, Any] = {}
    for name, value in criteria.items():
        check = checks.get(name)
        if check is None:
            raise InvalidInputError(
                f"A {_NAMES[row][0]} has no {clip(name, 60)!r} to be found by."
                f"{suggestion(name, checks)} Allowed: {name_list(checks)}."
            )
        if value is None:
            if not row.__table__.columns[name].nullable:
                raise InvalidInputError(f"{name} is never None. Leave it out.")
        else:
            found[name] = check(name, value)
    return found


@functools.cache
def _checks(row: type[Base]) -> dict[str, Callable[[str, Any], object]]:
    """Return what checks a value for each column, by name."""
    return {name: _check_of(column.type) for name, column in columns(row).items()}


def _check_of(kind: object) -> Callable[[str, Any], object]:
    if isinstance(kind, Boolean):
        return fields.boolean
    if isinstance(kind, Integer):
        return fields.integer
    if isinstance(kind, UTCDateTime):
        return _moment
    return fields.sha256 if kind is SHA256 else _any_text


def _moment(name: str, value: object) -> object:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInputError(f"{name} must be a datetime with a time zone.")
    return value


def _any_text(name: str, value: object) -> str:
    return fields.text(name, value, fields.LONG_BYTES, empty=True, in_bytes=True)


def one(
    connection: Connection,
    row: type[Base],
    criteria: Criteria,
    found: Sequence[T],
) -> T:
    """Return the only record of those that ``criteria`` found.

    Raises:
        InvalidInputError: There are no criteria.
        NotFoundError: There is none.
        AmbiguousError: There are several.
    """
    if not criteria:
        raise InvalidInputError(
            f"Say which {_NAMES[row][0]}: give at least one of "
            f"{name_list(columns(row))}."
        )
    if not found:
        raise not_found(connection, row, criteria)
    if len(found) > 1:
        raise _ambiguous(row, criteria, found)
    return found[0]


def not_found(
    connection: Connection, row: type[Base], criteria: Criteria
) -> NotFoundError:
    """Return the error for criteria that nothing fits, with names that do exist.

    These are the values of the column that people name such rows by, among the rows
    which fit the *other* criteria; at most fifty are looked at.
    """
    kind, naming = _NAMES[row]
    key = naming if naming in criteria else next(iter(criteria))
    others = {name: value for name, value in criteria.items() if name != key}
    column = columns(row)[key]
    statement = (
        select(column).where(*conditions(row, others)).distinct().limit(MOST_KNOWN)
    )
    values = connection.scalars(statement, parameters(row, others))
    known = sorted(str(value) for value in values if value is not None)
    if not others:
        return NotFoundError(f"{kind} with {key}", criteria[key], known)
    context = ", ".join(f"{name}={clip(repr(v), 60)}" for name, v in others.items())
    return NotFoundError(f"{kind} with {context} and {key}", criteria[key], known)


def _ambiguous(
    row: type[Base], criteria: Criteria, found: Sequence[Any]
) -> AmbiguousError:
    kind, _ = _NAMES[row]
    asked = ", ".join(f"{name}={clip(repr(v), 60)}" for name, v in criteria.items())
    telling = [
        name
        for name in columns(row)
        if name not in criteria
        and len({getattr(record, name) for record in found}) == len(found)
    ]
    examples = "; ".join(
        f"{name} ({name_list((str(getattr(record, name)) for record in found), 5)})"
        for name in telling[:3]
    )
    many = f"More than {MOST_ROWS}" if len(found) > MOST_ROWS else str(len(found))
    return AmbiguousError(
        f"{many} {kind}s have {asked}, and one was asked for. Any of these tells them "
        f"apart: {examples}."
    )
