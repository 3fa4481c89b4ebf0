"""Results as a table: columns that never collide, missing values, provenance."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import StaticPool, create_engine

from prefect_lume.errors import NotFoundError
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.frames import PROVENANCE
from prefect_lume.results.stores import SQLDBService


@pytest.fixture
def results() -> Iterator[ResultsService]:
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    store = SQLDBService(engine)
    store.create_tables()
    yield ResultsService(store)
    engine.dispose()


def store(results: ResultsService, n: int, inputs, outputs, **fields) -> Result:
    moment = datetime(2026, 1, 1, 0, 0, n, tzinfo=UTC)
    stored = Result(
        project_name="p", inputs=inputs, outputs=outputs, date_modified=moment, **fields
    )
    results.store(stored)
    return stored


def test_scalars_become_columns_with_provenance(results):
    """Same names in inputs and outputs stay apart; what is large stays out."""
    first = store(
        results,
        0,
        {"x": 1, "deep": {"y": 2.5}, "flow_id": "mine"},
        {"x": np.float64(3.5), "array": np.arange(3), "list": [1], "text": "a"},
        flow_id="f",
        deployment_id=7,
    )
    store(results, 1, {"x": 2}, {"x": None, "text": "b"})
    frame = results.load_dataframe("p")
    assert list(frame.columns) == [
        *PROVENANCE,
        "inputs.deep.y",
        "inputs.flow_id",
        "inputs.x",
        "outputs.text",
        "outputs.x",
    ]
    row = frame.iloc[0]
    assert row["unique_hash"] == first.unique_hash
    assert row["flow_id"] == "f"
    assert row["inputs.flow_id"] == "mine"
    assert row["inputs.x"] == 1
    assert row["outputs.x"] == 3.5
    assert row["date_modified"] == pd.Timestamp("2026-01-01", tz="UTC")
    assert list(frame["deployment_id"]) == [7, pd.NA]
    assert frame["deployment_id"].dtype == "Int64"
    assert pd.isna(frame.iloc[1]["outputs.x"])
    assert frame["inputs.x"].dtype.kind == "i"


def test_special_scalars_keep_their_value(results):
    """Dates, decimals and numbers that JSON has no text for fill cells."""
    moment = datetime(2026, 3, 4, tzinfo=UTC)
    store(
        results,
        0,
        {"t": moment, "d": date(2026, 1, 1), "m": Decimal("1.50")},
        {"nan": float("nan"), "inf": float("inf"), "big": 2**70, "on": True},
    )
    row = results.load_dataframe("p").iloc[0]
    assert row["inputs.t"] == moment
    assert row["inputs.d"] == date(2026, 1, 1)
    assert row["inputs.m"] == Decimal("1.50")
    assert np.isnan(row["outputs.nan"])
    assert row["outputs.inf"] == float("inf")
    assert row["outputs.big"] == 2**70
    assert row["outputs.on"] == True  # noqa: E712 - numpy's own truth value.


def test_asked_columns_hold_anything(results):
    """Arrays, tables and list elements come when they are named."""
    table = pd.DataFrame({"z": [1.0, 2.0]})
    big = np.arange(100_000)
    store(results, 0, {"k": 1, "l": [5, {"m": 6}]}, {"table": table, "big": big})
    store(results, 1, {"k": 2}, {})
    frame = results.load_dataframe(
        "p",
        columns=["outputs.big", "inputs.l.1.m", "outputs.table", "inputs.k", "flow_id"],
    )
    assert list(frame.columns) == [
        *PROVENANCE,
        "outputs.big",
        "inputs.l.1.m",
        "outputs.table",
        "inputs.k",
    ]
    assert frame.iloc[0]["outputs.big"].shape == (100_000,)
    pd.testing.assert_frame_equal(frame.iloc[0]["outputs.table"], table)
    assert frame.iloc[0]["inputs.l.1.m"] == 6
    assert frame.iloc[1]["outputs.big"] is None
    assert list(frame["inputs.k"]) == [1, 2]


def test_queries_orders_and_limits_apply(results):
    """The table holds the rows that a query finds, in the order asked for."""
    for n in range(5):
        store(results, n, {"n": n}, {"y": -n})
    frame = results.load_dataframe(
        "p", {"inputs.n": {"$gt": 0}}, sort="outputs.y", limit=3
    )
    assert list(frame["inputs.n"]) == [4, 3, 2]


def test_no_rows_is_a_table_with_columns(results):
    """A query that finds nothing gives an empty table; a wrong project raises."""
    store(results, 0, {"n": 1}, {})
    frame = results.load_dataframe("p", {"inputs.n": 5})
    assert len(frame) == 0
    assert list(frame.columns) == list(PROVENANCE)
    with pytest.raises(NotFoundError, match="'p'"):
        results.load_dataframe("q")
