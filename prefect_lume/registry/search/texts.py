"""How text is compared on each database, so that all give the same answers.

Columns compare exactly, by code point. What differs is: PostgreSQL orders by the
database's own collation unless told otherwise; SQLite's LIKE takes no notice of the
case of ASCII letters; MySQL lowers the letters of the whole of Unicode, SQLite those
of ASCII only.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from sqlalchemy import ColumnElement, String, cast, collate, func, literal

from prefect_lume.storage.columns import SHA256

#: Characters in ``value_start`` of a tag.
START: Final = 120
_ESCAPE: Final = "!"
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class Wild(Enum):
    """What may stand for other characters in a pattern."""

    ANY = "%"
    ONE = "_"


Pattern = Sequence[str | Wild]


def pattern(text: str) -> list[str | Wild]:
    r"""Return the characters and wildcards of a pattern.

    A backslash takes the ``%``, ``_`` or backslash after it as it is; elsewhere it
    stands for itself.

    Example:
        >>> pattern(r"a\%_")
        ['a', '%', <Wild.ONE: '_'>]
    """
    found: list[str | Wild] = []
    signs = iter(range(len(text)))
    for at in signs:
        sign = text[at]
        if sign == "\\" and text[at + 1 : at + 2] in {"%", "_", "\\"}:
            next(signs)
            found.append(text[at + 1])
        elif sign in {"%", "_"}:
            # Several % in a row are one.
            if sign == "_" or not found or found[-1] is not Wild.ANY:
                found.append(Wild(sign))
        else:
            found.append(sign)
    return found


def beginning(signs: Pattern) -> list[str | Wild]:
    """Return the pattern that the first characters of a value must have, or nothing."""
    fixed: list[str | Wild] = []
    for sign in signs[:START]:
        if isinstance(sign, Wild):
            break
        fixed.append(sign)
    return [*fixed, Wild.ANY] if fixed else []


class Texts:
    """Comparisons of text on one kind of database.

    Args:
        dialect: SQLAlchemy's name of it.
    """

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def ordered(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return text so that it is ordered by code point."""
        return collate(column, "C") if self._dialect == "postgresql" else column

    def exact(self, column: ColumnElement[Any], value: str) -> ColumnElement[Any]:
        """Return a value to be equal to a column, so that its index can be used."""
        found: ColumnElement[Any] = literal(value, column.type)
        if self._dialect == "postgresql" and column.type is SHA256:
            # As a parameter it is a VARCHAR, and the column would be made one.
            found = cast(found, SHA256)
        return found

    def like(self, column: ColumnElement[Any], signs: Pattern) -> ColumnElement[bool]:
        """Return whether text fits a pattern, exactly."""
        if self._dialect == "sqlite":
            globbed = "".join(map(_globbed, signs))
            return column.op("GLOB", is_comparison=True)(literal(globbed, String))
        return column.like(literal("".join(map(_liked, signs)), String), _ESCAPE)

    def ilike(self, column: ColumnElement[Any], signs: Pattern) -> ColumnElement[bool]:
        """Return whether text fits a pattern, whatever the case of letters of ASCII."""
        low = [s if isinstance(s, Wild) else s.translate(_LOWER) for s in signs]
        if self._dialect in {"mysql", "mariadb"}:
            # Its LOWER knows more than ASCII. Only letters of the pattern matter.
            lowered = column
            for letter in sorted(set(low) & set(string.ascii_lowercase), key=str):
                lowered = func.replace(lowered, str(letter).upper(), letter)
            return self.like(lowered, low)
        return self.like(func.lower(self.ordered(column)), low)

    def contains(self, column: ColumnElement[Any], part: str) -> ColumnElement[bool]:
        """Return whether a part is in text, exactly."""
        sought = literal(part, String)
        if self._dialect == "sqlite":
            return func.instr(column, sought) > 0
        if self._dialect == "postgresql":
            return func.strpos(column, sought) > 0
        return func.locate(sought, column) > 0


def _globbed(sign: str | Wild) -> str:
    if isinstance(sign, Wild):
        return "*" if sign is Wild.ANY else "?"
    return f"[{sign}]" if sign in "*?[" else sign


def _liked(sign: str | Wild) -> str:
    if isinstance(sign, Wild):
        return sign.value
    return _ESCAPE + sign if sign in {"%", "_", _ESCAPE} else sign
