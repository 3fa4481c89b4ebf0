"""Comparing results: what differs, by how much, and what agrees."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from prefect_lume.errors import InvalidInputError
from prefect_lume.results import Result, compare_results
from prefect_lume.results.codecs import decode, encode


def made(**outputs) -> Result:
    return Result(project_name="p", outputs=outputs)


def differences(first, other, **options) -> dict:
    found = compare_results([made(a=first), made(a=other)], **options)
    return {d.path: (d.kind, d.absolute) for d in found.differences}


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (1, 1.0),
        (1, np.float64(1)),
        (float("nan"), float("nan")),
        (float("inf"), float("inf")),
        ("a", "a"),
        (None, None),
        ([1, (2, 3)], [1.0, (2.0, 3)]),
        ({"x": b"1"}, {"x": b"1"}),
        (np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf])),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.array(["a"]), np.array(["a"])),
        (pd.DataFrame({"x": [1.0, None]}), pd.DataFrame({"x": [1.0, None]})),
        (pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-01", tz="UTC")),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
    ids=lambda value: str(value)[:20],
)
def test_equal_values_agree(first, other):
    """Equal numbers of any kind, NaN, containers, arrays and tables agree."""
    assert differences(first, other) == {}


@pytest.mark.parametrize(
    ("first", "other", "path", "kind", "absolute"),
    [
        (1.0, 1.5, "outputs.a", "value", 0.5),
        (1, "1", "outputs.a", "type", None),
        (1, True, "outputs.a", "type", None),
        ("a", "b", "outputs.a", "value", None),
        (1.0, float("nan"), "outputs.a", "value", None),
        (1.0, float("inf"), "outputs.a", "value", None),
        ([1, 2], [1], "outputs.a", "shape", None),
        ([1, [2]], [1, [4]], "outputs.a[1][0]", "value", 2.0),
        ({"x": 1}, {}, "outputs.a.x", "missing", None),
        (np.zeros(3), np.zeros(4), "outputs.a", "shape", None),
        (np.zeros(3), np.array([0, 0.25, 0]), "outputs.a", "value", 0.25),
        (np.array([2**53]), np.array([2**53 + 1]), "outputs.a", "value", 1.0),
        (np.array([-(2**63)]), np.array([2**63 - 1]), "outputs.a", "value", 2.0**64),
        (np.uint8([0]), np.uint8([255]), "outputs.a", "value", 255.0),
        (np.array([True]), np.array([False]), "outputs.a", "value", 1.0),
        (np.array([1.0]), np.array([np.nan]), "outputs.a", "value", None),
        (np.array([1 + 1j]), np.array([1 + 3j]), "outputs.a", "value", 2.0),
        (np.array(["a"]), np.array(["b"]), "outputs.a", "value", None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_differing_values_are_found(first, other, path, kind, absolute):
    """A difference has its place, its kind, and its size where there is one."""
    assert differences(first, other) == {path: (kind, absolute)}


def test_tables_are_compared_by_column():
    """A column that differs or is missing is named."""
    first = pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"], "z": [0, 0]})
    other = pd.DataFrame({"x": [1.0, 2.5], "y": ["a", "c"]})
    assert differences(first, other) == {
        "outputs.a.x": ("value", 0.5),
        "outputs.a.y[1]": ("value", None),
        "outputs.a.z": ("missing", None),
    }
    assert differences(first, first[:1]) == {"outputs.a": ("shape", None)}


def test_tolerances_are_those_of_isclose():
    """Relative and absolute tolerance decide for numbers and for elements."""
    for first, other in ((100.0, 101.0), (np.full(3, 100.0), np.full(3, 101.0))):
        assert differences(first, other, rel_tol=0.01) == {}
        assert differences(first, other, abs_tol=1.0) == {}
        assert differences(first, other, rel_tol=0.009, abs_tol=0.9)
    assert differences(1.0, float("inf"), rel_tol=1.0)
    for wrong in ({"rel_tol": -1}, {"abs_tol": float("nan")}):
        with pytest.raises(InvalidInputError, match="Tolerances"):
            compare_results([made(), made()], **wrong)


def test_more_than_two_are_compared_with_the_first():
    """Each result has its column, and the largest difference counts."""
    found = compare_results([made(s=1.0, n=1), made(s=1.5, n=1), made(s=3.0, n=1)])
    (only,) = found.differences
    assert only.values == ("1.0", "1.5", "3.0")
    assert (only.absolute, only.relative, found.equal) == (2.0, 2.0, 1)
    with pytest.raises(InvalidInputError, match="two results"):
        compare_results([made()])


def test_a_comparison_is_a_table_and_json():
    """The table has a column per result; the JSON holds everything."""
    one, two = made(s=1.0, t=[1]), made(s=2.0)
    found = compare_results([one, two])
    frame = found.to_dataframe()
    assert list(frame["path"]) == ["outputs.s", "outputs.t"]
    assert list(frame[one.unique_hash[:12]]) == ["1.0", "[1]"]
    assert json.loads(json.dumps(found.to_dict()))["differences"][0]["absolute"] == 1.0
    assert found
    assert not compare_results([one, one])
    assert one.unique_hash in compare_results([one, one]).to_dataframe().columns


def test_large_values_are_loaded_only_if_their_hashes_differ():
    """Two lazily loaded values of one blob are the same without reading it."""
    loaded = []

    def lazily(value):
        encoded = encode(value, threshold=0)

        def load(sha256):
            loaded.append(sha256)
            return encoded.blobs[sha256]

        return decode(encoded.tree, load_blob=load, lazy=True)

    assert differences(lazily(np.array([1.0])), lazily(np.array([1.0]))) == {}
    assert loaded == []
    first, other = lazily(np.array([1.0])), lazily(np.array([2.0]))
    assert differences(first, other) == {"outputs.a": ("value", 1.0)}
    assert len(loaded) == 2


def test_what_cannot_be_compared_is_refused():
    """References, unknown fields and tolerances that are no numbers are errors."""
    one = Result(project_name="p", inputs={"n": 10**400})
    other = Result(project_name="p", inputs={"n": 10**401})
    with pytest.raises(InvalidInputError, match="not ResultReference"):
        compare_results([one.reference(), other.reference()])
    with pytest.raises(InvalidInputError, match="'inputs', 'outputs'"):
        compare_results([one, other], parts=["outcome"])
    with pytest.raises(InvalidInputError, match="numbers from 0"):
        compare_results([one, other], rel_tol="0.1")
    (difference,) = compare_results(
        [one, other], rel_tol=0.1, parts="inputs"
    ).differences
    assert difference.path == "inputs.n"
