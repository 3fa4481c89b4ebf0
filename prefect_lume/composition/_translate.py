"""What pydantic found wrong with a specification, in this project's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect_lume.composition.lines import LineMap, Path, problem_at
from prefect_lume.errors import Problem, clip, name_list, suggestion

#: The type of errors whose text is ours already.
OURS = "prefect_lume"

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of names to values",
    "model_attributes_type": "a mapping of names to values",
    "literal_error": "",
}
_SENTENCES = {
    "greater_than_equal": "A position is a whole number from 1 on",
    "too_short": "A flow-of-flows has at least one subflow",
}
_NAMES = {
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "nothing",
}


def kind_of(value: object) -> str:
    """Return what a value is, with the value itself when that is short.

    Example:
        >>> kind_of(3), kind_of([1, 2])
        ('a number (3)', 'a list')
    """
    if isinstance(value, list | dict | tuple) and not value:
        return "an empty one"
    name = _NAMES.get(type(value), f"a {type(value).__name__}")
    plain = isinstance(value, str | int | float)
    return f"{name} ({clip(repr(value), 40)})" if plain else name


def _message(error: dict[str, Any], allowed: Callable[[Path], list[str]]) -> str:
    kind, path, given = error["type"], error["loc"], error["input"]
    context = error.get("ctx", {})
    if kind == OURS:
        return str(error["msg"])
    if kind in _SENTENCES:
        return f"{_SENTENCES[kind]}, not {kind_of(given)}."
    if kind == "missing":
        return f"'{path[-1]}' is missing."
    if kind == "extra_forbidden":
        key, known = str(path[-1]), allowed(path[:-1])
        return (
            f"There is no key {clip(key, 60)!r} here.{suggestion(key, known)} "
            f"Allowed: {name_list(known)}."
        )
    if kind == "literal_error":
        near = suggestion(given, ["raw", "file", "db"]) if type(given) is str else ""
        return f"{clip(repr(given), 60)} is not {context['expected']}.{near}"
    if kind in _EXPECTED:
        quotes = kind == "string_type" and type(given) in {bool, int, float}
        hint = " Put it in quotes." if quotes else ""
        return f"This must be {_EXPECTED[kind]}, not {kind_of(given)}.{hint}"
    return f"{error['msg']} (got {kind_of(given)})."


def translate(
    errors: list[Any],
    allowed: Callable[[Path], list[str]],
    lines: LineMap | None = None,
) -> list[Problem]:
    """Return pydantic's list of errors as problems.

    Args:
        errors: What ``ValidationError.errors()`` returned.
        allowed: Returns the keys that are allowed at a path.
        lines: The lines of the file that was read, if there is one.
    """
    problems = []
    for error in errors:
        if error["type"] == "default_factory_not_called":
            # The default hangs on another field, whose own error is here too.
            continue
        message = _message(error, allowed)
        path = error["loc"]
        if path and path[-1] == "[key]":
            path, message = path[:-1], f"A name here must be text: {message}"
        problems.append(problem_at(path, message, lines))
    return problems
