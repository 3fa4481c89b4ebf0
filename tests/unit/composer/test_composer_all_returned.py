"""Every result of a task, in the order of its runs, known here or from Prefect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.results import ResultRecordMetadata
from prefect.states import Completed, Failed, Running, State

from prefect_lume.composer import results
from prefect_lume.composer.keeping import Kept, Noted
from prefect_lume.composer.results import all_returned
from prefect_lume.errors import ConnectionFailedError, NotFoundError
from prefect_lume.serializer import LumeSerializer

RUN = FlowRun(id=uuid4(), flow_id=uuid4())


def place(number: int) -> ResultRecordMetadata:
    """Return where the result of a run is, whose value is its number."""
    return ResultRecordMetadata(storage_key=str(number), serializer=LumeSerializer())


def task_run(name: str, number: int, state: State[Any]) -> TaskRun:
    """Return a run of a task; a greater number was made later."""
    key = uuid4().hex
    return TaskRun(
        id=UUID(int=number),
        name=f"{name}-{key[:3]}",
        task_key=f"{name}-abc",
        dynamic_key=key,
        flow_run_id=RUN.id,
        state=state,
    )


def done(name: str, number: int) -> TaskRun:
    """Return a completed run."""
    state = Completed()
    state.data = place(number)
    return task_run(name, number, state)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Lets the API show lists of task runs, one after the other; the last one stays.

    Returns how often it was asked, as a list's length.
    """
    monkeypatch.setattr(results, "time", Clock())
    monkeypatch.setattr(results, "_PAUSE", 1.0)
    monkeypatch.setattr(results, "_value", lambda kept, _: int(kept.storage_key))

    def show(*lists: list[TaskRun]) -> list[int]:
        asked: list[int] = []
        rest: Iterator[list[TaskRun]] = iter(lists[:-1])

        def task_runs(_: UUID) -> list[TaskRun]:
            asked.append(1)
            return next(rest, lists[-1])

        monkeypatch.setattr(results, "_task_runs", task_runs)
        return asked

    return show


def noted(name: str, begun: int, *numbers: int) -> Noted:
    """Return what this process knows of a task's runs."""
    found = Noted()
    for _ in range(begun):
        found.begin(name)
    found[name] += [Kept(**dict(place(n)), task_run_id=UUID(int=n)) for n in numbers]
    return found


def test_what_this_process_knows_is_not_asked_for(
    shown: Callable[..., list[int]],
) -> None:
    """With a result of every run that began, in the order they were made."""
    asked = shown([])
    assert all_returned(RUN, "a", noted("a", 3, 3, 1, 2)) == [1, 2, 3]
    assert asked == []


def test_runs_that_failed_are_left_out(shown: Callable[..., list[int]]) -> None:
    """More began than have results: Prefect is asked until it shows all of them."""
    failed = task_run("a", 2, Failed())
    other = done("b", 9)
    asked = shown(
        [],
        [other],
        [other, done("a", 3)],
        [other, done("a", 3), done("a", 1), task_run("a", 2, Running())],
        [other, done("a", 3), done("a", 1), failed],
    )
    assert all_returned(RUN, "a", noted("a", 3, 1, 3)) == [1, 3]
    assert len(asked) == 5


def test_a_server_that_is_behind_is_told(shown: Callable[..., list[int]]) -> None:
    """A list with something missing is never returned."""
    shown([done("a", 1)])
    with pytest.raises(ConnectionFailedError, match=r"ran 3 times, .* shows 1 as"):
        all_returned(RUN, "a", noted("a", 3, 1, 2))


def test_of_a_run_elsewhere_all_that_comes_to_light_counts(
    shown: Callable[..., list[int]],
) -> None:
    """Until nothing more comes; what still runs is waited for."""
    first, last, ending = done("a", 1), done("a", 4), task_run("a", 2, Running())
    shown(
        [],
        *[[first]] * 5,
        *[[first, ending]] * 9,
        *[[first, done("a", 2)]] * 5,
        [last, first, done("a", 2)],
    )
    assert all_returned(RUN, "a") == [1, 2, 4]


@pytest.mark.parametrize("here", [None, noted("b", 1, 1)])
def test_an_unknown_task_names_those_that_ran(
    shown: Callable[..., list[int]], here: Noted | None
) -> None:
    """Tasks that failed are among them: their names are right."""
    shown([done("b", 1), task_run("c", 2, Failed())])
    with pytest.raises(NotFoundError, match="Known: 'b', 'c'") as caught:
        all_returned(RUN, "bb", here)
    assert "leave task_name out" in str(caught.value)
