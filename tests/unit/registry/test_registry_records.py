"""The registry's records."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import UTC, datetime

import pytest

from prefect_lume.registry import (
    DeploymentRecord,
    FlowRecord,
    ModelRecord,
    ProjectRecord,
)

NOW = datetime(2026, 11, 20, tzinfo=UTC)
MODEL = ModelRecord(1, "a", "l", "f", "b", "d", NOW)
DEPLOYMENT = DeploymentRecord(
    2,
    MODEL,
    "1",
    NOW,
    "my_model",
    None,
    "file:///my_model-1.tar.gz",
    "ab" * 32,
    None,
    is_live=True,
    entrypoints={"track": "my_model:track"},
    lock="long text",
)
FLOW = FlowRecord("id", "track", ProjectRecord("test", "", NOW), DEPLOYMENT, NOW)


def test_records_travel_between_processes() -> None:
    """A record survives pickling, as Prefect does with what a task returns."""
    assert pickle.loads(pickle.dumps(FLOW)) == FLOW


def test_records_can_be_keys() -> None:
    """Records are hashable, though some of their fields are mappings."""
    assert len({FLOW, dataclasses.replace(FLOW)}) == 1


def test_records_cannot_be_changed() -> None:
    """A record is what was stored, and stays it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        MODEL.author = "other"  # type: ignore[misc]


def test_repr_leaves_the_lock_out() -> None:
    """Printing a record does not print a whole environment."""
    assert "long text" not in repr(FLOW)
    assert "'my_model'" in repr(FLOW)


def test_short_names_of_what_is_referred_to() -> None:
    """Ids of related records are at hand; a flow without deployment has none."""
    assert (FLOW.project_name, FLOW.deployment_id) == ("test", 2)
    assert DEPLOYMENT.model_id == 1
    assert dataclasses.replace(FLOW, deployment=None).deployment_id is None
