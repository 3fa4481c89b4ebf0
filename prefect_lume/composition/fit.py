"""Whether a value, or what a task returns, can fit a parameter's JSON schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from prefect_lume.composition.signature import MISSING, ParameterSpec, Schema
from prefect_lume.errors import clip

#: The key by which a JSON schema says that it is one of ours.
MARK: Final = "x-prefect-lume"
FILE_REFERENCE: Final = "file-reference"
RESULT_REFERENCE: Final = "result-reference"

_ALL: Final = frozenset(
    {"string", "integer", "number", "boolean", "array", "object", "null"}
)
_TYPES: Final = {
    str: {"string"},
    bool: {"boolean"},
    int: {"integer", "number"},
    float: {"number"},
    list: {"array"},
    dict: {"object"},
    type(None): {"null"},
}


def types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the JSON types that a schema allows; an open schema allows all seven.

    A whole number is a number too, so "number" brings "integer" with it.

    Example:
        >>> sorted(types_of({"anyOf": [{"type": "number"}, {"type": "null"}]}))
        ['integer', 'null', 'number']
    """
    types = _ALL
    stated = schema.get("type")
    if stated is not None:
        types &= frozenset([stated] if isinstance(stated, str) else stated)
        if "number" in types:
            types |= {"integer"}
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is not None:
        types &= frozenset[str]().union(*(_TYPES.get(type(v), _ALL) for v in values))
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            types &= frozenset[str]().union(*map(types_of, schema[keyword]))
    for part in schema.get("allOf", ()):
        types &= types_of(part)
    return types


def marks_of(schema: Mapping[str, Any]) -> Iterator[str | None]:
    """Yield, for each alternative that takes an object, its mark or ``None``."""
    mark = schema.get(MARK)
    if mark is not None:
        yield str(mark)
        return
    alternatives = [
        part for key in ("anyOf", "oneOf", "allOf") for part in schema.get(key, ())
    ]
    if alternatives:
        for part in alternatives:
            yield from marks_of(part)
    elif "object" in types_of(schema):
        yield None


def can_hold_file(schema: Mapping[str, Any]) -> bool:
    """Return whether a schema can hold a file reference.

    It can when it says so, and when it is open or a plain object.

    Example:
        >>> can_hold_file({"type": "string"}), can_hold_file({})
        (False, True)
    """
    return any(mark in {None, FILE_REFERENCE} for mark in marks_of(schema))


def type_name(schema: Mapping[str, Any]) -> str:
    """Return a schema's type in a few words, for people.

    Example:
        >>> type_name({"anyOf": [{"type": "integer"}, {"type": "null"}]})
        'integer | null'
    """
    mark = schema.get(MARK)
    if mark is not None:
        return str(mark).replace("-", " ")
    if "const" in schema:
        return clip(repr(schema["const"]), 30)
    if "enum" in schema:
        return clip(" | ".join(map(repr, schema["enum"])), 60)
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            names = dict.fromkeys(type_name(part) for part in schema[keyword])
            return clip(" | ".join(names), 60)
    stated = schema.get("type")
    if stated is None:
        return "anything"
    if isinstance(stated, list):
        return " | ".join(map(str, stated))
    if stated == "array" and isinstance(schema.get("items"), Mapping):
        return f"array of {type_name(schema['items'])}"
    form = schema.get("format")
    return f"{stated} ({form})" if form else str(stated)


def misfit(value: Any, parameter: ParameterSpec) -> str:
    """Return why a constant cannot be a parameter's value, or "" when it can.

    The parameter's own default always fits. A value that the schema calls secret is
    never repeated.

    Example:
        >>> misfit("x", ParameterSpec("n", {"type": "integer"}))
        "'x' is not of type 'integer'"
    """
    # No stubs are installed for jsonschema, which also takes a while to import.
    import jsonschema

    if parameter.default is not MISSING and value == parameter.default:
        return ""
    schema = _checkable(parameter.schema)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        errors = jsonschema.Draft202012Validator(schema).iter_errors(value)
        error = jsonschema.exceptions.best_match(errors)
    except (
        jsonschema.exceptions.SchemaError,
        jsonschema.exceptions.UnknownType,
        re.error,
    ) as exc:
        return f"the parameter's own schema is not valid ({clip(_first(exc), 120)})"
    if error is None:
        return ""
    if schema.get("writeOnly") or schema.get("format") == "password":
        return f"the value (not shown: it is secret) fails the rule {error.validator!r}"
    where = error.json_path.removeprefix("$")
    return clip(error.message, 200) + (f" (at {where.lstrip('.')})" if where else "")


def _first(exc: BaseException) -> str:
    return (str(getattr(exc, "message", "")) or str(exc)).splitlines()[0]


def _checkable(schema: Mapping[str, Any]) -> Schema:
    # What is not a rule is left out: Prefect puts numbers and names of its own there.
    return {key: value for key, value in schema.items() if key != "position"}
