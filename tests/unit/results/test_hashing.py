"""What counts for the hash of a result, and what does not."""

import math
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from prefect_lume._fingerprint import sha256_tree
from prefect_lume.errors import DecodingError, EncodingError
from prefect_lume.results.codecs import encode, encode_for_hash
from prefect_lume.results.hashing import canonical, hash_trees, unique_hash
from prefect_lume.results.references import FileReference


def of(value):
    return unique_hash({"value": value})


EQUAL = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (0.0, -0.0),
    (complex(0.0, -0.0), 0j),
    (math.nan, -math.nan),
    (np.float64("nan"), -np.float64("nan")),
    ({1, 2, "a"}, {"a", 2, 1}),
    (np.arange(4, dtype=">i4"), np.arange(4, dtype="<i4")),
    (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
    (np.array([np.nan]), -np.array([np.nan])),
    (np.array([complex(1, np.nan)]), np.conj(np.array([complex(1, np.nan)]))),
    (
        np.zeros(2, np.dtype([("a", "i1"), ("b", ">f8")], align=True)),
        np.zeros(2, np.dtype([("a", "i1"), ("b", "<f8")])),
    ),
    (
        FileReference(path="a", sha256="0" * 64, size=1, format="text"),
        FileReference(path="b", sha256="0" * 64, size=1, format="text", storage="s/x"),
    ),
    (memoryview(b"ab"), b"ab"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=range(len(EQUAL)))
def test_what_does_not_count(one, other):
    """Order of keys, byte order, memory layout and the bits of NaN do not matter."""
    assert of(one) == of(other)


def test_what_counts():
    """Values of different types or content never share a hash."""
    array = np.arange(4.0)
    different = [
        None, True, 1, 1.0, "1", b"1", bytearray(b"1"), [1], (1,), {1}, frozenset({1}),
        {"1": None}, 1 + 0j, Decimal(1), Decimal("1.0"), np.int64(1), np.int32(1),
        np.float64(1), "", [], (), {}, [[]], 2**64, math.inf, math.nan,
        datetime.fromisoformat("2024-01-01"), datetime(2024, 1, 1, tzinfo=UTC),
        array, array.astype("f4"), array.reshape(2, 2), array[::-1], array.tolist(),
        np.array([0.0]), np.array([-0.0]), pd.Series(array), pd.Index(array),
        pd.DataFrame({"a": array}), pa.table({"a": array}),
        {"a": {"b": 1}}, {"a.b": 1}, {"a": 1, "b": None},
    ]  # fmt: skip
    assert len({of(value) for value in different}) == len(different)


@pytest.mark.parametrize("threshold", [0, 10, 1024, 65536, 1 << 40])
def test_the_threshold_does_not_count(threshold):
    """Where payloads lie does not change the canonical tree."""
    value = {
        "text": "é" * 700,
        "short": "x" * 1024,
        "bytes": b"y" * 2000,
        "array": np.arange(3000.0),
        "frame": pd.DataFrame({"o": [1, "z" * 5000], "f": [1.5, 2.5]}),
        "int": 1 << 9000,
    }
    tree = encode(value, threshold=threshold).tree
    assert canonical(tree) == canonical(encode_for_hash(value))


def test_trees_hash_as_their_values():
    """Encoded fields need not be encoded again to be hashed."""
    parts = {"a": np.arange(3), "b": ("x", {"y": math.nan})}
    trees = {name: encode(value).tree for name, value in parts.items()}
    assert hash_trees(trees) == unique_hash(parts)


def test_canonical_trees_hold_no_payload():
    """Of a payload nothing but its hash is left."""
    found = canonical(encode({"b": b"abc"}).tree)
    assert set(found["b"]) == {"__lume__", "sha256"}


def test_unknown_codecs_are_not_hashed():
    """A tree that cannot be read cannot be compared."""
    with pytest.raises(DecodingError, match="unknown codec"):
        canonical({"__lume__": "later", "v": 1})


def test_the_error_names_the_part():
    """What cannot be stored has no hash; the error says where it is."""
    with pytest.raises(EncodingError, match=r"^inputs\.f: "):
        unique_hash({"inputs": {"f": print}})


def test_the_hash_does_not_depend_on_the_process():
    """PYTHONHASHSEED changes the order of sets, and nothing else."""
    code = (
        "from prefect_lume.results.hashing import unique_hash\n"
        "print(unique_hash({'s': {'a', 'b', 'c', 1, 2.5}, 'f': frozenset('xyz')}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "42")
    }
    assert len(found) == 1


def test_canonical_trees_are_plain():
    """A canonical tree has one JSON text."""
    value = {"a": np.arange(3), "t": pd.DataFrame({"x": [1]}), "c": 1j}
    assert sha256_tree(canonical(encode(value).tree)) == sha256_tree(
        canonical(encode_for_hash(value))
    )


GOLDEN_VALUES = {
    "plain": lambda: {"a": [1, 1.0, True, None, "ü", -0.0, 1e300, 5e-324]},
    "containers": lambda: ({"x", 1}, (1, (2,)), frozenset({b"b"})),
    "numbers": lambda: [1 << 80, 1 + 2j, Decimal("1.50"), math.nan, -math.inf],
    "times": lambda: [
        datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        datetime.fromisoformat("2024-01-02"),
    ],
    "keys": lambda: {"a.b": 1, "$c": 2, "__lume__": 3, "100%": 4, "": 5},
    "text": lambda: "long " * 1000,
    "array": lambda: np.arange(6, dtype=">f8").reshape(2, 3),
    "nan array": lambda: np.array([np.nan, 1.0], "f4"),
    "structured": lambda: np.array(
        [(1, 2.5, "ab")], [("i", ">i2"), ("f", "f8"), ("s", "U2")]
    ),
    "scalar": lambda: [np.float32(0.5), np.int8(-1), np.bool_(True)],
    "frame": lambda: pd.DataFrame(
        {
            "f": [1.5, math.nan],
            "i": np.array([1, 2], "i8"),
            "c": pd.Categorical(["x", "y"]),
            "t": np.array(["2024-01-01", "NaT"], "M8[ns]"),
        },
        index=pd.Index([10, 20], name="k"),
    ),
    "text frame": lambda: pd.DataFrame({"s": ["a", "ü"]}),
    "arrow": lambda: pa.table({"s": ["a", None], "l": [[1, 2], None]}),
    "file": lambda: FileReference(path="a", sha256="1" * 64, size=1, format="text"),
}

#: Written once: where one changes, stored results would no longer be found.
GOLDEN_HASHES = {
    "plain": "920545b7516afe89a919d6d8cc6c9ce95a858ff831f9ba24474085244892ff9b",
    "containers": "b3c0e47aed4105db573cc6e2b9795a22839629aa98546211e25f43f0406b53fe",
    "numbers": "2a6139f0be2ca1b4083c2973533b046afc14d49d95cc5a4937d6bf44e4dd0a54",
    "times": "677f6476a217f830cd0a23d124702c604f03a0e6ed4c3cf14199de6f22901c33",
    "keys": "79e94ab44bb1d3224d70520ecda4a4c827775819771a681afe60af919a97b295",
    "text": "5246b821dbb28bc80c11ede867381e0c1019ef665fbd463b65e813984e5aecb5",
    "array": "bd7b2814fd5a630ea40a0cc8367345413cae92c2fa8842dea49fe1284dc29a96",
    "nan array": "99ca716093c55e46684dd9c446499fc4eeb98182d8687de120254364af49f3cd",
    "structured": "3a656f826f902fc25630786386097edd44e3b6484ca08a23ae249b48b0ec7e2b",
    "scalar": "83849d62df60ec97ed2a776e51a063c6385f57752190fbdd83cf260f1055a7f0",
    "frame": "312a1ce921d0f476ccb4723c59f094fc4398fd7ea5cbcd3599e48afce6e639a1",
    "text frame": "4b8877d0ba6e28d50b7c8769bf7e1dc84adf3533d688eeb504ea94a5f91322fc",
    "arrow": "694d7c86a401536a5a026e65b42f1d41e0a79dcba5a3717d100208497ec225df",
    "file": "ca039f10b1509efe141c897c24abdd6707d0f56e7bc387bda8a87696e5c42053",
}


@pytest.mark.parametrize("name", GOLDEN_VALUES)
def test_hashes_stay_what_they_were(name):
    """The hash of a value is the same on every machine and in every version."""
    assert of(GOLDEN_VALUES[name]()) == GOLDEN_HASHES[name]
