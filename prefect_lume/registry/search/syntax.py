"""What a filter says: a tree of tests, not yet of any table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Operator = Literal[
    "is", "=", "!=", "<", "<=", ">", ">=", "in", "like", "ilike", "contains",
    "between", "null",
]  # fmt: skip
"""What a test asks; ``is`` stands for a field alone, ``null`` for ``IS NULL``."""
OPERATORS: Final = (
    "=", "!=", "<", "<=", ">", ">=", "IN", "NOT IN", "LIKE", "NOT LIKE", "ILIKE",
    "CONTAINS", "BETWEEN", "IS NULL", "IS NOT NULL",
)  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A value as it is written.

    Attributes:
        content: Text without its quotes, a number, a boolean, or None for ``now``.
        start: Where it begins in the filter.
        end: Where it ends.
    """

    content: str | int | bool | None
    start: int
    end: int


@dataclass(frozen=True)
class Path:
    """The name of a field, by its parts: ``model``, ``tags``, ``stage``."""

    parts: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Test:
    """One question about one field.

    Attributes:
        path: The field.
        operator: What is asked.
        values: What it is compared with.
        negated: Written with NOT inside, as in ``NOT LIKE``.
        start: Where the operator begins in the filter.
        end: Where it ends.
    """

    path: Path
    operator: Operator
    values: tuple[Value, ...] = ()
    negated: bool = False
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Negation:
    """The opposite."""

    part: Node


@dataclass(frozen=True)
class Junction:
    """All of the parts, or any of them."""

    every: bool
    parts: tuple[Node, ...]


Node = Test | Negation | Junction
