"""Following the events of a server as they come, late ones included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from prefect_lume.recorder.service.ahead import in_batches, read_ahead
from prefect_lume.recorder.service.events import (
    END,
    MOST_EVENTS,
    PAGE_SIZE,
    Event,
    EventReader,
    Window,
    occurred,
)
from prefect_lume.recorder.service.seen import SeenEvents, second_of, time_of

#: How far back is looked for late events after each new one, and how often further.
NEAR: Final = timedelta(seconds=3)
#: No further back is counted.
FAR_BACK: Final = timedelta(minutes=15)
#: Clocks of those who report may be ahead by so much; what is more so is read later.
AHEAD: Final = timedelta(seconds=5)
_SHORTEST: Final = timedelta(milliseconds=1)
_FIRST_WIDTH: Final = timedelta(minutes=1)
_WIDEST: Final = timedelta(days=365)
#: So few events are read rather than looked for.
_FEW: Final = 200


class EventFollower:
    """Reads on from where it was, and counts what it read against the server.

    It stands where it was until what it read is recorded: nothing is lost if that
    fails.

    Args:
        reader: Reads the events.
        start: Where to begin.
        store: Records events; raises if it cannot.
        batch: How many events are recorded together, if there are so many.
        most: How many events a stretch of time may have before it is cut.

    Attributes:
        cursor: All that had come was recorded up to here.
        is_behind: There is more to read at once.
    """

    def __init__(
        self,
        reader: EventReader,
        start: datetime,
        store: Callable[[list[Event]], object],
        *,
        batch: int = 1_000,
        most: int = MOST_EVENTS,
    ) -> None:
        self.cursor = start
        self.is_behind = True
        self._reader = reader
        self._store = store
        self._batch = batch
        self._start = second_of(start)
        self._seen = SeenEvents()
        self._width = _FIRST_WIDTH
        self._most = most

    def forward(self) -> None:
        """Record the new events of the next stretch of time."""
        now = self._reader.now()
        horizon = now + AHEAD
        window = self._next_window(horizon)
        newest = self._take(window) or self.cursor
        self.is_behind = window.until < horizon
        # Later ones than the server's time are no measure of what has been read.
        reached = window.until if self.is_behind else min(newest, now)
        self.cursor = max(self.cursor, reached)
        self._seen.forget(None, second_of(self.cursor - FAR_BACK) - 1)
        if window.total < self._most // 4:
            self._width = min(self._width * 4, _WIDEST)

    def is_idle(self) -> bool:
        """Tell whether nothing has come since, by one question that costs little."""
        since = max(self._start, second_of(self.cursor - NEAR))
        until = second_of(self._reader.now() + AHEAD)
        total = self._reader.count(time_of(since), time_of(until))
        return total == self._seen.count(since, until)

    def late(self, back: timedelta, *, to_the_end: bool = True) -> None:
        """Record what has come late, within so long back.

        Args:
            back: How long.
            to_the_end: Look through the second that is just being read, too.
        """
        since = max(self._start, second_of(self.cursor - back))
        self._compare(since, second_of(self.cursor) + int(to_the_end))

    def early(self) -> None:
        """Record what those have sent whose clocks are far ahead."""
        since = max(self._start, second_of(self._reader.now() + AHEAD))
        self._compare(since, None)

    def _take(
        self, window: Window, look: Callable[[list[Event]], object] | None = None
    ) -> datetime | None:
        """Record what is new in a stretch of time; return when the last occurred."""
        pages: Iterable[list[Event]] = window.pages()
        if window.total > 2 * PAGE_SIZE:
            pages = read_ahead(pages, 2 * self._batch // PAGE_SIZE)
        newest: datetime | None = None
        for events in in_batches(pages, self._batch):
            last = max(map(occurred, events))
            newest = last if newest is None else max(newest, last)
            new = self._seen.new(events)
            if new:
                self._store(new)
                self._seen.add(new)
            if look is not None:
                look(events)
        return newest

    def _next_window(self, horizon: datetime) -> Window:
        while True:
            until = horizon
            if horizon - self.cursor > self._width:
                until = self.cursor + self._width
            until = max(until, self.cursor + _SHORTEST)
            window = self._reader.open(self.cursor, until)
            width = until - self.cursor
            if window.total <= self._most or width <= _SHORTEST:
                return window
            smaller = width * (self._most / (2 * window.total))
            self._width = max(_SHORTEST, smaller)

    def _compare(self, since: int, until: int | None) -> None:
        """Record what the server has and is not counted, halving where they differ."""
        if until is not None and since >= until:
            return
        end = END if until is None else time_of(until)
        total = self._reader.count(time_of(since), end)
        if total == self._seen.count(since, until):
            return
        last = self._seen.last
        middle: int | None = None
        if total > _FEW and until is None and last is not None and last >= since:
            middle = last + 1
        elif total > _FEW and until is not None and until - since > 1:
            middle = (since + until) // 2
        if middle is not None:
            self._compare(since, middle)
            self._compare(middle, until)
            return
        times: dict[str, int] = {}
        self._take(
            self._reader.open(time_of(since), end),
            lambda events: times.update(
                (event["id"], second_of(occurred(event))) for event in events
            ),
        )
        self._seen.correct(since, until, Counter(times.values()))
