"""Objects and parameters as JSON that every database can keep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, SecretStr

from prefect_lume.pipelines.jsonable import (
    LIMIT,
    is_storable,
    jsonable,
    storable,
    storable_text,
)


@dataclass
class Beam:
    charge: float


class Login(BaseModel):
    password: SecretStr


class Odd:
    def __repr__(self):
        raise RuntimeError("no")


def test_plain_data_stays_as_it_is():
    """JSON comes back equal, with its types."""
    tree = {"a": [1, 2.5, None, True, "é"], "b": {"c": []}, "big": 2**70}
    assert jsonable(tree) == tree


def test_what_has_a_json_form_takes_it():
    """Dataclasses, models, times, sets and odd keys."""
    assert jsonable(Beam(1.5)) == {"charge": 1.5}
    assert jsonable(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00Z"
    assert jsonable({1: (2, 3)}) == {"1": [2, 3]}
    assert jsonable([math.nan, math.inf]) == ["NaN", "Infinity"] or jsonable(
        [math.nan, math.inf]
    ) == ["nan", "inf"]


def test_a_secret_comes_out_as_stars():
    """No password is kept with a run."""
    assert "hunter2" not in str(jsonable(Login(password="hunter2")))


def test_what_has_none_is_described():
    """An object that is no JSON is named, even if its repr fails."""
    assert jsonable(len)["type"] == "builtins.builtin_function_or_method"
    assert "RuntimeError" in jsonable(Odd())["repr"]


def test_what_is_too_long_is_cut():
    """Long data is named and shown from its beginning."""
    kept = jsonable(list(range(LIMIT)))
    assert kept["type"] == "builtins.list"
    assert kept["repr"].startswith("[0, 1, 2")
    assert len(kept["repr"]) <= LIMIT // 8
    assert jsonable("a" * (LIMIT - 2)) == "a" * (LIMIT - 2)


def test_a_ring_is_described():
    """Data that holds itself has no JSON form."""
    ring: list[object] = []
    ring.append(ring)
    assert jsonable(ring)["type"] == "builtins.list"


def test_what_no_database_keeps_is_written_out():
    """U+0000 and halves of surrogate pairs, in values and in keys."""
    assert storable_text("a\0b\ud800") == "a\\x00b\\ud800"
    assert storable({"\0": ["\udfff", 1, None]}) == {"\\x00": ["\\udfff", 1, None]}
    assert jsonable(["\0"]) == ["\\x00"]
    assert is_storable("\x01🌌\uffff")
    assert not is_storable("\0")
