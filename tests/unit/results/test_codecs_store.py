"""Every kind of value through a real results database and back."""

import math
from datetime import datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pint
import pyarrow as pa
import pytest
import xarray as xr
from pydantic import BaseModel

from prefect_lume.results import Result, ResultsService
from prefect_lume.results.codecs import canonical, encode
from prefect_lume.results.stores import SQLDBService
from prefect_lume.storage.sql import get_engine

UNITS = pint.get_application_registry()


class Beam(BaseModel):
    """A model of somebody's."""

    charge: float = 1e-9
    sizes: tuple[float, float] = (0.1, math.inf)
    values: list[Decimal] = [Decimal("1.50")]


def nested(levels):
    value = {"inside": [1.5]}
    for _ in range(levels // 2):
        value = {"a": [value]}
    return value


VALUES = {
    "structured": np.array([(1, "ab")], [("i", ">i2"), ("s", "U2")]),
    "datetimes": np.array(["2024-01-01", "NaT"], "M8[ms]"),
    "complex": np.array([1j, complex(math.nan, math.inf)], "c8"),
    "0-d": np.array(2.5),
    "empty": np.zeros((3, 0, 2), "f4"),
    "not contiguous": np.arange(24).reshape(2, 3, 4)[::-1, :, ::2],
    "Fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(20_000, dtype=">f8"),
    "not finite": [math.nan, math.inf, -math.inf, -0.0],
    "not finite in an array": np.array([math.nan, -math.inf, -0.0]),
    "scalars": [np.float32(0.1), np.int64(-1), np.datetime64("2024", "D"), np.True_],
    "categories": pd.Series(pd.Categorical(["b", None], ["b", "a"], ordered=True)),
    "levels": pd.DataFrame(
        {"x": [1, 2]}, pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "l"])
    ),
    "zoned index": pd.Series(
        [1.0, 2.0], pd.date_range("2024-10-26", periods=2, tz="Europe/Berlin")
    ),
    "zoned": [
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        time(12, tzinfo=ZoneInfo("Asia/Tokyo")),
        pd.Timestamp("2024-01-01", tz="America/New_York"),
    ],
    "decimals": [Decimal("1.50"), Decimal("-0"), Decimal("1E+30"), Decimal("NaN")],
    "model": Beam(),
    "50 deep": nested(50),
    "arrow": pa.table(
        {"l": [[1], None], "d": pa.array(["a", "a"]).dictionary_encode()}
    ),
    "labelled": xr.Dataset(
        {"f": ("x", [1.0, math.nan])}, {"x": ["a", "b"]}, {"u": "T"}
    ),
    "quantities": [UNITS.Quantity(2, "m / s"), UNITS.Quantity(np.arange(3.0), "MeV")],
}


@pytest.mark.parametrize("threshold", [0, None])
@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_from_a_database(tmp_path, name, threshold):
    """Content and types come back, from the document and from blobs."""
    store = SQLDBService(get_engine(f"sqlite:///{tmp_path / 'results.db'}"))
    store.create_tables()
    service = ResultsService(store, blob_threshold=threshold)
    value = VALUES[name]
    reference = service.store(Result(project_name="p", outputs={"value": value}))
    found = service.load(reference).outputs["value"]
    assert canonical(encode(found).tree) == canonical(encode(value).tree)
    expected = dict if isinstance(value, BaseModel) else type(value)
    assert type(found) is expected
    if isinstance(value, np.ndarray):
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert found.flags.writeable
    if isinstance(value, list):
        assert list(map(type, found)) == list(map(type, value))
    service.close()
