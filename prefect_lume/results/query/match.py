"""Evaluate a query on a document in Python, as MongoDB does on its server."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from prefect_lume.results.query.compare import MISSING, equals, ordered
from prefect_lume.results.query.paths import resolve

Test = Callable[[Any], bool]

_RELATIONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
#: Each is the opposite of another operator.
_OPPOSITES: Final = {"$ne": "$eq", "$nin": "$in"}


def matches(tree: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    """Return whether a stored document matches a query.

    Args:
        tree: The document as it is stored.
        query: A validated query in stored form, see
            :func:`~prefect_lume.results.query.prepare`.

    Example:
        >>> matches({"inputs": {"k": [1, 5]}}, {"inputs.k": {"$gt": 4}})
        True
    """
    return compile_query(query)(tree)


def compile_query(query: Mapping[str, Any]) -> Test:
    """Return a function that tests documents; compile once, test many.

    Args:
        query: A validated query in stored form.
    """
    tests = [_clause(name, operand) for name, operand in query.items()]
    if len(tests) == 1:
        return tests[0]
    return lambda tree: all(test(tree) for test in tests)


def is_operators(value: object) -> bool:
    """Return whether a value is an operator expression such as ``{"$gt": 1}``."""
    return isinstance(value, Mapping) and any(
        isinstance(name, str) and name.startswith("$") for name in value
    )


def _clause(name: str, operand: Any) -> Test:
    if name in {"$and", "$or", "$nor"}:
        tests = [compile_query(query) for query in operand]
        if name == "$and":
            return lambda tree: all(test(tree) for test in tests)
        if name == "$or":
            return lambda tree: any(test(tree) for test in tests)
        return lambda tree: not any(test(tree) for test in tests)
    return _field(name.split("."), operand)


def _field(segments: list[str], operand: Any) -> Test:
    conditions = operand if is_operators(operand) else {"$eq": operand}
    tests = [_on_path(segments, name, value) for name, value in conditions.items()]
    if len(tests) == 1:
        return tests[0]
    return lambda tree: all(test(tree) for test in tests)


def _on_path(segments: list[str], name: str, operand: Any) -> Test:
    if name in _OPPOSITES:
        return _negate(_on_path(segments, _OPPOSITES[name], operand))
    if name == "$not":
        return _negate(_field(segments, operand))
    if name == "$exists" and not operand:
        return _negate(_on_path(segments, name, True))  # noqa: FBT003 - the operand.
    test = value_test(name, operand)
    if name in {"$exists", "$size", "$elemMatch"}:
        # These ask about a list itself, never about its elements.
        return lambda tree: any(test(found) for found in resolve(tree, segments))
    return lambda tree: any(
        test(found) for found in resolve(tree, segments, elements=True)
    )


def _negate(test: Test) -> Test:
    return lambda tree: not test(tree)


def value_test(name: str, operand: Any) -> Test:
    """Return the test of one value by one operator that is not a negation."""
    if name == "$eq":
        return equals(operand)
    if name == "$in":
        tests = [equals(item) for item in operand]
        return lambda value: any(test(value) for test in tests)
    if name in _RELATIONS:
        return ordered(operand, _RELATIONS[name])
    if name == "$regex":
        search = re.compile(operand).search
        return lambda value: isinstance(value, str) and search(value) is not None
    if name == "$size":
        return lambda value: isinstance(value, list) and len(value) == operand
    if name == "$elemMatch":
        return _element_match(operand)
    return lambda value: value is not MISSING


def _element_match(operand: Mapping[str, Any]) -> Test:
    if not is_operators(operand) or set(operand) & {"$and", "$or", "$nor"}:
        inner = compile_query(operand)
        return lambda value: (
            isinstance(value, list)
            and any(
                inner(_as_object(element))
                for element in value
                if isinstance(element, list | Mapping)
            )
        )
    tests = [_element_test(name, value) for name, value in operand.items()]
    return lambda value: (
        isinstance(value, list)
        and any(all(test(element) for test in tests) for element in value)
    )


def _as_object(element: Any) -> Any:
    # MongoDB treats a list as an object whose names are the indices here.
    if isinstance(element, list):
        return {str(n): item for n, item in enumerate(element)}
    return element


def _element_test(name: str, operand: Any) -> Test:
    if name in _OPPOSITES:
        return _negate(value_test(_OPPOSITES[name], operand))
    if name == "$not":
        tests = [_element_test(inner, value) for inner, value in operand.items()]
        return lambda value: not all(test(value) for test in tests)
    if name == "$exists":
        # An element is there: what else would have been found?
        return lambda _value: bool(operand)
    return value_test(name, operand)
