"""One query language for every results database: a subset of MongoDB's.

A user's query passes through :func:`prepare` once and is in *stored form* then: field
names escaped, values as the codecs store them. Stores call :func:`validate` on what
they are given, hand it to a MongoDB server as it is, or evaluate it with
:func:`compile_query`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_lume.results.query.compare import (
    MISSING,
    extreme_key,
    order_key,
)
from prefect_lume.results.query.language import OPERATORS, prepare, validate
from prefect_lume.results.query.match import compile_query, matches
from prefect_lume.results.query.operands import escape_path
from prefect_lume.results.query.ordering import (
    Sort,
    check_page,
    prepare_projection,
    prepare_sort,
)
from prefect_lume.results.query.paths import project, resolve

__all__ = [
    "MISSING",
    "OPERATORS",
    "Sort",
    "check_page",
    "compile_query",
    "escape_path",
    "extreme_key",
    "matches",
    "order_key",
    "prepare",
    "prepare_projection",
    "prepare_sort",
    "project",
    "resolve",
    "sort_key",
    "validate",
    "values",
]


def values(tree: Mapping[str, Any], path: str) -> list[Any]:
    """Return the values at a path, the elements of a list in its place.

    Example:
        >>> values({"a": [{"b": 1}, {"b": [2, 3]}, {}]}, "a.b")
        [1, 2, 3]
    """
    found: list[Any] = []
    for value in resolve(tree, path.split(".")):
        if isinstance(value, list):
            found.extend(value)
        elif value is not MISSING:
            found.append(value)
    return found


def sort_key(tree: Mapping[str, Any], path: str, direction: int) -> tuple[Any, ...]:
    """Return the key by which a document sorts in one field, as MongoDB sorts.

    Args:
        tree: A stored document.
        path: A path in stored form.
        direction: 1, or -1 for descending order, in which the keys are to be reversed.

    Example:
        >>> sort_key({"a": 1}, "a", 1) < sort_key({"a": ""}, "a", 1)
        True
    """
    return extreme_key(list(resolve(tree, path.split("."))), direction < 0)
