"""Which values and returns fit a parameter's schema."""

from __future__ import annotations

import pytest

from prefect_lume.composition import ParameterSpec
from prefect_lume.composition.fit import can_hold_file, misfit, type_name, types_of

_FILE = {"type": "object", "x-prefect-lume": "file-reference"}
_RESULT = {"type": "object", "x-prefect-lume": "result-reference"}
_OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": "number"}, {"number", "integer"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"enum": ["a", 1]}, {"string", "integer", "number"}),
        ({"const": True}, {"boolean"}),
        ({"oneOf": [{"type": "string"}, {"const": None}]}, {"string", "null"}),
        ({"allOf": [{"type": ["string", "null"]}, {"type": "string"}]}, {"string"}),
    ],
)
def test_types_of_a_schema(schema, expected):
    """Unions, enumerations and constants are looked into."""
    assert types_of(schema) == expected


def test_an_open_schema_has_all_types():
    """No type is every type."""
    assert len(types_of({})) == 7
    assert types_of({"anyOf": [{}, {"type": "string"}]}) == types_of({})


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (_FILE, True),
        ({}, True),
        (_OBJECT, True),
        ({"anyOf": [_FILE, {"type": "null"}]}, True),
        ({"allOf": [_FILE], "default": None}, True),
        ({"anyOf": [_RESULT, _FILE]}, True),
        (_RESULT, False),
        ({"anyOf": [_RESULT, {"type": "null"}]}, False),
        ({"type": "string", "format": "path"}, False),
        ({"type": "array", "items": _FILE}, False),
    ],
)
def test_what_can_hold_a_file_reference(schema, expected):
    """A marked, open or plain object schema can; another mark or type cannot."""
    assert can_hold_file(schema) is expected


@pytest.mark.parametrize(
    ("value", "schema", "words"),
    [
        ("x", {"type": "integer"}, "not of type 'integer'"),
        (True, {"type": "integer"}, "not of type 'integer'"),
        (0, {"type": "integer", "minimum": 1}, "less than the minimum"),
        ("c", {"enum": ["a", "b"]}, "is not one of"),
        ([1, "x"], {"type": "array", "items": {"type": "integer"}}, r"at \[1\]"),
        ({"n": "x"}, {"properties": {"n": {"type": "number"}}}, r"at n\)"),
        (1, {"type": "whole"}, "own schema is not valid"),
        ("a", {"pattern": "("}, "own schema is not valid"),
    ],
)
def test_a_constant_that_does_not_fit_is_explained(value, schema, words):
    """The reason names the rule, and the place inside the value."""
    import re

    assert re.search(words, misfit(value, ParameterSpec("p", schema)))


@pytest.mark.parametrize(
    ("value", "parameter"),
    [
        (3, ParameterSpec("p", {"type": "number", "position": 0})),
        (1.0, ParameterSpec("p", {"type": "integer"})),
        ("anything", ParameterSpec("p")),
        # Prefect's schema of `p: str = None` does not take its own default.
        (None, ParameterSpec("p", {"type": "string"}, default=None)),
    ],
)
def test_a_constant_that_fits_gives_no_reason(value, parameter):
    """Fitting values, and the parameter's own default, pass."""
    assert misfit(value, parameter) == ""


@pytest.mark.parametrize("mark", [{"format": "password"}, {"writeOnly": True}])
def test_a_secret_constant_is_never_repeated(mark):
    """A value for a secret parameter stays out of the message."""
    reason = misfit("hunter2", ParameterSpec("p", {"type": "integer", **mark}))
    assert "'type'" in reason
    assert "hunter2" not in reason


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "anything"),
        (_FILE, "file reference"),
        ({"type": "array", "items": {"type": "number"}}, "array of number"),
        ({"type": "string", "format": "date"}, "string (date)"),
        ({"enum": ["a", "b"]}, "'a' | 'b'"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string | null"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": 5}, "5"),
    ],
)
def test_types_have_short_names(schema, expected):
    """People read a type in a few words."""
    assert type_name(schema) == expected
