"""numpy arrays and scalars through the codecs."""

import hashlib
import json

import numpy as np
import pytest

from prefect_lume.errors import DecodingError, EncodingError, IntegrityError
from prefect_lume.results.codecs import decode, encode


def through(value, threshold=65536):
    """Return a value after it was stored as JSON text."""
    encoded = encode(value, threshold=threshold)
    tree = json.loads(json.dumps(encoded.tree, allow_nan=False))
    return decode(tree, load_blob=encoded.blobs.__getitem__)


NESTED = np.dtype(
    [("x", "<f4"), ("n", [("b", ">i2", (2, 3)), ("s", "U3")]), ("t", "<M8[us]")]
)
ALIGNED = np.dtype([("a", "i1"), ("b", "f8"), ("c", "?")], align=True)

ARRAYS = {
    **{code: np.arange(6).astype(code).reshape(2, 3) for code in "?bBhHiIlLqQefdgFDG"},
    "big-endian": np.arange(4, dtype=">f8"),
    "big-endian text": np.array(["a", "üb"], dtype=">U2"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(20.0)[::-3],
    "broadcast": np.broadcast_to(np.arange(3), (2, 3)),
    "0-d": np.array(3.5),
    "empty": np.zeros((0, 3), "f4"),
    "empty inside": np.zeros((2, 0, 3)),
    "text": np.array(["", "ab", "ü"]),
    "bytes": np.array([b"a", b"\0b"]),
    "void": np.array([b"abcd"], dtype="V4"),
    "datetimes": np.array(["2024-01-01", "NaT"], "M8[ns]"),
    "datetimes of 25 s": np.array([1, 2], "M8[25s]"),
    "durations": np.array([1, -1], "m8[ms]"),
    "nan": np.array([np.nan, np.inf, -0.0]),
    "0-d complex nan": np.array(complex(1, np.nan)),
    "0-d structured nan": np.array((np.nan, 1), [("f", ">f4"), ("i", "i1")]),
    "longdouble nan": np.array([np.nan, 1], "longdouble"),
    "structured": np.zeros(3, NESTED),
    "titles": np.zeros(2, [(("a title", "a"), "i4"), ("b", "<U2")]),
    "aligned": np.ones(3, ALIGNED),
    "one field": np.zeros(3, NESTED)[["x"]],
    "record": np.zeros(2, NESTED).view(np.recarray),
    "objects": np.array([[1, "a"], [None, (2,)]], dtype=object),
    "no objects": np.array([], dtype=object),
    "many dimensions": np.zeros((1,) * 32),
}


@pytest.mark.parametrize("threshold", [0, 65536])
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_the_same(name, threshold):
    """Its dtype, shape and values come back, inline and as a blob, in C order."""
    array = ARRAYS[name]
    found = through(array, threshold)
    assert type(found) is np.ndarray
    if name not in {"one field", "record"}:
        assert found.dtype == array.dtype
    assert found.shape == array.shape
    if "structured nan" in name:
        assert found.tobytes() == array.tobytes()
    else:
        np.testing.assert_array_equal(found, array)
    assert found.flags.c_contiguous
    assert found.flags.writeable


def test_text_of_any_length_comes_back():
    """The variable-width strings of numpy keep their dtype."""
    array = np.array(["a", "long" * 10], dtype=np.dtypes.StringDType())
    found = through(array)
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


SCALARS = [
    np.bool_(True),
    np.int8(-3),
    np.uint64(2**64 - 1),
    np.float16(0.1),
    np.float32(0.1),
    np.float64(0.1),
    np.float64(-0.0),
    np.longdouble("0.1"),
    np.complex64(1 + 2j),
    np.complex128(1 - 2j),
    np.str_("ü"),
    np.bytes_(b"a"),
    np.datetime64("2024-01-01T00:00:00.123456789"),
    np.datetime64("NaT"),
    np.timedelta64(5, "h"),
    np.zeros(1, NESTED)[0],
]


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_a_scalar_comes_back_the_same(scalar):
    """Scalars come back with their dtype."""
    found = through(scalar)
    assert type(found) is type(scalar)
    assert found.dtype == scalar.dtype
    assert found == scalar or (np.isnat(found) and np.isnat(scalar))


def test_a_scalar_nan_comes_back():
    """NaN is no exception."""
    found = through(np.float32("nan"))
    assert isinstance(found, np.float32)
    assert np.isnan(found)


def test_a_scalar_can_be_queried():
    """The envelope of a scalar has its plain value."""
    assert encode(np.float64(1.5)).tree["value"] == 1.5
    assert encode(np.int32(7)).tree["value"] == 7


def test_blobs_are_views_of_contiguous_arrays():
    """A large contiguous array is not copied to be stored."""
    array = np.arange(100_000.0)
    (blob,) = encode(array).blobs.values()
    assert np.shares_memory(np.frombuffer(blob, "u1"), array)


def test_longdouble_padding_is_not_content():
    """The bytes that pad a long double do not change what is stored."""
    one, other = np.ones(2, "longdouble"), np.ones(2, "longdouble")
    if one.itemsize != 16:
        pytest.skip("long doubles have no padding here")
    other.view("u1").reshape(2, 16)[:, 10:] = 7
    assert encode(one) == encode(other)


class Quantity(np.ndarray):
    """A stand-in for arrays with units."""


@pytest.mark.parametrize(
    ("array", "path"),
    [
        pytest.param(np.array([1, object()], dtype=object), "value[1]", id="an object"),
        (np.ma.array([1, 2], mask=[0, 1]), "value"),
        (np.zeros(2).view(Quantity), "value"),
        (np.zeros(2, dtype=[]), "value"),
        (np.zeros(2, dtype=[("a", "O")]), "value"),
        (np.zeros(2, dtype=[((3, "a"), "i4")]), "value"),
    ],
    ids=repr,
)
def test_what_an_array_would_lose_is_refused(array, path):
    """Units, masks, objects without a form and titles are refused, not dropped."""
    with pytest.raises(EncodingError) as caught:
        encode(array)
    assert caught.value.path == path


def stored(**changes):
    """Return the envelope of a small array with some fields changed."""
    return {**encode(np.arange(4, dtype="<i4")).tree, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [5]},
        {"shape": [2]},
        {"shape": [-4]},
        {"shape": [2**62, 2**62]},
        {"shape": [1] * 65},
        {"shape": [4.0]},
        {"shape": "4"},
        {"dtype": "<i8"},
        {"dtype": "O"},
        {"dtype": "|O8"},
        {"dtype": "<V0"},
        {"dtype": "|S999999999"},
        {"dtype": "int32"},
        {"dtype": "os.system"},
        {"dtype": ["<i4"]},
        {"dtype": {"names": ["a", "a"], "formats": ["<i2", "<i2"]}},
        {"dtype": {"names": ["a"], "formats": []}},
        {"dtype": {"names": ["a"], "formats": ["<i4"], "titles": [3]}},
        {"dtype": {"names": ["a"], "formats": ["<i4"], "titles": ["a"]}},
        {"dtype": {"base": "<i4", "shape": [10**9, 10**9]}},
        {"dtype": {"base": "<i4", "shape": [0]}},
    ],
    ids=repr,
)
def test_malformed_arrays_are_refused(changes):
    """Shapes and dtypes that do not fit the bytes are refused."""
    with pytest.raises(DecodingError):
        decode(stored(**changes))


def test_nested_dtypes_are_bounded():
    """A dtype nested without end is refused."""
    dtype = "<i4"
    for _ in range(5000):
        dtype = {"base": dtype, "shape": [1]}
    with pytest.raises(DecodingError):
        decode(stored(dtype=dtype))


@pytest.mark.parametrize(
    ("array", "payload"),
    [(np.array([True]), b"\2"), (np.array(["a"]), b"\xff\xff\xff\xff")],
    ids=["bool", "text"],
)
def test_bytes_that_are_no_values_are_refused(array, payload):
    """Booleans are 0 or 1, characters exist."""
    tree = encode(array, threshold=0).tree
    digest = hashlib.sha256(payload).hexdigest()
    with pytest.raises(DecodingError, match="holds"):
        decode({**tree, "blob": digest}, load_blob=lambda _: payload)


def test_a_changed_array_is_refused():
    """One changed byte is noticed, inline and in a blob."""
    encoded = encode(np.arange(4), threshold=0)
    (data,) = encoded.blobs.values()
    changed = bytes(data)[:-1] + b"\1"
    with pytest.raises(IntegrityError):
        decode(encoded.tree, load_blob=lambda _: changed)
