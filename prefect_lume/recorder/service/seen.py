"""Which events were recorded lately, and how many in each second."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from prefect_lume.recorder.service.events import Event, occurred

_REMEMBERED: Final = 50_000


class SeenEvents:
    """Remembers events, so that few are recorded twice and none is missed.

    How many there were in a second is compared with what the server says; where it
    says something else, that second is read again. To have forgotten an event only
    costs work.

    Args:
        size: How many ids are remembered at most.
    """

    def __init__(self, size: int = _REMEMBERED) -> None:
        self._size = size
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._counts: dict[int, int] = {}

    def new(self, events: Iterable[Event]) -> list[Event]:
        """Return the events that are not remembered."""
        return [event for event in events if event["id"] not in self._ids]

    def add(self, events: Iterable[Event]) -> None:
        """Remember events that have been recorded."""
        for event in events:
            id_ = event["id"]
            if id_ in self._ids:
                self._ids.move_to_end(id_)
                continue
            self._ids[id_] = None
            second = second_of(occurred(event))
            self._counts[second] = self._counts.get(second, 0) + 1
        while len(self._ids) > self._size:
            self._ids.popitem(last=False)

    def count(self, since: int, until: int | None) -> int:
        """Return how many were counted from a second on, before another one."""
        return sum(
            number
            for second, number in self._counts.items()
            if since <= second and (until is None or second < until)
        )

    def correct(self, since: int, until: int | None, counts: dict[int, int]) -> None:
        """Take the counts of a stretch of time from what was just read of it."""
        self.forget(since, until)
        self._counts.update(counts)

    def forget(self, since: int | None, until: int | None) -> None:
        """Forget the counts of a stretch of time."""
        for second in [
            second
            for second in self._counts
            if (since is None or since <= second) and (until is None or second < until)
        ]:
            del self._counts[second]

    @property
    def last(self) -> int | None:
        """The last second of which an event was counted."""
        return max(self._counts, default=None)


def second_of(time: datetime) -> int:
    """Return the number of the second that a time lies in."""
    return math.floor(time.timestamp())


def time_of(second: int) -> datetime:
    """Return when a second begins."""
    return datetime.fromtimestamp(second, UTC)
