"""Reading and following events: none is missed, whatever happens meanwhile."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_lume.recorder.service.ahead import in_batches, read_ahead
from prefect_lume.recorder.service.events import BEGINNING, END, EventReader
from prefect_lume.recorder.service.following import EventFollower
from prefect_lume.recorder.service.seen import SeenEvents
from prefect_lume.testing.generated_events import generated_events

NOW = datetime.now(UTC)


def ids(events: Any) -> set[str]:
    return {event["id"] for event in events}


def read_all(reader: EventReader) -> list[dict[str, Any]]:
    return [event for page in reader.read(BEGINNING, END) for event in page]


def test_all_pages_are_read_in_order(event_server) -> None:
    """What is read is all that there is, each once, the oldest first."""
    event_server.events = list(generated_events(4, 20))
    found = read_all(EventReader(event_server))
    assert [event["id"] for event in found] == [e["id"] for e in event_server.events]


def test_what_is_removed_while_pages_are_read_hides_nothing(event_server) -> None:
    """Retention removes the oldest events, so that the numbers of pages shift."""
    events = list(generated_events(4, 20))
    event_server.events = list(events)

    def remove(number: int) -> None:
        if number == 3:
            del event_server.events[:30]

    event_server.before_answer = remove
    found = read_all(EventReader(event_server))
    assert ids(found) == ids(events)


def test_the_first_moment_is_read_and_the_last_is_not(event_server) -> None:
    """Stretches of time that follow each other share no event."""
    event_server.events = list(generated_events(1, 20, start=NOW, per_second=1))
    reader = EventReader(event_server)
    middle = NOW + timedelta(seconds=10)
    assert reader.count(BEGINNING, middle) == 10
    assert reader.count(middle, END) == 53


class Recorded:
    """Takes events, and fails when it is told to."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.sizes: list[int] = []
        self.fails = 0

    def __call__(self, events: list[dict[str, Any]]) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the storage is down")
        self.ids += [event["id"] for event in events]
        self.sizes.append(len(events))


def follow(server: Any, start: datetime, **options: Any) -> tuple[Any, Recorded]:
    recorded = Recorded()
    reader = EventReader(server)
    return EventFollower(reader, start, recorded, **options), recorded


def catch_up(follower: EventFollower) -> int:
    rounds = 0
    follower.is_behind = True
    while follower.is_behind:
        follower.forward()
        rounds += 1
    return rounds


def test_a_long_time_is_read_in_stretches_of_few_events(event_server) -> None:
    """The server never has to skip more than so many events, and nothing is lost."""
    events = list(generated_events(20, 33, per_second=1))
    event_server.events = events
    start = datetime.fromisoformat(events[0]["occurred"]) - timedelta(days=3)
    follower, recorded = follow(event_server, start, most=200, batch=100)
    catch_up(follower)
    assert len(recorded.ids) == len(events)
    assert ids(events) == set(recorded.ids)
    assert max(recorded.sizes) < 200


def test_what_could_not_be_stored_is_read_again(event_server) -> None:
    """The follower stands where it was until what it read is stored."""
    events = list(generated_events(3, 33))
    event_server.events = events
    start = datetime.fromisoformat(events[0]["occurred"])
    follower, recorded = follow(event_server, start, batch=50)
    recorded.fails = 3
    for _ in range(3):
        with pytest.raises(ConnectionError):
            catch_up(follower)
    catch_up(follower)
    assert ids(events) == set(recorded.ids)


def test_late_events_are_found_by_their_number(event_server) -> None:
    """Events that arrive long after others of the same time are recorded, once."""
    events = list(generated_events(10, 33, per_second=20))
    late = random.Random(1).sample(events, 100)
    event_server.events = [e for e in events if e["id"] not in ids(late)]
    start = datetime.fromisoformat(events[0]["occurred"])
    follower, recorded = follow(event_server, start)
    catch_up(follower)
    event_server.events = events
    catch_up(follower)
    follower.late(timedelta(minutes=5))
    assert sorted(recorded.ids) == sorted(ids(events))


def test_where_nothing_is_late_one_question_is_enough(event_server) -> None:
    """To look for late events costs one request, however many events there were."""
    event_server.events = list(generated_events(10, 33, per_second=50))
    start = datetime.fromisoformat(event_server.events[0]["occurred"])
    follower, _ = follow(event_server, start)
    catch_up(follower)
    before = len(event_server.requests)
    follower.late(timedelta(minutes=5))
    assert follower.is_idle()
    assert len(event_server.requests) == before + 2


def test_clocks_that_are_ahead_do_not_hide_the_others(event_server) -> None:
    """An event from the future is recorded, and so is what occurs before it."""
    early, first, second = (
        list(generated_events(1, 5, seed=5 + n, start=NOW + n * timedelta(hours=1)))
        for n in (1, -1, 0)
    )
    event_server.events = early + first
    follower, recorded = follow(event_server, NOW - timedelta(hours=2))
    catch_up(follower)
    follower.early()
    assert set(recorded.ids) == ids(early + first)
    event_server.events += second
    catch_up(follower)
    follower.early()
    assert set(recorded.ids) == ids(early + first + second)


def test_a_forgotten_event_is_only_recorded_again() -> None:
    """The memory of what was recorded is bounded; what it lacks counts as new."""
    events = list(generated_events(1, 33))
    seen = SeenEvents(size=10)
    seen.add(events)
    assert len(seen.new(events)) == len(events) - 10
    assert seen.count(0, None) == len(events)


def test_what_fails_while_reading_ahead_is_raised_to_the_reader() -> None:
    """All that came before the failure is yielded first."""

    def pages():
        yield [1]
        yield [2]
        raise ConnectionError("gone")

    found = []
    with pytest.raises(ConnectionError):
        found.extend(iter(read_ahead(pages(), 4)))
    assert found == [[1], [2]]


def test_reading_ahead_holds_no_more_than_it_may() -> None:
    """The other thread waits when nobody takes what it has."""
    made: list[int] = []

    def numbers():
        for number in range(1_000):
            made.append(number)
            yield number

    ahead = read_ahead(numbers(), 3)
    assert next(ahead) == 0
    ahead.close()
    assert len(made) <= 6


def test_batches_hold_whole_pages() -> None:
    """A batch is handed over as soon as it is large enough."""
    assert list(in_batches([[1], [2, 3], [4]], 2)) == [[1, 2, 3], [4]]
