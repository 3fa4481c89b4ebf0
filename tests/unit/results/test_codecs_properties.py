"""Properties of the codecs over generated values."""

import copy
import json
import math
import random
import warnings
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefect_lume.errors import DecodingError, IntegrityError
from prefect_lume.results.codecs import (
    canonical,
    decode,
    encode,
    encode_for_hash,
    escape_key,
    unescape_key,
)
from prefect_lume.results.hashing import unique_hash

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ZONES = st.sampled_from([None, ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")])
#: In UTC, a zoned datetime lies between the years 1 and 9999 too.
YEARS = (datetime.fromisoformat("0002-01-01"), datetime.fromisoformat("9998-01-01"))
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | TEXT
    | st.binary()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.datetimes(*YEARS, timezones=ZONES)
    | st.decimals(allow_nan=False)
    | st.uuids()
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=20,
)
ARRAYS = hnp.arrays(
    hnp.scalar_dtypes()
    | hnp.unicode_string_dtypes()
    | hnp.byte_string_dtypes()
    | hnp.array_dtypes(),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=3),
)
QUIET = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow]
)


def same(one, other):
    """Tell whether two values are equal, NaN and types included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            same(item, other[key]) for key, item in one.items()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return one == other


def through(value, threshold):
    encoded = encode(value, threshold=threshold)
    tree = json.loads(json.dumps(encoded.tree, allow_nan=False))
    return decode(tree, load_blob=encoded.blobs.__getitem__)


@QUIET
@given(VALUES, st.sampled_from([0, 5, 65536]))
def test_any_value_comes_back(value, threshold):
    """Whatever the encoder takes, the decoder returns."""
    assert same(through(value, threshold), value)


@QUIET
@given(ARRAYS, st.sampled_from([0, 65536]))
def test_any_array_comes_back(array, threshold):
    """Its dtype, shape and every bit come back."""
    found = through(array, threshold)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


@QUIET
@given(VALUES, st.sampled_from([0, 5, 65536]))
def test_the_canonical_tree_does_not_depend_on_the_threshold(value, threshold):
    """Payloads count by their content, wherever they lie."""
    tree = encode(value, threshold=threshold).tree
    assert canonical(tree) == canonical(encode_for_hash(value))


@QUIET
@given(st.dictionaries(TEXT, st.integers(), min_size=2), st.randoms())
def test_the_order_of_keys_does_not_count(value, order):
    """A dict's hash does not depend on the order of its keys."""
    items = list(value.items())
    order.shuffle(items)
    assert unique_hash({"v": dict(items)}) == unique_hash({"v": value})


@QUIET
@given(st.text())
def test_any_key_is_escaped_reversibly(key):
    """Stored keys are safe, and give the key back."""
    stored = escape_key(key)
    assert unescape_key(stored) == key
    assert escape_key(unescape_key(stored)) == stored
    assert not set(stored) & {".", "\0"}
    assert not stored.startswith("$")


@QUIET
@given(
    st.lists(
        st.tuples(st.floats(), st.none() | TEXT, st.none() | st.integers(0, 255)),
        max_size=5,
    ),
    st.sampled_from([0, 65536]),
)
def test_any_frame_comes_back(rows, threshold):
    """Floats, text and nullable integers come back in a frame."""
    frame = pd.DataFrame(
        {
            "f": pd.Series([row[0] for row in rows], dtype="f8"),
            "s": pd.Series([row[1] for row in rows], dtype="str"),
            "i": pd.array([row[2] for row in rows], dtype="Int64"),
        }
    )
    pd.testing.assert_frame_equal(through(frame, threshold), frame, check_exact=True)


SEEDS = [
    {"a": 1, "t": (1, (2.5,)), "s": {1, "x"}, "i": 1 << 80, "n": math.nan, "c": 1j},
    [b"abc", "y" * 2000],
    [np.arange(6.0).reshape(2, 3), np.array(["a"]), np.float32(1)],
    np.zeros(2, [("a", "<f4"), ("b", ">i2", (2,)), ("c", "U3"), ("d", "?")]),
    np.array([1, "a", (2,)], dtype=object),
    pd.DataFrame(
        {
            "f": [1.0, 2.0],
            "s": ["a", None],
            "c": pd.Categorical(["x", "y"]),
            "t": pd.date_range("2024", periods=2, tz="UTC"),
            "o": [1, "a"],
            "I": pd.array([1, None], dtype="Int64"),
            "v": pd.interval_range(0, 2),
        }
    ),
    pd.Series([1, 2], index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    pd.date_range("2024", periods=2, freq="D"),
    pa.table({"a": [1, 2], "b": ["x", None], "l": [[1], [2, 3]]}),
    pd.Timestamp("2024"),
]
PIECES = [
    None, True, 0, -1, 2**62, 2**63, 1.5, math.nan, "", "x", "a.b", "\ud800", "<f8",
    "|V999999999", ">M8[999999999s]", "../../etc", [], {}, [1], [2**62, 2**62],
    {"__lume__": "tuple", "v": 1, "items": []}, {"base": "<f8", "shape": [10**6]},
]  # fmt: skip


def places(tree):
    """Yield every (container, key) of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, item in list(items):
        yield tree, key
        if isinstance(item, dict | list):
            yield from places(item)


def mutated(tree, source):
    """Return a tree with some places changed."""
    tree = {"root": copy.deepcopy(tree)}
    for _ in range(source.randint(1, 3)):
        container, key = source.choice(list(places(tree)))
        change = source.random()
        if change < 0.6:
            container[key] = copy.deepcopy(source.choice(PIECES))
        elif change < 0.8 and isinstance(container, dict):
            del container[key]
            if not tree:
                return tree
        elif isinstance(container[key], int):
            container[key] += source.choice([-1, 1, 10**9])
        elif isinstance(container[key], list):
            container[key] = container[key] * source.choice([0, 2])
    return tree


@pytest.mark.parametrize("seed", range(4))
def test_no_tree_breaks_the_decoder(seed):
    """A damaged tree is decoded, or refused with an error of this package."""
    source = random.Random(seed)
    trees = [json.loads(json.dumps(encode(value).tree)) for value in SEEDS]
    outcomes = {"value": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(1500):
            tree = mutated(source.choice(trees), source)
            try:
                decode(tree)
            except (DecodingError, IntegrityError):
                outcomes["refused"] += 1
            else:
                outcomes["value"] += 1
    assert min(outcomes.values()) > 50
