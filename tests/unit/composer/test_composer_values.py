"""The JSON form in which values travel between subflows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from prefect_lume.composer.values import json_form, size
from prefect_lume.errors import EncodingError


class _Plane(Enum):
    X = "x"


class _Beam(BaseModel):
    energy: float
    plane: _Plane = _Plane.X


@dataclass
class _Point:
    x: float
    y: tuple[int, ...]


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_arrives_exactly(number: float) -> None:
    """A float is the same after its way through JSON, also as a numpy scalar."""
    for value in (number, np.float64(number)):
        assert json.loads(json.dumps(json_form(value))) == number


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (np.arange(3), [0, 1, 2]),
        (np.array([[0.1], [0.2]]), [[0.1], [0.2]]),
        (np.int32(7), 7),
        (np.bool_(True), True),
        (np.array(1.5), 1.5),
        (np.array(["a", "b"]), ["a", "b"]),
        ((1, [2, {"a": None}]), [1, [2, {"a": None}]]),
        ({3, 1, 2}, [1, 2, 3]),
        (_Plane.X, "x"),
        (_Beam(energy=1.0), {"energy": 1.0, "plane": "x"}),
        (_Point(0.5, (1, 2)), {"x": 0.5, "y": [1, 2]}),
        (Decimal("0.10"), "0.10"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (True, True),
        (None, None),
    ],
)
def test_values_have_the_expected_form(value: object, form: object) -> None:
    """Scalars, arrays, containers, models, enums and times become plain JSON."""
    found = json_form(value)
    assert found == form
    assert type(found) is type(form)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        np.array([1.0, np.nan]),
        object(),
        b"bytes",
        {1: "a"},
        np.array([object()]),
        1 + 2j,
    ],
)
def test_what_has_no_json_form_is_refused_with_its_place(value: object) -> None:
    """NaN, infinities, bytes, complex numbers and objects are refused by their path."""
    with pytest.raises(EncodingError) as caught:
        json_form({"deep": [value]}, "result")
    assert caught.value.path.startswith("result['deep'][0]")


def test_the_size_is_that_of_the_json_text() -> None:
    """The size is counted in bytes of UTF-8, as JSON escapes them."""
    assert size({"a": [1, 2.5]}) == len('{"a": [1, 2.5]}')
