"""The storage in memory, as far as it differs from others."""

from __future__ import annotations

import pytest

from prefect_lume.pipelines import Pipeline
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind


def test_rows_that_were_found_are_copies():
    """What a caller does to a row is not seen by the next one."""
    storage = MemoryPipelineResultsStorage()
    storage.build_pipeline_execution(Pipeline("p"), "run-1")
    (row,) = storage.find(Kind.EXECUTION)
    row.message = "changed"
    assert storage.find(Kind.EXECUTION)[0].message != "changed"


def test_a_failed_unit_of_work_is_forgotten():
    """Rows that it put are not there."""
    storage = MemoryPipelineResultsStorage()
    storage.build_pipeline_execution(Pipeline("p"), "run-1")
    (row,) = storage.find(Kind.EXECUTION)

    def fail(session):
        row.message = "changed"
        session.put(Kind.EXECUTION, [row])
        assert session.get(Kind.EXECUTION, ["run-1"])["run-1"].message == "changed"
        raise KeyError

    with pytest.raises(KeyError):
        storage.transaction(fail)
    assert storage.find(Kind.EXECUTION)[0].message != "changed"


def test_settings_share_one_storage_and_others_have_their_own():
    """`for_context` is the same for all; a class extended from it has another."""

    class Own(MemoryPipelineResultsStorage):
        """Another storage."""

    shared = MemoryPipelineResultsStorage.for_context()
    assert MemoryPipelineResultsStorage.for_context(object()) is shared
    assert Own.for_context() is Own.for_context()
    assert type(Own.for_context()) is Own
    assert MemoryPipelineResultsStorage() is not shared
