"""Documents that were stored once are read for ever.

``golden/<name>.json`` holds a stored document and its blobs. A new case is written by
running this file; one that is there is never written again.
"""

import base64
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pint
import pyarrow as pa
import pytest
import xarray as xr

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.results.codecs.columns import _UNPACKERS as COLUMN_KINDS
from prefect_lume.results.codecs.registry import CODECS
from prefect_lume.results.documents import (
    ImpactResult,
    Result,
    from_document,
    resolve_model_docs,
    to_document,
)
from prefect_lume.results.references import FileReference, ResultReference
from prefect_lume.results.stored import FORMAT, verify_document

FOLDER = Path(__file__).parent / "golden"
UNITS = pint.get_application_registry()
MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
FILE = FileReference(
    path="demo/run/beam.h5",
    sha256=sha256_bytes(b"beam"),
    size=4,
    format="hdf5",
    media_type="application/x-hdf5",
)


def nested(levels):
    """Return a list so deep that its inside leaves the document."""
    value = ["inside"]
    for _ in range(levels):
        value = [value]
    return value


def labelled():
    """Return an array with coordinates of several kinds."""
    return xr.DataArray(
        np.arange(6.0).reshape(3, 2),
        dims=("time", "x"),
        coords={
            "time": pd.date_range("2024-01-01", periods=3, unit="ns"),
            "x": ("x", ["a", "b"], {"long_name": "place"}),
            "zone": ("x", pd.Categorical(["north", "south"])),
            "shot": 7,
        },
        name="field",
        attrs={"units": "T", "range": (0, 1.5)},
    )


def result(**outputs):
    return Result(
        project_name="golden",
        flow_id="flow",
        flow_run_id="run",
        deployment_id=7,
        inputs={"a.b": 1, "$c": [1.5, None], "__lume__": True},
        outputs=outputs,
        date_modified=MOMENT,
    )


CASES = {
    "plain": lambda: result(
        integers=[0, -1, 1 << 70],
        floats=[0.1, -0.0, math.inf, 1e300],
        text="ü🙂",
        containers=((1, (2,)), {1, "a"}, frozenset({b"x"})),
        numbers=[1 + 2j, Decimal("1.50")],
        bytes=[b"\0\xff", bytearray(b"ab")],
        others=[PurePosixPath("a/b"), UUID(int=5)],
    ),
    "times": lambda: result(
        utc=MOMENT,
        zoned=datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
        naive=datetime.fromisoformat("2024-01-02T03:04:05"),
        day=date(2024, 2, 29),
        length=timedelta(days=-1, seconds=5),
        pandas=[pd.Timestamp("2024-01-02T03:04:05.123456789"), pd.Timedelta("1ns")],
    ),
    "arrays": lambda: result(
        big=np.arange(6, dtype=">f8").reshape(2, 3),
        structured=np.array(
            [(1, [2.5, 3.5], "ab")], [("i", ">i2"), ("f", "f8", (2,)), ("s", "U2")]
        ),
        times=np.array(["2024-01-01", "NaT"], "M8[ns]"),
        scalars=[np.float32(0.5), np.int8(-1), np.bool_(True)],
        objects=np.array([1, "a", None], dtype=object),
        blob=np.arange(20_000, dtype="<i4"),
    ),
    "tables": lambda: result(
        frame=pd.DataFrame(
            {
                "f": [1.5, math.nan],
                "s": pd.array(["a", None], dtype="string"),
                "c": pd.Categorical(["x", "y"], ["y", "x"], ordered=True),
                "t": pd.DatetimeIndex(
                    np.array(["2024-01-01", "2024-07-01"], "M8[ns]"), tz="Europe/Berlin"
                ),
                "n": pd.array([1, None], dtype="Int64"),
                "o": [1, (2, "b")],
            },
            index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", None]),
        ),
        series=pd.Series(np.arange(3.0), name="x", index=pd.RangeIndex(3)),
        arrow=pa.table({"s": ["a", None], "l": [[1, 2], None]}),
    ),
    "more": lambda: result(
        moments=[
            time(12, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
            pd.NaT,
            pd.NA,
            datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
            pd.Timestamp("2024-07-01T12", tz="Europe/Berlin").as_unit("s"),
        ],
        arrays=[
            np.array(2.5),
            np.zeros((2, 0, 3), "i2"),
            np.arange(12, dtype="c16").reshape(3, 4)[::2, ::-1],
            np.array([math.nan, -math.inf, -0.0], ">f4"),
            np.array([1, -1], "m8[25s]"),
            np.array([[b"ab"], [b"c"]], "S3"),
            np.array([True, False]),
            np.array(["ü", "long " * 20], dtype=np.dtypes.StringDType()),
            np.zeros(2, np.dtype([("a", "i1"), ("b", "f8", (2, 2))], align=True)),
        ],
        scalars=[np.complex64(1j), np.datetime64(1, "ms"), np.str_("x"), np.void(b"a")],
        frame=pd.DataFrame(
            {
                "period": pd.PeriodIndex(["2024-01", None], freq="M"),
                "interval": pd.arrays.IntervalArray.from_breaks([0.0, 1.0, 2.0]),
                "complex": [1j, complex(math.nan, 2)],
                "arrow": pd.array([[1], None], pd.ArrowDtype(pa.list_(pa.int8()))),
                "length": np.array([1, "NaT"], "m8[us]"),
                "object": pd.Series(["a", None], dtype=object),
                "boolean": pd.array([True, None], dtype="boolean"),
            },
            index=pd.date_range("2024-03-30", periods=2, freq="D", tz="Europe/Berlin"),
        ),
        column=pd.Series(
            np.array([[1, (2,)], "a"], dtype=object), name=("a", 1), dtype=object
        ),
        deep=nested(50),
    ),
    "labelled": lambda: result(
        array=labelled(),
        dataset=xr.Dataset(
            {"field": labelled(), "gain": ("time", [1.0, 2.0, 3.0])},
            attrs={"facility": "demo", "when": MOMENT},
        ),
        stacked=labelled().drop_vars("zone").stack(place=("time", "x")),
        variable=xr.Variable("x", [1, 2], {"units": "m"}),
        large=xr.DataArray(np.arange(10_000.0), dims="t", name="signal"),
    ),
    "quantities": lambda: result(
        scalar=UNITS.Quantity(1.5, "meter / second ** 2"),
        array=UNITS.Quantity(np.array([1.0, math.nan]), "MeV"),
        offset=UNITS.Quantity(20, "degC"),
        plain=UNITS.Quantity(Decimal("0.10"), ""),
    ),
    "impact": lambda: ImpactResult(
        project_name="golden",
        archive=FILE,
        pv_collection_isotime=MOMENT,
        config={"previous": result().reference("outputs", ["x", 0])},
        outputs={"text": "long " * 14_000, "deep": nested(100)},
        date_modified=MOMENT,
    ),
}


def write(name):
    """Write a case that is not there yet."""
    encoded = to_document(CASES[name]())
    blobs = {
        digest: base64.b64encode(blob).decode("ascii")
        for digest, blob in encoded.blobs.items()
    }
    text = json.dumps({"document": encoded.tree, "blobs": blobs}, indent=1)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read(name):
    """Return a stored document and what loads its blobs."""
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return stored["document"], lambda digest: base64.b64decode(stored["blobs"][digest])


def parts(tree, load_blob):
    """Yield every list and dict of a stored document, those in blobs too."""
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            if item.get("__lume__") == "tree":
                pending.append(json.loads(load_blob(item["blob"])))
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def test_everything_that_can_be_stored_has_a_golden_document():
    """A codec, a version of it, a kind of column or a format has an example here.

    When this fails, add a case with the new one to CASES and run this file: it writes
    the case, and none that is there.
    """
    codecs, kinds, formats = set(), set(), set()
    for path in FOLDER.glob("*.json"):
        document, load_blob = read(path.stem)
        formats.add(document["format"])
        for part in parts(document, load_blob):
            if "__lume__" in part:
                codecs.add((part["__lume__"], part["v"]))
            for column in part.get("dtypes", ()):
                kinds.add(column["kind"])
    versions = {
        (codec.name, version)
        for codec in CODECS.values()
        for version in range(1, codec.version + 1)
    }
    assert versions - codecs == set()
    assert set(COLUMN_KINDS) - kinds == set()
    assert set(range(1, FORMAT + 1)) - formats == set()


def test_every_golden_document_is_tested():
    """No file lies in the folder unread."""
    assert {path.stem for path in FOLDER.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_stored_document_is_read(name):
    """What an earlier version stored has the content that it was made of."""
    document, load_blob = read(name)
    verify_document(document)
    found = from_document(document, resolve_model_docs(), load_blob)
    expected = CASES[name]()
    assert type(found) is type(expected)
    assert found.verify() == expected
    assert found.unique_hash == expected.unique_hash == document["_id"]
    assert found.date_modified == MOMENT


def test_stored_values_have_their_types():
    """What the hash does not tell is checked value by value."""
    document, load_blob = read("arrays")
    arrays = from_document(document, resolve_model_docs(), load_blob).outputs
    assert arrays["big"].dtype == ">f8"
    np.testing.assert_array_equal(arrays["blob"], np.arange(20_000))
    document, load_blob = read("tables")
    frame = from_document(document, resolve_model_docs(), load_blob).outputs["frame"]
    pd.testing.assert_frame_equal(frame, CASES["tables"]().outputs["frame"])
    document, load_blob = read("times")
    times = from_document(document, resolve_model_docs(), load_blob).outputs
    assert times == CASES["times"]().outputs
    assert times["zoned"].tzinfo is ZoneInfo("Europe/Berlin")
    document, load_blob = read("labelled")
    labels = from_document(document, resolve_model_docs(), load_blob).outputs
    for key, value in CASES["labelled"]().outputs.items():
        assert labels[key].identical(value), key
    document, load_blob = read("quantities")
    found = from_document(document, resolve_model_docs(), load_blob).outputs
    assert found["scalar"] == UNITS.Quantity(1.5, "m/s**2")
    assert str(found["array"].units) == "megaelectron_volt"
    document, load_blob = read("impact")
    impact = from_document(document, resolve_model_docs(), load_blob)
    assert impact.archive == FILE
    assert isinstance(impact.config["previous"], ResultReference)


if __name__ == "__main__":
    for case in CASES:
        if not (FOLDER / f"{case}.json").exists():
            write(case)
