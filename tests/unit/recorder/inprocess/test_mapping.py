"""Watching a task runner while it maps, whatever task runner it is."""

from __future__ import annotations

import copy
import pickle

import cloudpickle
import pytest
from prefect import task, unmapped
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from prefect_lume.pipelines.changes import TaskRunFacts
from prefect_lume.recorder.inprocess.mapping import (
    MapNotes,
    as_json,
    next_watcher,
    watched,
)


class Seen:
    """Remembers what it is told."""

    def __init__(self):
        self.told = []
        self.has_left = False

    def submitted(self, task_run_id, index, task_object, *, is_local):
        """Remember a task run."""
        self.told.append((index, task_object, is_local))

    def left(self):
        """Remember that it is over."""
        self.has_left = True


@task
def add(x, y=0, z=0):
    """Add."""
    return x + y + z


class Inline(ThreadPoolTaskRunner):
    """Notes calls without running anything."""

    def submit(self, task, parameters, wait_for=None, dependencies=None):
        """Return something with an id."""

        class Future:
            task_run_id = "id"

        return Future()


@pytest.fixture
def seen():
    """What a watcher was told."""
    return Seen()


@pytest.fixture
def runner(seen):
    """A watched task runner as a flow's run gets it, open."""
    original = Inline()
    assert watched(original)
    next_watcher.set(seen)
    with original.duplicate() as made:
        yield made


def test_one_mapped_parameter(runner, seen):
    """With one mapped parameter the object is its value."""
    runner.map(add, {"x": [5, 6], "y": unmapped([1, 2]), "z": 3})
    assert seen.told == [(0, 5, True), (1, 6, True)]


def test_several_mapped_parameters(runner, seen):
    """With several mapped parameters the object is all of them by name."""
    runner.map(add, {"x": iter([5, 6]), "y": (1, 2)})
    assert [told[1] for told in seen.told] == [{"x": 5, "y": 1}, {"x": 6, "y": 2}]


def test_submitted_alone(runner, seen):
    """What is submitted outside a `.map` has no position and no object."""
    runner.submit(add, {"x": [1, 2]})
    runner.map(add, {"x": [1]})
    runner.submit(add, {"x": [1, 2]})
    assert [told[0] for told in seen.told] == [None, 0, None]


def test_the_end(seen):
    """The watcher is told when the task runner is closed, and nothing afterwards."""
    original = ThreadPoolTaskRunner()
    watched(original)
    next_watcher.set(seen)
    with original.duplicate():
        assert not seen.has_left
    assert seen.has_left
    with original.duplicate() as again:
        assert again._lume_watcher is None


@pytest.mark.parametrize("kind", [ThreadPoolTaskRunner, ProcessPoolTaskRunner])
def test_elsewhere_it_is_as_it_was(kind):
    """Copied or sent to another process, a task runner is one of its own class."""
    runner = kind(max_workers=3)
    watched(runner)
    assert isinstance(runner, kind)
    assert watched(runner)
    for other in (copy.copy(runner), pickle.loads(cloudpickle.dumps(runner))):
        assert type(other) is kind
        assert other._max_workers == 3


def test_notes_wait_for_values():
    """An object that is not known yet is filled in at the end, as far as it is."""
    from concurrent.futures import Future
    from uuid import UUID

    from prefect.futures import PrefectConcurrentFuture

    id_ = UUID(int=7)
    notes = MapNotes()
    notes.add("a", 0, 1.5)
    notes.add("b", 1, PrefectConcurrentFuture(id_, Future()))
    facts = [
        TaskRunFacts(task_run_id=x, run_id="r", pipeline_result_id="p", task_id="t")
        for x in "abc"
    ]
    notes.tell(facts)
    assert [(f.index, f.task_object) for f in facts] == [
        (0, 1.5),
        (1, None),
        (None, None),
    ]
    assert notes.rest() == [facts[1]]
    assert facts[1].task_object == {"task_run_id": str(id_)}
    assert notes.rest() == []


def test_what_is_long_is_not_looked_through():
    """Of a very long value only its type and length are kept."""
    assert as_json(list(range(100_000)))["repr"] == "100000 items"
    assert len(as_json("x" * 1_000_000)["repr"]) < 3000
