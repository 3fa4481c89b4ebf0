"""Documents that were stored once are read for ever.

``golden/<name>.json`` holds a stored document and its blobs. A new case is written by
running this file; one that is there is never written again.
"""

import base64
import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.results.documents import (
    ImpactResult,
    Result,
    from_document,
    resolve_model_docs,
    to_document,
)
from prefect_lume.results.references import FileReference, ResultReference

FOLDER = Path(__file__).parent / "golden"
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


@pytest.mark.parametrize("name", CASES)
def test_a_stored_document_is_read(name):
    """What an earlier version stored has the content that it was made of."""
    document, load_blob = read(name)
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
    document, load_blob = read("impact")
    impact = from_document(document, resolve_model_docs(), load_blob)
    assert impact.archive == FILE
    assert isinstance(impact.config["previous"], ResultReference)


if __name__ == "__main__":
    for case in CASES:
        if not (FOLDER / f"{case}.json").exists():
            write(case)
