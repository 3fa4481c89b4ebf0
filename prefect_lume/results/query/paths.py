"""Dotted paths: what they lead to in a document, and what a projection keeps.

A path walks through objects by name and through lists both by index
(``inputs.points.0``) and implicitly (``inputs.points.x`` is the ``x`` of every object
in the list), as MongoDB does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prefect_lume.results.query.compare import MISSING


def resolve(value: Any, segments: Sequence[str]) -> Iterator[Any]:
    """Yield everything that a path leads to.

    Args:
        value: An object, or what is left of one on the way.
        segments: The path, split.

    Yields:
        Values; :data:`MISSING` where an object lacks the field. A list on the way
        yields nothing for the elements that cannot have the field.

    Example:
        >>> list(resolve({"a": [{"b": 1}, {"b": 2}]}, ["a", "b"]))
        [1, 2]
    """
    if not segments:
        yield value
    elif isinstance(value, Mapping):
        if segments[0] in value:
            yield from resolve(value[segments[0]], segments[1:])
        else:
            yield MISSING
    elif isinstance(value, list):
        yield from _resolve_list(value, segments)
    else:
        yield MISSING


def _resolve_list(elements: list[Any], segments: Sequence[str]) -> Iterator[Any]:
    for element in elements:
        if isinstance(element, Mapping):
            yield from resolve(element, segments)
    position = index(segments[0])
    if position is not None and position < len(elements):
        element, rest = elements[position], segments[1:]
        if not rest or isinstance(element, list | Mapping):
            yield from resolve(element, rest)


def index(segment: str) -> int | None:
    """Return the list index that a path's segment is, or None.

    Example:
        >>> index("10"), index("01"), index("x")
        (10, None, None)
    """
    if not (segment.isascii() and segment.isdigit()):
        return None
    return int(segment) if segment == "0" or segment[0] != "0" else None


def expand(values: Iterable[Any]) -> Iterator[Any]:
    """Yield values, and before each list its elements.

    Example:
        >>> list(expand([1, [2, 3]]))
        [1, 2, 3, [2, 3]]
    """
    for value in values:
        if isinstance(value, list):
            yield from value
        yield value


def project(tree: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Return a document with nothing but what some paths lead to, and ``_id``.

    Args:
        tree: A stored document. It is not changed.
        paths: Dotted paths. A list on the way keeps its objects, each projected.

    Example:
        >>> project({"_id": "1", "a": {"b": 1, "c": 2}, "d": 3}, ["a.c"])
        {'_id': '1', 'a': {'c': 2}}
    """
    wanted: dict[str, Any] = {"_id": True}
    for path in outermost(paths):
        node = wanted
        *parents, last = path.split(".")
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = True
    return _keep(tree, wanted)


def outermost(paths: Iterable[str]) -> list[str]:
    """Return paths without those that lie inside another, in their order.

    Example:
        >>> outermost(["a.b", "c", "a"])
        ['c', 'a']
    """
    unique = list(dict.fromkeys(paths))
    return [
        path
        for path in unique
        if not any(path.startswith(f"{other}.") for other in unique)
    ]


def _keep(tree: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in tree.items():
        inner = wanted.get(name)
        if inner is None:
            continue
        if inner is True:
            kept[name] = value
        elif isinstance(value, Mapping):
            kept[name] = _keep(value, inner)
        elif isinstance(value, list):
            kept[name] = _keep_list(value, inner)
    return kept


def _keep_list(elements: list[Any], wanted: Mapping[str, Any]) -> list[Any]:
    kept: list[Any] = []
    for element in elements:
        if isinstance(element, Mapping):
            kept.append(_keep(element, wanted))
        elif isinstance(element, list):
            kept.append(_keep_list(element, wanted))
    return kept
