"""The objects that people get from a storage."""

from __future__ import annotations

import copy
import pickle

import pytest

from prefect_lume.pipelines import Pipeline, PipelineExecution
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import ExecutionRow


class Extended(PipelineExecution):
    """An execution with properties of its own."""

    @property
    def colour(self):
        """Return a property that is computed."""
        return f"{self.row.run_id} is red"

    def set_run_name(self, name):
        """Set a property in another way."""
        self.run_name = name.upper()


@pytest.fixture
def storage():
    """A storage in memory with one run."""
    storage = MemoryPipelineResultsStorage()
    storage.build_pipeline_execution(Pipeline("p"), "run-1")
    return storage


@pytest.fixture
def found(storage):
    """An extended execution of that run."""
    return Extended(storage.get_row(Extended.kind, "run-1"), storage)


def test_get_and_set_follow_the_rules(found):
    """A property is read by `get_`, a method wins, what is missing is an error."""
    assert found.get_colour() == "run-1 is red"
    found.set_run_name("brave-fox")
    assert found.get_run_name() == "BRAVE-FOX"
    with pytest.raises(AttributeError) as caught:
        found.get_size()
    assert caught.value.name == "get_size"
    assert not hasattr(found, "size")
    assert not hasattr(found, "get_")


def test_only_what_was_set_is_saved(storage, found):
    """Somebody else's change of another field stays."""
    other = storage.get_pipeline_execution("run-1")
    other.set_runner("theirs")
    other.save()
    found.set_run_name("mine")
    assert found.get_changed() == {"run_name": "MINE"}
    found.save()
    assert found.get_changed() == {}
    assert (found.get_runner(), found.get_run_name()) == ("theirs", "MINE")


def test_objects_of_one_id_are_equal(storage, found):
    """By kind and id, whatever their class and state."""
    assert found == storage.get_pipeline_execution("run-1")
    assert len({found, storage.get_pipeline_execution("run-1")}) == 1
    assert found != storage.get_pipeline_results("run-1")[0]
    assert found != "run-1"


def test_an_object_can_be_copied_and_shown(found):
    """Copies are objects like it; the repr says what and how it is."""
    assert copy.copy(found).get_id() == "run-1"
    assert repr(found) == "<PipelineExecution run-1 PENDING>"
    row = pickle.loads(pickle.dumps(found.row))
    assert row == found.row
    assert isinstance(row, ExecutionRow)
