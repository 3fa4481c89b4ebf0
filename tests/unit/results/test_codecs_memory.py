"""What large values cost in memory, and blobs that are not loaded to be stored."""

import json
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.errors import (
    DecodingError,
    EncodingError,
    IntegrityError,
    InvalidInputError,
)
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.codecs import (
    Lazy,
    StoredBytes,
    VerifiedLoader,
    canonical,
    decode,
    encode,
    encode_for_hash,
)
from prefect_lume.results.stores import SQLDBService
from prefect_lume.storage.sql import get_engine

SIZE = 64 << 20
#: Parts in which arrays are searched, hashed and written, and what else is small.
SLACK = 8 << 20


def peak(call):
    """Return what a call returns, and how many bytes it allocated at most."""
    tracemalloc.start()
    try:
        found = call()
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def large(kind):
    values = np.arange(SIZE // 8, dtype="<f8")
    if kind == "NaN":
        values[::3] = np.nan
    if kind == "big-endian":
        return values.astype(">f8")
    if kind == "complex":
        return values.view("<c16")
    if kind == "structured":
        return values.view([("a", "<f8"), ("b", "<i8")])
    return values.view("?")[:] > 0 if kind == "bool" else values


@pytest.mark.parametrize(
    ("kind", "stored", "loaded"),
    [
        ("plain", 0, 0),
        ("NaN", 0, 0),
        ("complex", 0, 0),
        ("structured", 0, 0),
        ("bool", 0, 0),
        ("big-endian", 1, 1),
    ],
)
def test_a_large_array_is_not_copied(kind, stored, loaded):
    """Only an array that has to be rearranged is copied, once, each way."""
    value = large(kind)
    encoded, used = peak(lambda: encode(value))
    assert used <= stored * value.nbytes + SLACK
    (blob,) = encoded.blobs.values()
    loader = VerifiedLoader({encoded.tree["blob"]: bytearray(blob)}.pop)
    found, used = peak(lambda: decode(encoded.tree, load_blob=loader))
    assert used <= loaded * value.nbytes + SLACK
    assert found.flags.writeable
    assert found.tobytes() == value.tobytes()


def test_a_large_frame_is_copied_once():
    """Its columns become one stream; loaded, they are views of it."""
    frame = pd.DataFrame({f"c{i}": np.arange(SIZE / 32) for i in range(4)})
    encoded, used = peak(lambda: encode(frame))
    assert used <= SLACK  # The stream itself is in Arrow's memory.
    (blob,) = encoded.blobs.values()
    loader = VerifiedLoader({encoded.tree["blob"]: bytearray(blob)}.pop)
    found, used = peak(lambda: decode(encoded.tree, load_blob=loader))
    assert used <= SLACK
    pd.testing.assert_frame_equal(found, frame)
    found.iloc[0, 0] = 5.0
    found["new"] = 1
    assert found.iloc[0, 0] == 5.0
    assert found.iloc[1, 0] == 1.0


def test_nan_counts_the_same_in_every_part():
    """An array in several parts has the hash that it has as a whole."""
    values = np.arange(400_000, dtype="<f8")
    values[[5, 131_072, 399_999]] = np.nan
    tree = encode(values).tree
    assert tree["content"] if "content" in tree else tree["blob"]
    odd = values.copy()
    odd.view("<u8")[np.isnan(odd)] = 0xFFF8000000000123
    assert canonical(encode(odd).tree) == canonical(tree)
    assert encode(odd).tree["content"] == sha256_bytes(values)


def test_a_verified_loader_is_not_checked_again():
    """What it returns has its hash; its size is checked all the same."""
    encoded = encode(b"a" * 10, threshold=0)
    assert decode(encoded.tree, load_blob=VerifiedLoader(lambda *_: b"b" * 10)) == (
        b"b" * 10
    )
    with pytest.raises(IntegrityError):
        decode(encoded.tree, load_blob=lambda _: b"b" * 10)
    with pytest.raises(IntegrityError, match="9 bytes instead of 10"):
        decode(encoded.tree, load_blob=VerifiedLoader(lambda *_: b"b" * 9))


def test_stored_bytes_are_the_envelope_of_a_blob():
    """They are stored as bytes of any size, without a payload, and hash as them."""
    digest = sha256_bytes(b"small")
    encoded = encode({"file": StoredBytes(digest, 5)})
    assert encoded.blobs == {}
    assert encoded.tree["file"] == {
        "__lume__": "bytes",
        "v": 1,
        "blob": digest,
        "size": 5,
    }
    found = decode(encoded.tree, load_blob={digest: b"small"}.__getitem__)
    assert found == {"file": b"small"}
    plain = canonical(encode_for_hash({"file": b"small"}))
    assert canonical(encode_for_hash({"file": StoredBytes(digest, 5)})) == plain
    assert encode(StoredBytes("0" * 64, 10**11)).tree["size"] == 10**11


@pytest.mark.parametrize(
    ("sha256", "size"),
    [("A" * 64, 1), ("0" * 63, 1), (None, 1), ("0" * 64, -1), ("0" * 64, True)],
)
def test_stored_bytes_are_checked(sha256, size):
    """A hash and a size that cannot be are refused."""
    with pytest.raises(InvalidInputError, match="stored bytes"):
        StoredBytes(sha256, size)


def lazily(value, threshold=100):
    """Return a value after it was stored, lazily, and the hashes that were read."""
    encoded = encode(value, threshold=threshold)
    read = []

    def load_blob(digest):
        read.append(digest)
        return encoded.blobs[digest]

    return encoded, decode(encoded.tree, load_blob=load_blob, lazy=True), read


@pytest.mark.parametrize(
    "value",
    [
        np.arange(100.0),
        np.array([np.nan] * 100, ">f8"),
        b"x" * 200,
        pd.DataFrame({"a": np.arange(100.0)}),
        xr.DataArray(np.arange(100.0), {"x": np.arange(100)}, "x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_lazy_value_is_stored_again_without_loading(value):
    """It keeps its envelope, and with it its hash."""
    encoded, found, read = lazily({"v": value})
    assert isinstance(found["v"], Lazy)
    again = encode(found, threshold=10**6)
    assert (again.tree, again.blobs, read) == (encoded.tree, {}, [])
    assert again.tree["v"] is not encoded.tree["v"]
    assert canonical(encode_for_hash(found)) == canonical(encoded.tree)


def test_a_lazy_value_with_a_damaged_envelope_is_refused():
    """What JSON has no form for is not stored."""
    lazy = Lazy({"__lume__": "bytes", "v": 1, "blob": {1, 2}}, lambda *, lazy: b"")
    with pytest.raises(EncodingError, match="damaged") as caught:
        encode({"a": [lazy]})
    assert caught.value.path == "value.a[0]"


@pytest.fixture
def results(tmp_path) -> Iterator[ResultsService]:
    store = SQLDBService(get_engine(f"sqlite:///{tmp_path / 'results.db'}"))
    store.create_tables()
    service = ResultsService(store)
    yield service
    service.close()


def test_a_file_that_is_stored_is_referred_to(results, tmp_path):
    """A file's blob becomes a result's bytes without being read into memory."""
    path = tmp_path / "beam.h5"
    path.write_bytes(b"beam" * 100)
    info = results.db_service.put_blob_file(path)
    result = Result(project_name="p", outputs={"file": StoredBytes(*info)})
    reference = results.store(result)
    assert results.load(reference).outputs == {"file": b"beam" * 100}
    lazy = results.load(reference, lazy=True).outputs["file"]
    assert (lazy.size, lazy.sha256) == (400, info.sha256)


def test_a_large_list_is_stored_again_with_its_values_lazy(results):
    """A list that left its document is opened; the arrays in it are not loaded."""
    arrays = [np.full(10_000, float(number)) for number in range(2)]
    rows = [{"name": "n" * 1000, "row": row} for row in range(2000)]
    first = Result(project_name="p", outputs={"all": [*arrays, *rows]})
    reference = results.store(first)
    found = results.load(reference, lazy=True)
    assert isinstance(found.outputs["all"], Lazy)
    assert found.outputs["all"].codec == "tree"
    opened = found.outputs["all"].open()
    assert isinstance(opened[0], Lazy)
    assert opened[2] == rows[0]
    again = Result(project_name="p", inputs={"n": 1}, outputs=found.outputs)
    loaded = results.load(results.store(again))
    np.testing.assert_array_equal(loaded.outputs["all"][1], arrays[1])


def deep(levels, leaf):
    for level in range(levels):
        leaf = {"a": leaf} if level % 2 else [leaf]
    return leaf


@pytest.mark.parametrize("levels", [50, 57, 58, 59, 60, 61, 62, 120])
def test_objects_nested_deep_in_tables_come_back(results, levels):
    """A column's description that left its document is found again."""
    objects = np.empty(2, object)
    objects[0], objects[1] = deep(levels, 1.5), (1,)
    frame = pd.DataFrame({"o": objects, "x": [1, 2]})
    found = results.load(
        results.store(Result(project_name="p", outputs={"f": frame, "o": objects}))
    )
    pd.testing.assert_frame_equal(found.outputs["f"], frame)
    assert found.outputs["o"].tolist() == objects.tolist()


def test_a_stored_tree_that_is_too_deep_is_refused():
    """A blob of JSON nested without end is no RecursionError."""
    data = b"[" * 100_000 + b"]" * 100_000
    digest = sha256_bytes(data)
    tree = {"__lume__": "tree", "v": 1, "blob": digest, "size": len(data)}
    with pytest.raises(DecodingError, match="deep"):
        decode(json.loads(json.dumps(tree)), load_blob=lambda _: data)
