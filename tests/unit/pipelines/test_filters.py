"""Filters of rows, checked before a storage sees them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines.filters import FILTERS, check_time, check_where
from prefect_lume.pipelines.rows import ROW_TYPES, Kind


def test_every_filter_is_a_field_of_its_kind():
    """What can be asked for can be kept."""
    for kind, names in FILTERS.items():
        assert names <= ROW_TYPES[kind].__dataclass_fields__.keys()


def test_values_become_lists():
    """One value, or several in any kind of collection."""
    assert check_where(Kind.RESULT, None) == {}
    assert check_where(Kind.RESULT, {"id": "a"}) == {"id": ["a"]}
    assert check_where(Kind.RESULT, {"id": ("a", "b")}) == {"id": ["a", "b"]}
    assert check_where(Kind.RESULT, {"id": None}) == {"id": [None]}


def test_an_unknown_filter_names_those_that_there_are():
    """The message lists what the kind can be found by."""
    with pytest.raises(InvalidInputError, match=r"task result.*'state'.*'status'"):
        check_where(Kind.TASK_RESULT, {"state": "x"})


def test_a_time_needs_a_zone():
    """An aware time and no time pass."""
    check_time("before", None)
    check_time("before", datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidInputError, match=r"'before'.*without a zone"):
        check_time("before", datetime(2026, 1, 1))  # noqa: DTZ001
