"""The writer: batches, retries, bounds, and an end in time."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from prefect_lume.errors import StorageError
from prefect_lume.pipelines.changes import Batch, FlowRunFacts, StateChange
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.recorder.inprocess import writing
from prefect_lume.recorder.inprocess.writing import Writer, describe


def batch_of(items, storage):
    """Make one change of each item."""
    del storage
    changes = [
        StateChange(
            id=str(item),
            run_id="run",
            kind=Kind.EXECUTION,
            target="run",
            status=PipelineTaskStatus.RUNNING,
            timestamp=datetime.now(UTC),
        )
        for item in items
    ]
    return Batch(changes, [FlowRunFacts(run_id="run", flow_run_id="run")])


class Flaky(MemoryPipelineResultsStorage):
    """Fails so many times."""

    failures = 0

    def record(self, batch):
        """Fail, or record."""
        if self.failures > 0:
            self.failures -= 1
            raise StorageError("away")
        return super().record(batch)


@pytest.fixture
def storage():
    """A storage that can fail."""
    return Flaky()


@pytest.fixture
def warnings():
    """What the writer warned of."""
    return []


@pytest.fixture
def writer(storage, warnings):
    """A writer that runs until the test ends."""
    made = Writer(
        "test", batch_of, lambda: storage, warnings.append, lambda: None, lambda: None
    )
    yield made
    made.stop()


def test_everything_queued_is_written(writer, storage):
    """When the wait is over, all that was put before is in the storage."""
    writer.start()
    for item in range(500):
        writer.put(item)
    assert writer.wait(writer.ask(), 10)
    assert storage.count_states() == 500
    assert not writer.waiting


def test_more_than_fits_together(writer, storage, monkeypatch):
    """What is too much for one transaction is written in several."""
    monkeypatch.setattr(writing, "TOGETHER", 7)
    for item in range(30):
        writer.put(item)
    writer.start()
    assert writer.wait(writer.ask(), 10)
    assert storage.count_states() == 30


def test_failures_are_tried_again(writer, storage, warnings, monkeypatch):
    """A storage that fails for a while loses nothing, and one warning is given."""
    monkeypatch.setattr(writing, "FIRST_RETRY", 0.01)
    storage.failures = 3
    writer.put(1)
    writer.start()
    writer.put(2)
    assert writer.wait(writer.ask(), 10)
    assert storage.count_states() == 2
    assert warnings == ["StorageError: away"]


def test_the_wait_is_limited(writer, storage):
    """A storage that is gone does not hold up whoever waits."""
    storage.failures = 10**9
    writer.put(1)
    writer.start()
    began = time.monotonic()
    assert not writer.wait(writer.ask(), 0.2)
    assert time.monotonic() - began < 5
    assert writer.unwritten == 1


def test_what_is_kept_is_bounded(writer, monkeypatch):
    """Beyond the bound nothing more is kept, but it is counted."""
    monkeypatch.setattr(writing, "MOST_KEPT", 3)
    for item in range(5):
        writer.put(item)
    assert writer.unwritten == 5
    assert len(writer._queue) == 3


def test_foreign_errors_tell_no_secret():
    """The text of an error that is not ours may hold a password: it is not shown."""
    shown = describe(RuntimeError("mysql://user:secret@db"))
    assert "secret" not in shown
    assert "RuntimeError" in shown
