"""The recorder's service: it goes on after every failure, and where it was."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from prefect_lume.errors import ConnectionFailedError, InvalidInputError
from prefect_lume.pipelines.changes import Batch
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.service.pacing import Every, Outage
from prefect_lume.recorder.service.recorder import RecorderService
from prefect_lume.testing.generated_events import generated_events


class Storage(MemoryPipelineResultsStorage):
    """A storage that refuses what it is told to refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.down = 0
        self.refused: set[str] = set()
        self.largest = 0

    def record(self, batch: Batch) -> int:
        self.largest = max(self.largest, len(batch))
        if self.down:
            self.down -= 1
            raise ConnectionFailedError("It is down.")
        if self.refused & {change.id for change in batch.changes}:
            raise InvalidInputError("A name is too long.")
        return super().record(batch)


def make_service(server: Any, storage: Any, **options: Any) -> RecorderService:
    directory = FlowRunDirectory(server)
    options = {"poll": 0.01, "reconcile_every": None} | options
    return RecorderService(server, storage, directory, source="here", **options)


def run_until(service: RecorderService, done: Any, patience: float = 20.0) -> None:
    """Run a service in a thread until something holds."""
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    deadline = threading.Event()
    for _ in range(int(patience / 0.02)):
        if done():
            break
        deadline.wait(0.02)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert done()


@pytest.fixture
def storage() -> Storage:
    return Storage()


def test_the_first_start_records_all_that_the_server_has(event_server, storage) -> None:
    """Without a position the oldest event is the beginning."""
    event_server.events = list(generated_events(5, 40, per_second=1))
    service = make_service(event_server, storage, batch=100)
    service.run_once()
    assert storage.count_states() == len(event_server.events)
    assert service.statistics.recorded == len(event_server.events)
    assert {row.status for row in storage.find(Kind.EXECUTION)} == {"DONE"}


def test_a_new_service_goes_on_where_the_last_one_stopped(
    event_server, storage
) -> None:
    """What came while none ran is recorded, and little is read twice."""
    first = list(generated_events(5, 40, per_second=1, seed=1))
    event_server.events = list(first)
    make_service(event_server, storage).run_once()
    position = storage.get_position("here")
    assert position is not None
    second = list(generated_events(1, 40, seed=2))
    event_server.events += second
    service = make_service(event_server, storage)
    service.run_once()
    assert storage.count_states() == len(first) + len(second)
    assert service.statistics.recorded == len(second)
    assert service.statistics.read < len(second) + 200


def test_nothing_is_lost_while_the_storage_is_down(
    event_server, storage, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, tried again, and nothing more is read meanwhile."""
    event_server.events = list(generated_events(5, 40))
    storage.down = 3
    service = make_service(event_server, storage, batch=100, pauses=(0.01, 0.1))
    with caplog.at_level(logging.WARNING):
        run_until(service, lambda: storage.count_states() == len(event_server.events))
    told = [record.getMessage() for record in caplog.records]
    assert sum("cannot be used: It is down." in line for line in told) == 1
    assert sum("can be used again" in line for line in told) == 1


def test_nothing_is_lost_while_the_server_is_away(
    event_server, storage, caplog: pytest.LogCaptureFixture
) -> None:
    """Any request may fail, at any moment."""
    event_server.events = list(generated_events(5, 40))

    def fail(number: int) -> None:
        if number % 3 == 0 and number < 60:
            raise httpx.ConnectError("refused")

    event_server.before_answer = fail
    service = make_service(event_server, storage, batch=100, pauses=(0.001, 0.01))
    run_until(service, lambda: storage.count_states() == len(event_server.events))


def test_what_the_storage_refuses_does_not_hold_up_the_rest(
    event_server, storage, caplog: pytest.LogCaptureFixture
) -> None:
    """The bad events are found, left out and named; all others are recorded."""
    events = list(generated_events(5, 40))
    event_server.events = events
    bad = {events[7]["id"], events[300]["id"]}
    storage.refused = bad
    service = make_service(event_server, storage)
    while service.is_behind:
        service.step()
    assert storage.count_states() == len(events) - 2
    assert service.statistics.refused == 2
    assert all(any(id_ in r.getMessage() for r in caplog.records) for id_ in bad)


def test_the_position_is_never_ahead_of_what_is_stored(event_server, storage) -> None:
    """Should the storage fail for ever, the next service reads all of it again."""
    event_server.events = list(generated_events(5, 40, per_second=100))
    storage.down = 10**6
    service = make_service(event_server, storage, batch=50)
    with pytest.raises(ConnectionFailedError):
        service.run_once()
    position = storage.get_position("here")
    first = datetime.fromisoformat(event_server.events[0]["occurred"])
    assert position is None or position <= first


def test_events_that_anybody_may_have_sent_do_no_harm(event_server, storage) -> None:
    """Names like Prefect's with something else in them are left out."""
    events = list(generated_events(1, 5))
    strange = [
        {**events[0], "id": f"0-{n}", "payload": {"validated_state": state}}
        for n, state in enumerate(["x", [], 7, {"type": "NO"}, {"type": None}])
    ]
    event_server.events = events + strange
    make_service(event_server, storage).run_once()
    assert storage.count_states() == len(events)


def test_an_idle_server_is_asked_one_small_question(event_server, storage) -> None:
    """Without news, a round is one request for a number."""
    event_server.events = list(generated_events(1, 5))
    service = make_service(event_server, storage)
    for _ in range(3):
        service.step()
    before = len(event_server.requests)
    service.step()
    ((path, body),) = event_server.requests[before:]
    assert (path, body["limit"]) == ("/events/filter", 0)


def test_since_reads_again_from_then_on(event_server, storage) -> None:
    """The position is left aside; what is older is not read."""
    events = list(generated_events(2, 40, per_second=1))
    event_server.events = events
    since = datetime.now(UTC) - timedelta(seconds=100)
    service = make_service(event_server, storage, since=since)
    service.run_once()
    expected = [e for e in events if datetime.fromisoformat(e["occurred"]) >= since]
    assert storage.count_states() == len(expected)


def test_a_time_without_a_zone_is_refused(event_server, storage) -> None:
    """It could mean any."""
    with pytest.raises(InvalidInputError, match="zone"):
        make_service(event_server, storage, since=datetime(2026, 1, 1))  # noqa: DTZ001


def test_an_outage_is_tried_again_ever_more_rarely() -> None:
    """The pauses grow to the longest one and begin anew after a success."""
    outage = Outage(shortest=1.0, longest=8.0)
    pauses = [outage.failed("It", ValueError("x")) for _ in range(6)]
    assert pauses[0] < 1.3
    assert 6.0 <= pauses[-1] <= 10.0
    outage.over()
    assert not outage.is_on
    assert outage.failed("It", ValueError("x")) < 1.3


def test_what_is_due_now_and_then() -> None:
    """It is due after its time, and not again until that has passed once more."""
    now = [0.0]
    every = Every(10, clock=lambda: now[0])
    assert not every.is_due()
    now[0] = 10.0
    assert every.is_due()
    every.done()
    assert not every.is_due()
    assert not Every(None).is_due()
