"""The decorator: what it gives is a flow like the one it got."""

from __future__ import annotations

import pickle

import cloudpickle
import pytest
from prefect import Flow, flow

from prefect_lume import recorded
from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage


def ended(*_):
    """Do nothing."""


@flow(name="a scan", retries=2, on_completion=[ended])
def scan(points: int = 3) -> int:
    """Scan."""
    return points


def test_the_original_is_not_changed():
    """Only the flow that is returned is recorded; all else is the same."""
    made = recorded(scan)
    assert scan.on_running_hooks == []
    assert scan.on_completion_hooks == [ended]
    assert "with_options" not in vars(scan)
    assert type(made) is Flow
    assert (made.name, made.retries, made.fn) == ("a scan", 2, scan.fn)
    assert made.parameters == scan.parameters
    assert made.on_completion_hooks[0] is ended
    assert len(made.on_completion_hooks) == 2


def test_with_and_without_arguments():
    """It decorates with and without parentheses, and twice is as good as once."""
    storage = MemoryPipelineResultsStorage()
    for made in (recorded(scan), recorded()(scan), recorded(storage=storage)(scan)):
        assert len(made.on_running_hooks) == 1
        again = recorded(made)
        assert len(again.on_running_hooks) == 1
        assert len(again.with_options(retries=1).on_crashed_hooks) == 1


def test_below_the_flow_decorator():
    """On a plain function it says where it belongs."""
    with pytest.raises(InvalidInputError, match="above @flow"):
        recorded(ended)


def test_sent_to_another_process():
    """A recorded flow can be pickled; a storage object stays behind."""
    made = recorded(scan, storage=MemoryPipelineResultsStorage(), services="mine")
    other = pickle.loads(cloudpickle.dumps(made))
    hooks = other.on_running_hooks[0].__self__
    assert (hooks.services, hooks.storage) == ("mine", None)
