"""Rows and changes survive being MongoDB documents."""

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta, timezone

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines import PipelineTaskStatus, StateChange
from prefect_lume.pipelines.mongo import documents as docs
from prefect_lume.pipelines.rows import ROW_TYPES, ExecutionRow, Kind, ResultRow

NOW = datetime(2026, 2, 3, 4, 5, 6, 789012, UTC)

TIMES = st.integers(0, 2**53).map(docs.from_ticks)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            TEXT | st.sampled_from(["$where", "a.b", ""]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
VALUES = {
    "str": TEXT,
    "str | None": st.none() | TEXT,
    "bool": st.booleans(),
    "int": st.integers(-1, 2**40),
    "int | None": st.none() | st.integers(0, 2**40),
    "datetime | None": st.none() | TIMES,
    "PipelineTaskStatus": st.sampled_from(PipelineTaskStatus),
    "Any": JSON,
    "dict[str, Any]": st.dictionaries(TEXT, JSON, max_size=3),
}


@st.composite
def rows(draw):
    """Return a kind and a row of it, with any value in each field."""
    kind = draw(st.sampled_from(Kind))
    fields = dataclasses.fields(ROW_TYPES[kind])
    return kind, ROW_TYPES[kind](**{f.name: draw(VALUES[f.type]) for f in fields})


@given(rows())
def test_every_row_comes_back_as_it_was(given_row):
    """Any row survives being a document, on the wire too."""
    kind, row = given_row
    wire = bson.encode(docs.row_to_document(kind, row))
    assert docs.document_to_row(kind, bson.decode(wire)) == row


@given(
    st.builds(
        StateChange,
        id=TEXT,
        run_id=TEXT,
        kind=st.sampled_from(Kind),
        target=TEXT,
        status=st.sampled_from(PipelineTaskStatus),
        timestamp=TIMES,
        message=TEXT,
        state_type=st.none() | TEXT,
        state_name=st.none() | TEXT,
        run_count=st.none() | st.integers(0, 100),
        inferred=st.booleans(),
    )
)
def test_every_change_comes_back_as_it_was(change):
    """Any change survives being a document, on the wire too."""
    wire = bson.encode(docs.change_to_document(change))
    assert docs.document_to_change(bson.decode(wire)) == change


def test_times_keep_their_microseconds_and_their_order():
    """Times of any zone become integers that are in the order of the times."""
    there = NOW.astimezone(timezone(timedelta(hours=9, minutes=30)))
    later = NOW + timedelta(microseconds=1)
    assert docs.to_ticks(there) == docs.to_ticks(NOW) == docs.to_ticks(later) - 1
    assert docs.from_ticks(docs.to_ticks(there)) == NOW


def test_a_time_without_a_zone_is_refused():
    """A row with a naive time is refused, with the field's name."""
    row = ExecutionRow(id="a", run_id="a", last_seen=NOW.replace(tzinfo=None))
    with pytest.raises(InvalidInputError, match=r"'last_seen' .* without a zone"):
        docs.row_to_document(Kind.EXECUTION, row)


def test_what_is_no_json_is_refused():
    """A row whose object is no JSON is refused, with the field's name."""
    row = ResultRow(id="a", run_id="a", pipeline_object=object())
    with pytest.raises(InvalidInputError, match="'pipeline_object' of a pipeline res"):
        docs.row_to_document(Kind.RESULT, row)


def test_json_is_text_in_the_database():
    """Keys that a server may not like are never keys of a document."""
    row = ExecutionRow(id="a", run_id="a", input_data={"$where": 1, "a.b": {"": None}})
    document = docs.row_to_document(Kind.EXECUTION, row)
    assert json.loads(document["input_data"]) == row.input_data


@pytest.mark.parametrize(
    "value", [{"$ne": None}, re.compile("."), bson.Regex("."), b"x", ["a"], object()]
)
def test_operators_are_no_values(value):
    """What a server would take for an operator or a pattern is refused."""
    with pytest.raises(InvalidInputError, match="'status' cannot be"):
        docs.condition("status", ["DONE", value])


def test_conditions_are_lists_of_values():
    """Values of a condition are compared, whatever they look like."""
    wanted = docs.condition("id", [PipelineTaskStatus.DONE, "$where", None, 3])
    assert wanted == {"_id": {"$in": ["DONE", "$where", None, 3]}}
