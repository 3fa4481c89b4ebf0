"""What a condition asks of the value at one path, in terms an SQL server can answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prefect_lume.results.query.operands import SCALAR, SCALAR_MARK, SCALAR_VALUE

RANGES: Final = frozenset({"$gt", "$gte", "$lt", "$lte"})

#: Below it every whole number is a double: neither conversion nor comparison rounds.
_EXACT: Final = 2**53
#: Servers read decimal fractions with an error of a few units in the last place. Nearer
#: to the operand than this, relative and absolute, a comparison proves nothing.
_RELATIVE: Final = 1e-13
TINY: Final = 1e-300
#: More alternatives than this are left to Python.
_MOST_NUMBERS: Final = 8
_MOST_TEXTS: Final = 1000
_DEEPEST: Final = 8
#: Names that all servers' path languages read alike, quoted. No digit at the start:
#: that may be the index of a list.
_SEGMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_:% -]*", re.ASCII)
#: Text that every server stores, compares and sends as it is.
_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f\"\\\ud800-\udfff]*")

Number = int | float


@dataclass(frozen=True)
class Asked:
    """Which values at a path satisfy a condition: those of any of these kinds.

    Attributes:
        numbers: Relations and operands; a number that satisfies any.
        texts: Text equal to one of these.
        text_range: A relation and its operand; text that satisfies it.
        booleans: These of True and False.
        null: None, and a field that is not there.
        exists: Whatever is there.
        scalars: A numpy scalar counts as the number in it.
    """

    numbers: tuple[tuple[str, Number], ...] = ()
    texts: tuple[str, ...] = ()
    text_range: tuple[str, str] | None = None
    booleans: frozenset[bool] = frozenset()
    null: bool = False
    exists: bool = False
    scalars: bool = False

    @property
    def comparison(self) -> tuple[str, Number] | None:
        """Relation and operand, if one number is compared and nothing else asked."""
        alone = Asked(numbers=self.numbers, scalars=self.scalars)
        return self.numbers[0] if len(self.numbers) == 1 and self == alone else None


def segments(path: str) -> list[str] | None:
    """Return a path's parts if servers can follow it, else None.

    Example:
        >>> segments("inputs.QUAD:7"), segments("inputs.0")
        (['inputs', 'QUAD:7'], None)
    """
    parts = path.split(".")
    fit = len(parts) <= _DEEPEST and all(
        _SEGMENT.fullmatch(part) and part == part.strip() for part in parts
    )
    return parts if fit else None


def ask(name: str, operand: Any, *, scalars: bool = False) -> Asked | None:
    """Return what an operator that is not a negation asks, or None.

    Example:
        >>> ask("$gt", 1).numbers
        (('$gt', 1),)
    """
    if name == "$exists":
        return Asked(exists=True) if operand is True else None
    if name in RANGES:
        if is_number(operand):
            return Asked(numbers=((name, operand),), scalars=scalars)
        if isinstance(operand, str) and _PLAIN.fullmatch(operand):
            return Asked(text_range=(name, operand))
        return None
    if name not in {"$eq", "$in"}:
        return None
    values = operand if name == "$in" else [operand]
    numbers = tuple(("$eq", value) for value in values if is_number(value))
    texts = tuple(value for value in values if isinstance(value, str))
    booleans = [value for value in values if isinstance(value, bool)]
    nulls = sum(value is None for value in values)
    known = len(numbers) + len(texts) + len(booleans) + nulls
    if (
        known < len(values)
        or len(numbers) > _MOST_NUMBERS
        or len(texts) > _MOST_TEXTS
        or not all(_PLAIN.fullmatch(text) for text in texts)
    ):
        return None
    return Asked(
        numbers, texts, None, frozenset(booleans), nulls > 0, exists=False,
        scalars=scalars,
    )  # fmt: skip


def is_number(value: Any) -> bool:
    """Return whether a value is a number that servers compare as Python does."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < _EXACT
    )


def band(number: Number) -> tuple[float, float]:
    """Return bounds: what servers find beyond them lies there indeed.

    Example:
        >>> low, high = band(1)
        >>> 0.9999999 < low < 1 < high < 1.0000001
        True
    """
    width = abs(number) * _RELATIVE + TINY
    return number - width, number + width


def spellings(number: Number) -> list[str]:
    """Return how the numbers equal to this one are written in a stored document.

    Example:
        >>> spellings(2), spellings(0.5)
        (['2', '2.0'], ['0.5'])
    """
    if number == 0:
        return ["0", "0.0", "-0.0"]
    if math.floor(number) == number:
        return [str(int(number)), repr(float(number))]
    return [repr(number)]


def json_text(text: str) -> str:
    """Return text as it is written in a stored document."""
    return json.dumps(text)


def holds(relation: str, sign: int) -> bool:
    """Return whether a number that is less (-1), equal (0) or greater satisfies it.

    Example:
        >>> holds("$gte", 0), holds("$gt", 0), holds("$lt", -1)
        (True, False, True)
    """
    if sign == 0:
        return relation in {"$eq", "$gte", "$lte"}
    return relation in ({"$gt", "$gte"} if sign > 0 else {"$lt", "$lte"})


def as_scalar(clauses: Sequence[Mapping[str, Any]]) -> tuple[str, str, Any] | None:
    """Return path, operator and operand of "as a number or as a numpy scalar".

    Example:
        >>> as_scalar([
        ...     {"a.k": {"$gt": 1}},
        ...     {"a.k.value": {"$gt": 1}, "a.k.__lume__": {"$eq": "numpy-scalar"}},
        ... ])
        ('a.k', '$gt', 1)
    """
    if len(clauses) != 2 or len(clauses[0]) != 1:
        return None
    path, condition = next(iter(clauses[0].items()))
    if not isinstance(condition, Mapping) or len(condition) != 1:
        return None
    name, operand = next(iter(condition.items()))
    values = operand if name == "$in" else [operand]
    if not isinstance(values, list):
        return None
    numbers = [v for v in values if type(v) in {int, float}]
    inner = {
        f"{path}.{SCALAR_VALUE}": {name: numbers if name == "$in" else operand},
        f"{path}.{SCALAR_MARK}": {"$eq": SCALAR},
    }
    return (path, name, operand) if numbers and clauses[1] == inner else None
