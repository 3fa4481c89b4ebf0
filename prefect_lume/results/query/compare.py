"""How stored values compare: MongoDB's order of types, equality and ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

#: MongoDB's order of types, as far as documents hold them. A comparison never
#: crosses from one bracket to another; a boolean is no number.
_EMPTY, _NULL, _NUMBER, _STRING, _OBJECT, _ARRAY, _BOOLEAN = range(7)


class _Missing:
    """The type of :data:`MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


#: What a path leads to when the document has no such field.
MISSING: Final = _Missing()


def rank(value: Any) -> int:
    """Return a value's place in MongoDB's order of types.

    Example:
        >>> rank(None) < rank(1) == rank(1.5) < rank("a") < rank({}) < rank(True)
        True
    """
    if value is None or value is MISSING:
        return _NULL
    if isinstance(value, bool):
        return _BOOLEAN
    if isinstance(value, int | float):
        return _NUMBER
    if isinstance(value, str):
        return _STRING
    if isinstance(value, Mapping):
        return _OBJECT
    return _ARRAY


def order_key(value: Any) -> tuple[Any, ...]:
    """Return a key by which values of any types sort, and are equal, as in MongoDB.

    The order of an object's keys does not matter: the stores write them sorted.

    Example:
        >>> sorted([True, "b", 2, None, 1.5, "a"], key=order_key)
        [None, 1.5, 2, 'a', 'b', True]
    """
    kind = rank(value)
    if kind == _NULL:
        return (kind,)
    if kind == _OBJECT:
        # Type, then name, then value: the order in which BSON compares fields.
        return (
            kind,
            tuple(
                (rank(item), name, order_key(item))
                for name, item in sorted(value.items())
            ),
        )
    if kind == _ARRAY:
        return (kind, tuple(order_key(item) for item in value))
    return (kind, value)


def extreme_key(values: Sequence[Any], descending: bool) -> tuple[Any, ...]:
    """Return the key by which a document sorts that has several values in a field.

    MongoDB sorts by the least of them, or the greatest in descending order. A field
    that is missing sorts as None, an empty list before it.

    Args:
        values: What the path leads to, lists included as their elements.
        descending: Whether the order is descending.
    """
    keys: list[tuple[Any, ...]] = []
    for value in values:
        if isinstance(value, list):
            keys.extend(order_key(item) for item in value)
            if not value:
                keys.append((_EMPTY,))
        else:
            keys.append(order_key(value))
    if not keys:
        return (_NULL,)
    return max(keys) if descending else min(keys)


def equals(operand: Any) -> Callable[[Any], bool]:
    """Return a test of equality with one value; None equals a missing field too."""
    if isinstance(operand, list | Mapping):
        expected = order_key(operand)
        return lambda value: value is not MISSING and order_key(value) == expected
    kind = rank(operand)
    if kind == _NULL:
        return lambda value: value is None or value is MISSING
    return lambda value: rank(value) == kind and bool(value == operand)


def ordered(
    operand: Any, relation: Callable[[Any, Any], bool]
) -> Callable[[Any], bool]:
    """Return a test by ``<``, ``<=``, ``>`` or ``>=`` within the operand's type."""
    kind = rank(operand)
    return lambda value: rank(value) == kind and relation(value, operand)
