"""Dotted paths: what they lead to in a document, and what a projection keeps.

A path walks through objects by name and through lists both by index
(``inputs.points.0``) and implicitly (``inputs.points.x`` is the ``x`` of every object
in the list), as MongoDB does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prefect_lume.results.query.compare import MISSING


def resolve(
    value: Any, segments: Sequence[str], *, elements: bool = False
) -> Iterator[Any]:
    """Yield everything that a path leads to.

    Args:
        value: An object, or what is left of one on the way.
        segments: The path, split.
        elements: Yield the elements of a list at the end as well, unless the path
            ends in the list's own index in another list.

    Yields:
        Values; :data:`MISSING` where an object lacks the field. A list on the way
        yields nothing for the elements that cannot have the field.

    Example:
        >>> list(resolve({"a": [{"b": 1}, {"b": [2]}]}, ["a", "b"], elements=True))
        [1, 2, [2]]
    """
    if not segments:
        if elements and isinstance(value, list):
            yield from value
        yield value
    elif isinstance(value, Mapping):
        if segments[0] in value:
            yield from resolve(value[segments[0]], segments[1:], elements=elements)
        else:
            yield MISSING
    elif isinstance(value, list):
        yield from _resolve_list(value, segments, elements)
    else:
        yield MISSING


def _resolve_list(
    values: list[Any], segments: Sequence[str], elements: bool
) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Mapping):
            yield from resolve(value, segments, elements=elements)
    position = index(segments[0])
    if position is not None and position < len(values):
        value, rest = values[position], segments[1:]
        if not rest:
            yield value
        elif isinstance(value, list | Mapping):
            yield from resolve(value, rest, elements=elements)


def index(segment: str) -> int | None:
    """Return the list index that a path's segment is, or None.

    Example:
        >>> index("10"), index("01"), index("x")
        (10, None, None)
    """
    if not (segment.isascii() and segment.isdigit()):
        return None
    return int(segment) if segment == "0" or segment[0] != "0" else None


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
