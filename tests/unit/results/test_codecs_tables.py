"""pandas and Arrow tables through the codecs."""

import hashlib
import json
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from prefect_lume.errors import DecodingError, EncodingError, IntegrityError
from prefect_lume.results.codecs import decode, encode
from prefect_lume.results.hashing import unique_hash


def through(value, threshold=65536):
    """Return a value after it was stored as JSON text."""
    encoded = encode(value, threshold=threshold)
    tree = json.loads(json.dumps(encoded.tree, allow_nan=False))
    return decode(tree, load_blob=encoded.blobs.__getitem__)


COLUMNS = {
    **{code: np.array([0, 1, 2]).astype(code) for code in "?bBhHiIlLqQefd"},
    "complex": [1 + 2j, complex(math.nan, 0), 3],
    "complex64": np.array([1j, 2, 3], "F"),
    "nan": [1.0, math.nan, -0.0],
    "text": ["a", None, "ü🙂"],
    "text or NA": pd.array(["a", None, "b"], dtype="string"),
    "python text": pd.array(["a", None, "b"], dtype=pd.StringDtype("python")),
    "text and None": pd.Series(["a", None, "b"], dtype=object),
    "text and NaN": pd.Series(["a", math.nan, "b"], dtype=object),
    "None": pd.Series([None, None, None], dtype=object),
    "mixed": pd.Series([None, math.nan, "a"], dtype=object),
    "objects": [1, "a", {"x": (1, [2])}],
    "decimals": [Decimal("1.10"), None, Decimal("2")],
    "category": pd.Categorical(["x", None, "y"], ["y", "x", "z"], ordered=True),
    "numbers as category": pd.Categorical([10, 20, 10]),
    "cut": pd.cut([1, 5, 9], [0, 3, 6, 10]),
    "times": np.array(["2024-01-01", "NaT", "2024-01-02T03:04:05.123456789"], "M8[ns]"),
    "times in s": np.array(["2024-01-01", "NaT", "2025"], "M8[s]"),
    "zoned": pd.date_range("2024-10-26", periods=3, tz="Europe/Berlin"),
    "UTC": pd.date_range("2024-10-26", periods=3, tz="UTC"),
    "offset": pd.date_range("2024-10-26", periods=3, tz="+02:30"),
    "durations": pd.to_timedelta([1, None, 2], unit="ms"),
    "Int64": pd.array([1, None, 2**62], dtype="Int64"),
    "UInt8": pd.array([1, None, 255], dtype="UInt8"),
    "Float64": pd.array([1.5, None, 2], dtype="Float64"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "arrow": pd.array([1, None, 3], dtype=pd.ArrowDtype(pa.int16())),
    "arrow lists": pd.array([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
    "periods": pd.period_range("2024-01", periods=3, freq="M"),
    "intervals": pd.interval_range(0, 3, closed="left"),
}


@pytest.mark.parametrize("threshold", [0, 65536])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_the_same(name, threshold):
    """The dtype and values come back, missing ones too."""
    frame = pd.DataFrame({name: COLUMNS[name]})
    found = through(frame, threshold)
    pd.testing.assert_frame_equal(found, frame, check_exact=True)
    assert found.dtypes.tolist() == frame.dtypes.tolist()
    series = frame[name]
    pd.testing.assert_series_equal(through(series, threshold), series)


def test_missing_objects_stay_what_they_were():
    """None and NaN are told apart in columns of objects."""
    frame = pd.DataFrame({name: COLUMNS[name] for name in ("text and None", "mixed")})
    found = through(frame)
    assert found["text and None"][1] is None
    assert found["mixed"][0] is None
    assert math.isnan(found["mixed"][1])


FRAMES = {
    "nothing": pd.DataFrame(),
    "rows only": pd.DataFrame(index=["a", "b"]),
    "columns only": pd.DataFrame(columns=["a", "b"]),
    "no rows": pd.DataFrame({"a": pd.array([], dtype="Int64")}),
    "equal names": pd.DataFrame([[1, 2.0]], columns=["a", "a"]),
    "other names": pd.DataFrame({1: [1], (2, "x"): [2], "1": [3], None: [4]}),
    "column levels": pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_product([["a"], [1, 2]], names=["x", None])
    ),
    "dates as names": pd.DataFrame([[1, 2]], columns=pd.date_range("2024", periods=2)),
    "range": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 1, -2, name="k")),
    "levels": pd.DataFrame(
        {"a": [1, 2]},
        index=pd.MultiIndex.from_tuples(
            [("x", pd.Timestamp("2024")), ("y", pd.NaT)], names=["n", "t"]
        ),
    ),
    "category index": pd.DataFrame(
        {"a": [1, 2]}, index=pd.CategoricalIndex(["q", "r"])
    ),
    "hours": pd.DataFrame(
        {"a": [1, 2]}, index=pd.date_range("2024", periods=2, freq="h", tz="UTC")
    ),
    "floats": pd.DataFrame({"a": [1, 2]}, index=pd.Index([0.5, math.nan], name="s")),
    "tuples": pd.DataFrame(
        {"a": [1, 2]}, index=pd.Index([(1, 2), (3, 4)], tupleize_cols=False)
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_comes_back_the_same(name):
    """Index, columns, their names, levels and frequency come back."""
    frame = FRAMES[name]
    found = through(frame)
    pd.testing.assert_frame_equal(
        found,
        frame,
        check_exact=True,
        check_index_type="exact",
        check_column_type="exact",
        check_freq=True,
    )


def test_attributes_of_a_frame_come_back():
    """A frame's attrs are part of it."""
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["unit"] = ("m", 1)
    assert through(frame).attrs == {"unit": ("m", 1)}


def test_a_loaded_frame_can_be_changed():
    """What comes back is not read-only."""
    found = through(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}))
    found.loc[0, "a"] = 5.0
    found.loc[0, "b"] = "z"
    assert found.iloc[0].tolist() == [5.0, "z"]


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2024-01-02T03:04:05.123456789"),
        pd.Timestamp("2024-01-02", tz="Europe/Berlin"),
        pd.Timestamp("2024-01-02", tz="+01:30"),
        pd.Timedelta("1 day 00:00:00.000000001"),
    ],
    ids=repr,
)
def test_pandas_scalars_come_back(value):
    """Timestamps and Timedeltas keep their nanoseconds, zone and unit."""
    found = through(value)
    assert (found, type(found), found.unit) == (value, type(value), value.unit)


def test_what_is_missing_comes_back():
    """NaT and NA are themselves."""
    assert through(pd.NaT) is pd.NaT
    assert through(pd.NA) is pd.NA


ARROW = pa.table(
    {
        "i": pa.array([1, None], pa.int8()),
        "d": pa.array(["x", None]).dictionary_encode(),
        "s": pa.array([{"q": [1, 2]}, None]),
        "f": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        "m": pa.array([Decimal("1.1"), None]),
        "t": pa.array([1, None], pa.timestamp("us", "Europe/Berlin")),
        "n": pa.nulls(2),
        "b": pa.array([b"\0", None], pa.binary(1)),
        "z": pa.array([None, True]),
    }
)


def test_an_arrow_table_comes_back_the_same():
    """Schema, metadata and values of an Arrow table come back."""
    table = ARROW.replace_schema_metadata({"k": "v"})
    found = through(table)
    assert found.equals(table, check_metadata=True)
    assert through(table.to_batches()[0]).equals(table)


class Custom(pa.ExtensionType):
    """An extension type that nobody else knows."""

    def __init__(self):
        super().__init__(pa.int64(), "prefect-lume.test")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()


@pytest.mark.parametrize(
    ("table", "path"),
    [
        (pa.table({"x": pa.ExtensionArray.from_storage(Custom(), pa.array([1]))}), "x"),
        (pa.table({"x": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8()))}), "x"),
        (pd.DataFrame({"x": pd.arrays.SparseArray([0, 1])}), "x"),
        (pd.DataFrame({"x": [1, object()]}), "x[1]"),
        (pd.DataFrame({"x": ["\ud800"]}, dtype=object), "x[0]"),
        (pd.DataFrame({"x": np.ones(1, "longdouble")}), "x"),
    ],
    ids=["extension", "map", "sparse", "object", "surrogate", "longdouble"],
)
def test_columns_without_a_stored_form_are_refused(table, path):
    """The error names the column, and the row where it can."""
    with pytest.raises(EncodingError) as caught:
        encode(table, path="outputs")
    assert caught.value.path == f"outputs.{path}"


def test_subclasses_of_tables_are_refused():
    """What a subclass adds would be lost silently."""

    class Geo(pd.DataFrame):
        pass

    with pytest.raises(EncodingError, match="Geo"):
        encode(Geo({"a": [1]}))


def as_tree(table, columns=None):
    """Return the envelope of an Arrow table's bytes, whatever they hold."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    digest = hashlib.sha256(data).hexdigest()
    tree = {
        "__lume__": "arrow-table",
        "v": 1,
        "rows": table.num_rows,
        "columns": columns or table.schema.names,
        "blob": digest,
        "size": len(data),
    }
    return tree, {digest: data}


def test_stored_extension_types_are_refused():
    """No extension type that stored bytes name is made."""
    field = pa.field(
        "x", pa.int64(), metadata={"ARROW:extension:name": "arrow.py_extension_type"}
    )
    tree, blobs = as_tree(pa.table({"x": [1]}, schema=pa.schema([field])))
    with pytest.raises(DecodingError, match="extension"):
        decode(tree, load_blob=blobs.__getitem__)


def frame_tree(**changes):
    """Return the envelope of a small frame with some fields changed."""
    frame = pd.DataFrame({"a": [1, 2], "c": pd.Categorical(["x", "y"])})
    return {**encode(frame).tree, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 3},
        {"rows": 10**15},
        {"dtypes": []},
        {"dtypes": [{"kind": "numpy", "dtype": "<i8"}] * 2},
        {"dtypes": [{"kind": "numpy", "dtype": "<f8"}, {"kind": "arrow"}]},
        {"dtypes": [{"kind": "masked", "dtype": "os.system"}, {"kind": "arrow"}]},
        {"dtypes": [{"kind": "pickle"}, {"kind": "arrow"}]},
        {"dtypes": [{"kind": "object", "values": []}, {"kind": "arrow"}]},
        {"dtypes": [None, None]},
        {"index": {"__lume__": "tuple", "v": 1, "items": []}},
        {"columns": [1, 2]},
        {"attrs": 1},
        {"data": "", "sha256": hashlib.sha256(b"").hexdigest()},
        {"data": "YWJj", "sha256": hashlib.sha256(b"abc").hexdigest()},
    ],
    ids=lambda value: str(value)[:60],
)
def test_malformed_frames_are_refused(changes):
    """Descriptions that do not fit the stored columns are refused."""
    with pytest.raises(DecodingError):
        decode(frame_tree(**changes))


def test_a_changed_table_is_refused():
    """One changed byte is noticed."""
    encoded = encode(pd.DataFrame({"a": range(1000)}), threshold=4000)
    (data,) = encoded.blobs.values()
    changed = bytearray(data)
    changed[-100] ^= 1
    with pytest.raises(IntegrityError):
        decode(encoded.tree, load_blob=lambda _: changed)


def table_hash(table):
    return unique_hash({"t": table})


def test_the_hash_of_a_table_is_that_of_its_values():
    """Chunks, slices, string widths and metadata do not matter; values do."""
    whole = pa.table({"a": [1, None, 3], "s": ["x", None, "zz"]})
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    large = whole.set_column(1, "s", whole["s"].cast(pa.large_string()))
    same = [
        chunked,
        large,
        pa.concat_tables([whole, whole]).slice(3),
        whole.replace_schema_metadata({"pandas": "version 99"}),
    ]
    assert {table_hash(table) for table in same} == {table_hash(whole)}
    other = [
        whole.slice(1),
        whole.rename_columns(["a", "t"]),
        whole.set_column(0, "a", pa.array([1, 0, 3])),
        whole.set_column(0, "a", pa.array([1, None, 3], pa.int32())),
        whole.set_column(1, "s", pa.array(["x", None, "z"])),
        whole.set_column(1, "s", pa.array(["xz", None, "z"])),
    ]
    assert len({table_hash(table) for table in [whole, *other]}) == 7


def test_what_lies_behind_a_null_does_not_matter():
    """Two columns are equal if their valid values are."""
    validity = pa.array([True, False]).buffers()[1]
    one, other = (
        pa.Array.from_buffers(pa.int64(), 2, [validity, pa.array(values).buffers()[1]])
        for values in ([1, 2], [1, 3])
    )
    assert table_hash(pa.table({"a": one})) == table_hash(pa.table({"a": other}))


def test_the_hash_of_a_frame_is_that_of_its_values():
    """Copies, blocks and text's dtype do not matter; labels, order and dtypes do."""
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, math.nan], "s": ["x", None]})
    piecewise = frame[["a"]].copy()
    piecewise["b"] = frame["b"]
    piecewise["s"] = pd.array(["x", None], dtype="string")
    assert table_hash(piecewise) == table_hash(frame)
    other = [
        frame[["b", "a", "s"]],
        frame.rename(columns={"a": "A"}),
        frame.set_axis([1, 2]),
        frame.astype({"a": "int32"}),
        frame.iloc[::-1],
        frame.fillna({"b": 1.0}),
    ]
    assert len({table_hash(table) for table in [frame, *other]}) == 7
