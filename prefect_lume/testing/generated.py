"""Random documents and queries, small enough to meet each other often."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

_SCALARS: Final[list[Any]] = [
    None,
    0,
    1,
    2,
    1.0,
    1.5,
    -0.0,
    2**53 + 1,
    True,
    False,
    "",
    "a",
    "ab",
    "B",
    "é",
    "🌌",
]
# Inside a list of alternatives, DocumentDB (not MongoDB) takes [1] and [1.0] for
# different: lists and dicts get no floats that equal integers.
_INSIDE: Final[list[Any]] = [
    item for item in _SCALARS if not (isinstance(item, float) and item.is_integer())
]
_NAMES: Final = ("a", "b", "0", "é")
_PATHS: Final = ("a", "b", "a.b", "a.a", "b.0", "a.0", "a.1", "a.0.b", "b.a.b", "é")
_PATTERNS: Final = ("a", "^a", "b$", "^.$", "(?i)^b", "[^a]", "a?b", "é|B", r"\w+")


def value(chance: Random, depth: int = 3, *, inside: bool = False) -> Any:
    """Return a random plain value."""
    kind = chance.randrange(10)
    if depth == 0 or kind < 5:
        return chance.choice(_INSIDE if inside else _SCALARS)
    if kind < 8:
        count = chance.randrange(4)
        return [value(chance, depth - 1, inside=True) for _ in range(count)]
    return _object(chance, depth - 1)


def _object(chance: Random, depth: int) -> dict[str, Any]:
    names = chance.sample(_NAMES, chance.randrange(3))
    return {name: value(chance, depth, inside=True) for name in names}


def inputs(chance: Random) -> dict[str, Any]:
    """Return random inputs of a document."""
    names = chance.sample(("a", "b", "é"), chance.randrange(4))
    return {name: value(chance) for name in names}


def query(chance: Random, depth: int = 2) -> dict[str, Any]:
    """Return a random query on the inputs."""
    if depth and chance.random() < 0.25:
        name = chance.choice(["$and", "$or", "$nor"])
        count = chance.randrange(1, 4)
        return {name: [query(chance, depth - 1) for _ in range(count)]}
    paths = chance.sample(_PATHS, chance.choice([1, 1, 1, 2]))
    return {f"inputs.{path}": condition(chance, depth) for path in paths}


def condition(chance: Random, depth: int = 2) -> Any:
    """Return what a random query asks of one field."""
    if chance.random() < 0.2:
        return value(chance, 2)
    names = chance.sample(list(_OPERANDS), chance.choice([1, 1, 1, 2]))
    if not depth:
        names = [name for name in names if name not in {"$not", "$elemMatch"}]
    return {name: _OPERANDS[name](chance, depth) for name in names or ["$eq"]}


def _scalar(chance: Random, _depth: int) -> Any:
    return chance.choice([item for item in _SCALARS if item is not None])


def _any(chance: Random, _depth: int) -> Any:
    return value(chance, 2)


def _several(chance: Random, _depth: int) -> list[Any]:
    return [value(chance, 1) for _ in range(chance.randrange(4))]


def _element(chance: Random, depth: int) -> dict[str, Any]:
    if chance.random() < 0.5:
        name = chance.choice(_NAMES)
        return {name: condition(chance, depth - 1)}
    found = condition(chance, depth - 1)
    if isinstance(found, dict) and any(name.startswith("$") for name in found):
        return found
    return {"$eq": found}


def _negated(chance: Random, depth: int) -> dict[str, Any]:
    found = condition(chance, depth - 1)
    if isinstance(found, dict) and any(name.startswith("$") for name in found):
        return found
    return {"$eq": found}


_OPERANDS: Final[dict[str, Callable[[Random, int], Any]]] = {
    "$eq": _any,
    "$ne": _any,
    "$gt": _scalar,
    "$gte": _scalar,
    "$lt": _scalar,
    "$lte": _scalar,
    "$in": _several,
    "$nin": _several,
    "$exists": lambda chance, _: chance.random() < 0.5,
    "$size": lambda chance, _: chance.randrange(4),
    "$regex": lambda chance, _: chance.choice(_PATTERNS),
    "$elemMatch": _element,
    "$not": _negated,
}
