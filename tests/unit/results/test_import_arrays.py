"""Reading the pickles of arrays without running them."""

import datetime as dt
import decimal
import io
import os
import pickle
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from prefect_lume.errors import DecodingError
from prefect_lume.results.importing import opcodes
from prefect_lume.results.importing.arrays import load_array

PROTOCOLS = [2, 3, 4, 5]
ARRAYS = {
    "floats": np.linspace(0, 1, 7),
    "nan": np.array([np.nan, np.inf, -0.0]),
    "half": np.arange(4, dtype="<f2"),
    "long double": np.arange(3, dtype=np.longdouble),
    "complex": np.array([1 + 2j, 3.5], "c8"),
    "ints": np.arange(-5, 5, dtype="i2"),
    "unsigned": np.array([0, 2**64 - 1], "u8"),
    "truth": np.array([[True], [False]]),
    "big-endian": np.arange(3, dtype=">i4"),
    "empty": np.array([]),
    "empty 2-d": np.zeros((0, 3), "i4"),
    "0-d": np.array(5),
    "Fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(10.0)[::3],
    "text": np.array(["a", "βγ", ""]),
    "bytes": np.array([b"ab", b"\xff\x00c"]),
    "dates": np.array(["2020-01-01", "NaT"], "M8[ns]"),
    "25 s steps": np.array([3], "m8[25s]"),
    "no unit": np.array([3], "m8"),
    "records": np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "<i4"), ("b", "<f8")]),
    "nested": np.zeros(2, [("p", [("x", "f8"), ("y", "f4", (2, 2))]), ("n", "U3")]),
    "aligned": np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "void": np.array([b"abc"], "V3"),
    "objects": np.array([1, None, "x", 2.5, b"y", True], object),
    "objects 2-d": np.array([[1, "a"], [None, 2**80]], object, order="F"),
    "large": np.arange(200_000.0),
}


def assert_same(found, wanted):
    assert type(found) is type(wanted)
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if wanted.dtype.hasobject:
        assert found.tolist() == wanted.tolist()
    else:
        assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back(name, protocol):
    """Every array of plain values is read from its pickle, whatever the protocol."""
    assert_same(load_array(pickle.dumps(ARRAYS[name], protocol)), ARRAYS[name])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_of_older_numpy_are_read(protocol):
    """Numpy 1 called its modules numpy.core, as LUME-services' pickles do."""
    data = pickle.dumps(ARRAYS["Fortran"][:1], protocol)
    data = data.replace(b"numpy._core", b"numpy.core")
    # In protocols 4 and 5 a name has its length before it, and a frame too.
    for length in (20, 22, 19):
        old = b"\x8c" + bytes([length]) + b"numpy.core"
        data = data.replace(old, b"\x8c" + bytes([length - 1]) + b"numpy.core")
    if protocol >= 4:
        data = data[:2] + data[11:]
    assert_same(load_array(data), ARRAYS["Fortran"][:1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_scalar_and_nested_arrays_come_back(protocol):
    """Numpy scalars are read, and so are arrays in arrays of objects."""
    scalar = load_array(pickle.dumps(np.float32(1.5), protocol))
    assert (type(scalar), scalar) == (np.float32, 1.5)
    outer = np.empty(3, object)
    outer[0], outer[1], outer[2] = (
        np.arange(3),
        [1, (2, {"k": np.int8(3)})],
        np.bool_(1),
    )
    found = load_array(pickle.dumps(outer, protocol))
    assert found[0].tolist() == [0, 1, 2]
    assert found[1] == [1, (2, {"k": 3})]
    assert type(found[1][1][1]["k"]) is np.int8
    assert found[2] == np.True_


@settings(max_examples=150, deadline=None)
@given(
    array=arrays_of.arrays(
        dtype=arrays_of.scalar_dtypes() | arrays_of.array_dtypes(max_size=3),
        shape=arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_any_array_comes_back(array, protocol):
    """What numpy pickles is what is read, for any dtype and shape."""
    assert_same(load_array(pickle.dumps(array, protocol)), array)


class Evil:
    """Pickles as a call of whatever it is given."""

    def __init__(self, function, *args, state=None):
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.call


def in_an_array(value):
    array = np.empty(1, object)
    array[0] = value
    return array


HOSTILE = {
    "os.system": Evil(os.system, "touch pwned"),
    "eval": Evil(eval, "open('pwned', 'w')"),
    "exec": Evil(exec, "open('pwned', 'w')"),
    "getattr": Evil(getattr, "text", "format"),
    "__import__": Evil(__import__, "os"),
    "open": Evil(open, "pwned", "w"),
    "numpy.load": Evil(np.load, "pwned", None, True),
    "numpy.fromfile": Evil(np.fromfile, "/etc/passwd"),
    "numpy.memmap": Evil(np.memmap, "pwned", "u1", "w+", 0, (1,)),
    "numpy.save": Evil(np.save, "pwned", 1),
    "numpy.zeros": Evil(np.zeros, 10**12),
    "numpy.ndarray": Evil(np.ndarray, (10**9,)),
    "bytearray": Evil(bytearray, 10**12),
    "a class": Evil(Evil, 1),
    "a subclass": np.rec.array([1.5]).view(np.recarray),
    "a masked array": np.ma.masked_array([1], [True]),
    "a record array": np.rec.array([(1,)], dtype=[("a", "i4")]),
    "a generator": np.random.default_rng(0),
    "a date": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "a Decimal": decimal.Decimal(1),
    "a dict": {"a": 1},
    "a number": 1,
    "text": "text",
    "a dtype": np.dtype("f8"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_is_refused(name, protocol, tmp_path, monkeypatch):
    """A pickle of anything but arrays is refused, and nothing it asks for happens."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DecodingError, match="the pickle is not read"):
        load_array(pickle.dumps(HOSTILE[name], protocol))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", sorted({*HOSTILE} - {"a dict", "a number", "text"}))
def test_anything_else_is_refused_inside_an_array(
    name, protocol, tmp_path, monkeypatch
):
    """The objects of an array are read by the same rules."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DecodingError, match="the pickle is not read"):
        load_array(pickle.dumps(in_an_array(HOSTILE[name]), protocol))
    assert list(tmp_path.iterdir()) == []


def test_the_error_names_what_was_asked_for():
    """A refused pickle's error says which module and name it wanted."""
    with pytest.raises(DecodingError, match=r"'posix.system'"):
        load_array(pickle.dumps(HOSTILE["os.system"], 2))


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


NEW = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
F8 = b"cnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87R"
F8 += b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def array(shape=b"K\x01\x85", dtype=F8, content=b"C\x08" + bytes(8), fortran=b"\x89"):
    return b"\x80\x02" + NEW + b"(K\x01" + shape + dtype + fortran + content + b"tb."


def dtype(code, *state, order="<"):
    whole = b"(K\x03" + text(order) + b"".join(state) + b"t"
    return b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R" + whole + b"b"


SIZES = b"J\xff\xff\xff\xff" * 2 + b"K\x00"
MALFORMED = {
    "nothing": b"",
    "no stop": array()[:-1],
    "stop only": b".",
    "one op": b"\x80\x02N.",
    "never built": b"\x80\x02" + NEW + b".",
    "built twice": array()[:-1]
    + b"(K\x01K\x01\x85"
    + F8
    + b"\x89C\x08"
    + bytes(8)
    + b"tb.",
    "state is a dict": b"\x80\x02" + NEW + b"}" + text("__class__") + b"Nsb.",
    "state on a function": b"\x80\x02cnumpy\ndtype\n}b.",
    "state on a class": b"\x80\x02cnumpy\nndarray\n(K\x01)" + F8 + b"\x89C\x00tb.",
    "a class as instance": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "old-style instance": b"\x80\x02(inumpy\nndarray\n.",
    "object by class": b"\x80\x02(cnumpy\nndarray\no.",
    "calls an array": array()[:-1] + b")R.",
    "persistent id": b"\x80\x02K\x01Q.",
    "persistent text id": b"\x80\x02Pevil\n.",
    "extension": b"\x80\x02\x82\x01.",
    "next buffer": b"\x80\x05\x97.",
    "set": b"\x80\x04\x8f.",
    "codec rot13": b"\x80\x02c_codecs\nencode\n"
    + text("os")
    + text("rot13")
    + b"\x86R.",
    "codec zip": b"\x80\x02c_codecs\nencode\nC\x01a" + text("zip") + b"\x86R.",
    "decode": b"\x80\x02c_codecs\ndecode\n" + text("a") + text("hex") + b"\x86R.",
    "bytes of a size": b"\x80\x02c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.",
    "copyreg": b"\x80\x02ccopyreg\n_reconstructor\n.",
    "f2py": b"\x80\x02cnumpy.f2py\ncompile\n.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93.",
    "dotted module": b"\x80\x04\x8c\x0anumpy.core\x8c\x0cnumeric.load\x93.",
    "name is no text": b"\x80\x04K\x01K\x02\x93.",
    "deep memo": b"\x80\x02Nr\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "empty memo": b"\x80\x02h\x05.",
    "no mark": b"\x80\x02t.",
    "empty stack": b"\x80\x02\x87.",
    "long text": b"\x80\x02X\xff\xff\xff\xff.",
    "long bytes": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "long frame": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.",
    "unknown op": b"\x80\x02\xff.",
    "protocol 99": b"\x80\x63N.",
    "too few bytes": array(content=b"C\x07" + bytes(7)),
    "too many bytes": array(content=b"C\x09" + bytes(9)),
    "no bytes": array(content=b"N"),
    "text as bytes": array(content=text("abcdefgh")),
    "list as bytes": array(content=b"]"),
    "huge shape": array(b"J\xff\xff\xff\x7f" * 3 + b"\x87"),
    "huge empty shape": array(
        b"K\x00\x8a\x08" + b"\xff" * 7 + b"\x3f\x86", content=b"C\x00"
    ),
    "negative shape": array(b"J\xff\xff\xff\xff\x85"),
    "shape of floats": array(b"G" + struct.pack(">d", 1.0) + b"\x85"),
    "shape is no tuple": array(b"K\x01"),
    "truth for a size": array(b"\x88\x85"),
    "100 dimensions": array(b"(" + b"K\x01" * 100 + b"t"),
    "dtype is no dtype": array(dtype=b"K\x01"),
    "dtype is a name": array(dtype=b"cnumpy\ndtype\n"),
    "dtype unbuilt": array(dtype=b"cnumpy\ndtype\n" + text("f8") + b"\x85R"),
    "dtype code": array(dtype=dtype("f8,f8", b"NNN", SIZES)),
    "dtype code 2": array(dtype=dtype("T", b"NNN", SIZES)),
    "dtype order": array(dtype=dtype("f8", b"NNN", SIZES, order="f8,")),
    "size of text": array(dtype=dtype("U2", b"NNNK\x40K\x04K\x08")),
    "text without size": array(
        dtype=dtype("S0", b"NNNK\x00K\x01K\x00"), content=b"C\x00"
    ),
    "objects as bytes": array(dtype=dtype("O8", b"NNN", SIZES, order="|")),
    "objects as V": array(dtype=dtype("O8", b"NN}", SIZES, order="|")),
    "too few objects": array(dtype=dtype("O8", b"NNN", SIZES, order="|"), content=b"]"),
    "pointers in a record": array(
        dtype=dtype(
            "V8",
            b"N"
            + text("a")
            + b"\x85}"
            + text("a")
            + dtype("O8", b"NNN", SIZES, order="|")
            + b"K\x00\x86s",
            b"K\x08K\x01K\x00",
            order="|",
        )
    ),
    "pointers in a subarray": array(
        dtype=dtype(
            "V8",
            dtype("O8", b"NNN", SIZES, order="|") + b"K\x01\x85\x86NN",
            b"K\x08K\x01K\x00",
            order="|",
        )
    ),
    "field outside": array(
        dtype=dtype(
            "V8",
            b"N" + text("a") + b"\x85}" + text("a") + F8 + b"K\x04\x86s",
            b"K\x08K\x01K\x00",
            order="|",
        )
    ),
    "field before": array(
        dtype=dtype(
            "V8",
            b"N" + text("a") + b"\x85}" + text("a") + F8 + b"J\xff\xff\xff\xff\x86s",
            b"K\x08K\x01K\x00",
            order="|",
        )
    ),
    "fields differ": array(
        dtype=dtype("V8", b"N" + text("a") + b"\x85}", b"K\x08K\x01K\x00", order="|")
    ),
    "unit of a date": array(
        dtype=dtype("M8", b"NNN", SIZES, b"N(C\x03abcK\x01K\x01K\x01t\x86")
    ),
    "dict with other keys": b"\x80\x02}K\x01K\x02s.",
    "appends to a name": b"\x80\x02cnumpy\ndtype\nNa.",
    "itself": array(
        dtype=dtype("O8", b"NNN", SIZES, order="|"), content=b"]q\x07h\x07a"
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_pickles_are_refused(name):
    """A pickle that is cut, forged or senseless is one kind of error, at once."""
    with pytest.raises(DecodingError):
        load_array(MALFORMED[name])


def test_the_forged_pickles_would_be_read_were_they_sound():
    """The pieces of the forged pickles above make an array, when put together well."""
    assert load_array(array()).tolist() == [0.0]


def test_lists_that_hold_each_other_are_not_followed_for_ever():
    """Ten lists, each holding the one before ten times, are ten thousand million."""
    layers = b"".join(
        b"](" + (b"h%c" % (n - 1) if n else b"N") * 10 + b"eq%c" % n for n in range(10)
    )
    objects = dtype("O8", b"NNN", SIZES, order="|")
    with pytest.raises(DecodingError, match="too many objects"):
        load_array(array(b"K\x0a\x85", objects, b"](" + layers + b"e"))


def test_size_and_steps_are_bounded(monkeypatch):
    """A pickle that is too large, or takes too many operations, is refused."""
    monkeypatch.setattr(opcodes, "MOST_OPERATIONS", 10)
    with pytest.raises(DecodingError, match="more than 10 operations"):
        load_array(array())
    monkeypatch.setattr(opcodes, "LARGEST", 100)
    with pytest.raises(DecodingError, match="more than 100"):
        load_array(array())


def test_damaged_pickles_never_do_more_than_raise():
    """20,000 pickles with flipped bytes give an array or the one error."""
    chance = random.Random(7)
    sound = [
        pickle.dumps(ARRAYS[name], protocol)
        for name in ("floats", "records", "nested", "dates", "objects", "text")
        for protocol in PROTOCOLS
    ]
    refused = 0
    for _ in range(20_000):
        data = bytearray(chance.choice(sound))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            load_array(
                bytes(data[: chance.choice([None, chance.randrange(len(data))])])
            )
        except DecodingError:
            refused += 1
    assert refused > 10_000


def test_python_itself_would_run_what_is_refused(tmp_path, monkeypatch):
    """The hostile pickles of these tests are real: pickle.load does as they say."""
    monkeypatch.chdir(tmp_path)
    pickle.load(io.BytesIO(pickle.dumps(HOSTILE["eval"], 2))).close()
    assert (tmp_path / "pwned").exists()
