"""Random documents and queries on the values that databases read differently.

Numbers at the edges of what a double holds, text with U+0000 or half of it escaped,
lists and objects where a value is expected, numpy scalars and dates as they are stored.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

_NUMBERS: Final[list[Any]] = [
    0, 1, 2, -1, 5, 10, 0.0, -0.0, 1.0, 2.0, 0.1, 0.5, -0.5, 1.5, 0.30000000000000004,
    0.3, 4.999999999999999, 5.000000000000001, 1e16, 1e22, 123456789.12345679, 1e-07,
    2.5e-300, 5e-324, 1.7976931348623157e308, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1,
    2**53 + 0.0, 2**63 - 1, -(2**63),
]  # fmt: skip
#: Not to be asked for (no more than 64 bits are), but what if a document holds it?
_HUGE: Final[list[Any]] = [2**64, 10**30, 10**400]
_TEXTS: Final = (
    "", "a", "ab", "ab ", " ab", "B", "b", "5", "true", "null", "é", "zé", "🌌", "\\",
    '"', 'a"b', "a/b", "a\nb", "2026-01-02T03:04:05.000000Z", "[1]", "{}", "-", "%",
    "'", "numpy-scalar", "\x7f", "ÿ",
)  # fmt: skip
_ODD_TEXTS: Final = ("\0", "a\0b", "\ue000", "\\u0000")
_NAMES: Final = ("x", "y", "QUAD:LI21:7", "a b", "p%2Eq", "k-1", "0", "value")
_RELATIONS: Final = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
_NESTED: Final = (3, 35, 50)


def inputs(chance: Random, *, huge: bool = True) -> dict[str, Any]:
    """Return random inputs of a document.

    Args:
        chance: Decides.
        huge: Whether whole numbers of more than 64 bits may be among them, which
            MongoDB does not store.
    """
    names = chance.sample(_NAMES, chance.randrange(1, len(_NAMES)))
    return {name: _value(chance, 2, huge) for name in names}


def _value(chance: Random, depth: int, huge: bool) -> Any:
    kind = chance.randrange(20)
    if kind < 9:
        return chance.choice(_NUMBERS)
    if kind < 12:
        return chance.choice(_TEXTS)
    if kind < 14:
        return chance.choice([True, False, None])
    if kind < 16:
        return _envelope(chance)
    if kind == 16:
        return chance.choice([*_ODD_TEXTS, *(_HUGE if huge else [])])
    if not depth:
        return []
    if kind == 17:
        return [_value(chance, depth - 1, huge) for _ in range(chance.randrange(4))]
    if kind == 18 and chance.random() < 0.1:
        return _nested(chance.choice(_NESTED))
    names = chance.sample(_NAMES, chance.randrange(4))
    return {name: _value(chance, depth - 1, huge) for name in names}


def _envelope(chance: Random) -> dict[str, Any]:
    if chance.random() < 0.3:
        return {
            "__lume__": "datetime",
            "v": 1,
            "utc": f"2026-01-0{chance.randrange(1, 5)}T00:00:00.000000Z",
        }
    return {
        "__lume__": chance.choice(["numpy-scalar"] * 5 + ["other"]),
        "v": 1,
        "dtype": "<f8",
        "value": chance.choice([*_NUMBERS, "0x1p-3", None, [1, 2], True]),
    }


def _nested(depth: int) -> Any:
    found: Any = 1
    for level in range(depth):
        found = [found] if level % 2 else {"x": found}
    return found


def query(chance: Random, depth: int = 2) -> dict[str, Any]:
    """Return a random query as a user writes it."""
    if depth and chance.random() < 0.3:
        name = chance.choice(["$and", "$or", "$nor"])
        count = chance.randrange(1, 4)
        return {name: [query(chance, depth - 1) for _ in range(count)]}
    path = path_of(chance)
    found = _condition(chance)
    return {path: {"$not": found} if chance.random() < 0.15 else found}


def path_of(chance: Random) -> str:
    """Return a random path of a document."""
    names = chance.choices((*_NAMES[:4], *_NAMES), k=chance.choice([1, 1, 1, 2, 3]))
    if chance.random() < 0.1:
        names.append(chance.choice(["value", "__lume__", "utc"]))
    return ".".join(["inputs", *names])


def _condition(chance: Random) -> dict[str, Any]:
    kind = chance.randrange(10)
    if kind < 5:
        names = chance.sample(_RELATIONS, chance.choice([1, 1, 2]))
        return {name: chance.choice(_NUMBERS) for name in names}
    if kind < 7:
        return {chance.choice(_RELATIONS): chance.choice([*_TEXTS, *_ODD_TEXTS, True])}
    if kind == 7:
        return {"$exists": chance.random() < 0.5}
    if kind == 8:
        return {chance.choice(["$eq", "$ne"]): chance.choice([None, False, [1], 1.0])}
    values = [chance.choice([*_NUMBERS, *_TEXTS, None, True]) for _ in range(4)]
    return {chance.choice(["$in", "$nin"]): values[: chance.randrange(5)]}
