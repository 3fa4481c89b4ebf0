"""Plain values, containers, times and objects through the codecs."""

import json
import math
import socket
import subprocess
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, SecretStr

from prefect_lume.errors import (
    DecodingError,
    EncodingError,
    IntegrityError,
    InvalidInputError,
)
from prefect_lume.results.codecs import (
    MAX_DEPTH,
    Lazy,
    decode,
    encode,
    escape_key,
    unescape_key,
)
from prefect_lume.results.references import FileReference, ResultReference

BERLIN = ZoneInfo("Europe/Berlin")


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    A = "alpha"


class Bits(IntFlag):
    X = 1
    Y = 2


class Meters(float):
    pass


class Inner(BaseModel):
    k: float = 1.5


class Outer(BaseModel):
    inner: Inner = Inner()
    names: tuple[str, ...] = ("a",)


@dataclass
class Lattice:
    length: float
    tags: set[str]


Twiss = namedtuple("Twiss", "alpha beta")


def through(value, threshold=65536):
    """Return a value after it was stored as JSON text."""
    encoded = encode(value, threshold=threshold)
    tree = json.loads(json.dumps(encoded.tree, allow_nan=False))
    return decode(tree, load_blob=encoded.blobs.__getitem__)


SAME = [
    None,
    True,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**63) - 1,
    1 << 5000,
    -1 << 20_000,
    0.1,
    5e-324,
    1.7976931348623157e308,
    math.inf,
    -math.inf,
    1 + 2j,
    complex(math.inf, -0.0),
    "",
    "ünï 🙂 \0 $.%",
    b"",
    b"\0\xff",
    bytearray(b"abc"),
    [],
    {},
    (),
    set(),
    frozenset(),
    [1, [2, [3]]],
    (1, (2, [3, (4,)])),
    {1, 2.5, "a", b"b", (1, 2), None, frozenset({3})},
    frozenset({"x", Decimal("1.50")}),
    Decimal("1.500"),
    Decimal("-Infinity"),
    Decimal("1E+400"),
    UUID("12345678-1234-5678-1234-567812345678"),
    PurePosixPath("/data/ünï"),
    PureWindowsPath(r"C:\data"),
    date(1, 1, 1),
    time(23, 59, 59, 999999),
    time(1, 2, fold=1),
    time(1, 2, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
    time(1, 2, tzinfo=BERLIN),
    timedelta(days=-1, microseconds=1),
    timedelta.max,
    datetime.fromisoformat("2024-01-02T03:04:05.000006"),
    datetime.fromisoformat("9999-12-31T23:59:59.999999"),
    datetime(2024, 1, 2, tzinfo=UTC),
    datetime(2024, 7, 2, 12, tzinfo=BERLIN),
    datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
    datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN),
    datetime(2024, 1, 2, tzinfo=timezone(timedelta(seconds=3661))),
    FileReference(path="a/b.h5", sha256="0" * 64, size=3, format="hdf5"),
    ResultReference(
        project_name="p",
        result_type="Generic",
        unique_hash="f" * 64,
        attribute_index=["a", 1],
    ),
]


@pytest.mark.parametrize("value", SAME, ids=range(len(SAME)))
def test_a_plain_value_comes_back_the_same(value):
    """A value with a stored form comes back equal and of its own type."""
    found = through(value)
    assert found == value
    assert type(found) is type(value)


def test_members_of_containers_keep_their_types():
    """1, 1.0 and True are told apart wherever they are."""
    found = through([1, 1.0, True, (1, 1.0, True)])
    assert [type(item) for item in found[:3]] == [int, float, bool]
    assert [type(item) for item in found[3]] == [int, float, bool]


def test_nan_and_negative_zero_come_back():
    """NaN and the sign of zero survive, in complex numbers too."""
    assert math.isnan(through(math.nan))
    assert math.copysign(1, through(-0.0)) == -1
    assert math.isnan(through(complex(math.nan, 1)).real)


def test_zones_come_back_by_name():
    """A named zone is kept, and so are fold and wall time."""
    found = through(datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN))
    assert found.tzinfo is BERLIN
    assert (found.fold, found.utcoffset()) == (1, timedelta(hours=1))


def test_datetimes_have_a_text_that_sorts():
    """The field utc sorts like the moments do, whatever their zones."""
    moments = [
        datetime(2024, 1, 1, 0, 30, tzinfo=BERLIN),
        datetime(2023, 12, 31, 23, 45, tzinfo=UTC),
        datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    ]
    texts = [encode(moment).tree["utc"] for moment in moments]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {27}
    assert encode(datetime.fromisoformat("2024-01-01")).tree["naive"] is True


def test_an_unknown_zone_keeps_the_moment():
    """Where a zone's name is not known, its offset is used: the moment is right."""
    moment = datetime(2024, 7, 2, 12, tzinfo=BERLIN)
    tree = {**encode(moment).tree, "zone": "Mars/Olympus"}
    assert decode(tree) == moment


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Colour.RED, "red"),
        (Colour.PAIR, (1, 2)),
        (Level.HIGH, 3),
        (Word.A, "alpha"),
        (Bits.X | Bits.Y, 3),
        (Meters(2.5), 2.5),
        (Outer(), {"inner": {"k": 1.5}, "names": ("a",)}),
        (Lattice(1.0, {"q"}), {"length": 1.0, "tags": {"q"}}),
        (Twiss(1, 2), (1, 2)),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        pytest.param(memoryview(b"abc"), b"abc", id="memoryview"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_comes_back_plain(value, stored):
    """Enums, models, dataclasses and subclasses come back as plain data."""
    found = through(value)
    assert found == stored
    assert type(found) is type(stored)


def test_a_path_of_this_machine_comes_back_pure():
    """A concrete path comes back as a pure path: it names nothing on this machine."""
    assert type(through(Path("a/b"))) is PurePosixPath


KEYS = ["", "%", "%2E", "a.b", "$set", "a$", "__lume__", "%5F_lume__", "\0", "ü", "_id"]


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_escaped_reversibly(key):
    """Any key comes back, and none is stored that a database would read as more."""
    stored = escape_key(key)
    assert unescape_key(stored) == key
    assert stored
    assert not set(stored) & {".", "\0"}
    assert stored[0] != "$"
    assert stored != "__lume__"
    assert through({key: {key: 1}}) == {key: {key: 1}}


def test_escaped_keys_do_not_collide():
    """Different keys are stored under different names."""
    assert len({escape_key(key) for key in KEYS}) == len(KEYS)


def test_a_dict_that_looks_like_an_envelope_stays_a_dict():
    """Users may store any key, the envelope's own included."""
    value = {"__lume__": "tuple", "v": 1, "items": [1]}
    assert through(value) == value


def test_what_is_larger_than_the_threshold_leaves_the_tree():
    """Bytes and long text become blobs by their hash; the rest stays inline."""
    value = {"b": b"x" * 100, "t": "y" * 2000, "short": "z" * 1000}
    encoded = encode(value, threshold=99)
    assert {len(blob) for blob in encoded.blobs.values()} == {100, 2000}
    assert encoded.tree["short"] == "z" * 1000
    assert encoded.tree["b"]["size"] == 100
    assert not encode(value, threshold=2000).blobs
    assert through(value, 0) == value


def test_equal_payloads_are_one_blob():
    """Content-addressed blobs are stored once."""
    assert len(encode([b"x" * 10, b"x" * 10], threshold=0).blobs) == 1


def test_a_negative_threshold_is_refused():
    """The threshold is a number of bytes."""
    with pytest.raises(InvalidInputError, match="threshold"):
        encode(1, threshold=-1)


def test_lazy_values_load_when_asked():
    """Lazy decoding reads no blob before load()."""
    encoded = encode({"a": [b"x" * 50], "n": 1}, threshold=10)
    read = []

    def load_blob(digest):
        read.append(digest)
        return encoded.blobs[digest]

    found = decode(encoded.tree, load_blob=load_blob, lazy=True)
    lazy = found["a"][0]
    assert isinstance(lazy, Lazy)
    assert (lazy.codec, lazy.size, read) == ("bytes", 50, [])
    assert lazy.load() == b"x" * 50
    assert read == [lazy.sha256]


def cyclic_list():
    value = [1]
    value.append({"again": value})
    return value


def cyclic_dict():
    value = {}
    value["t"] = (value,)
    return value


REFUSED = [
    ({"beam": [0, 0, 0, {"sock": socket.socket}]}, "value.beam[3].sock", "type"),
    ([lambda: None], "value[0]", "function"),
    ({"a b": object()}, "value['a b']", "object"),
    ({"a": iter([])}, "value.a", "list_iterator"),
    (range(3), "value", "range"),
    ({"k": {1: 2}}, "value.k", "keys must be strings"),
    ({"k": {1 << 20_000: 2}}, "value.k", "a key is of type 'int'"),
    ({"k": {None: 2}}, "value.k", "keys must be strings"),
    (["\ud800"], "value[0]", "surrogate"),
    ({"\udcff": 1}, "value", "surrogate"),
    ({"p": Path("\udcff")}, "value.p", "surrogate"),
    (cyclic_list(), "value[1].again", "contains itself"),
    (cyclic_dict(), "value.t[0]", "contains itself"),
    ({"s": SecretStr("hunter2")}, "value.s", "SecretStr"),
    (datetime.min.replace(tzinfo=BERLIN), "value", "years"),
    ({"x": {Inner}}, "value.x", "type"),
]


@pytest.mark.parametrize(("value", "path", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_stored_is_refused_with_its_place(value, path, words):
    """The error says where the value is, what it is, and shows no content."""
    with pytest.raises(EncodingError) as caught:
        encode(value)
    assert caught.value.path.startswith(path)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_open_socket_and_an_open_file_are_refused(tmp_path):
    """Handles of the operating system are refused, with what to do instead."""
    with socket.socket() as sock, (tmp_path / "f").open("w") as file:
        for handle in (sock, file):
            with pytest.raises(EncodingError, match=r"outputs\.h: .*Allowed are.*save"):
                encode({"h": handle}, path="outputs")


def test_one_object_may_occur_twice():
    """Only cycles are refused, not sharing."""
    shared = [1]
    assert through([shared, shared, {"a": shared}]) == [[1], [1], {"a": [1]}]


@pytest.mark.parametrize("wrap", [list, tuple, lambda items: {"k": items[0]}])
def test_nesting_is_bounded(wrap):
    """Values may be nested MAX_DEPTH deep, and come back; deeper is refused."""
    value = 1
    for _ in range(MAX_DEPTH):
        value = wrap([value])
    assert through(value) == value
    with pytest.raises(EncodingError, match="nested"):
        encode(wrap([value]))


def test_deep_trees_are_refused():
    """A hostile tree raises a DecodingError, never a RecursionError."""
    tree = 1
    for _ in range(100_000):
        tree = [tree]
    with pytest.raises(DecodingError, match="nested"):
        decode(tree)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"__lume__": "pickle", "v": 1}, "unknown codec 'pickle'"),
        ({"__lume__": "tuple", "v": 2, "items": []}, "version 2"),
        ({"__lume__": "tuple", "v": True, "items": []}, "integer 'v'"),
        ({"__lume__": 3, "v": 1}, "name"),
        ({"__lume__": "tuple", "v": 1}, "items"),
        ({"__lume__": "set", "v": 1, "items": [[1]]}, "malformed"),
        ({"__lume__": "int", "v": 1, "value": "12"}, "hexadecimal"),
        ({"__lume__": "float", "v": 1, "value": "1.5"}, "'nan'"),
        ({"__lume__": "bytes", "v": 1}, "'data' or 'blob'"),
        ({"__lume__": "bytes", "v": 1, "data": "é", "sha256": "0" * 64}, "base64"),
        ({"__lume__": "bytes", "v": 1, "blob": "0" * 64, "size": 1}, "load blobs"),
        ({"__lume__": "bytes", "v": 1, "blob": "../x", "size": 1}, "SHA-256"),
        ({"__lume__": "datetime", "v": 1, "value": "now"}, "malformed"),
        ({"__lume__": "path", "v": 1, "value": "a", "flavour": "os"}, "flavour"),
        ({"__lume__": "file", "v": 1, "path": "../x"}, "not valid"),
        ({"a.b": 1}, "not escaped"),
        ({1: 1}, "key"),
        (2**63, "64 bits"),
        (math.nan, "number"),
        (b"x", "bytes"),
        pytest.param(object(), "object", id="an object"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_malformed_trees_are_refused(tree, words):
    """What no encoder writes is refused with a DecodingError that says why."""
    with pytest.raises(DecodingError, match=words) as caught:
        decode([tree], path="outputs", load_blob=None)
    assert str(caught.value).startswith("outputs[0]: ")


def test_changed_payloads_are_refused():
    """A payload that is not what its hash says is never returned."""
    tree = encode(b"abc").tree
    with pytest.raises(IntegrityError):
        decode({**tree, "data": encode(b"abd").tree["data"]})
    encoded = encode(b"abc", threshold=0)
    for wrong in (b"abd", b"abcd", b""):
        with pytest.raises(IntegrityError):
            decode(encoded.tree, load_blob=lambda _, wrong=wrong: wrong)


def test_plain_values_need_no_heavy_package():
    """Nothing heavy is imported to store and load plain values."""
    code = (
        "import sys\n"
        "from prefect_lume.results import Result\n"
        "from prefect_lume.results.documents import to_document\n"
        "to_document(Result(project_name='p', outputs={'a': (1, b'x')}))\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'h5py', 'PIL', 'prefect'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
