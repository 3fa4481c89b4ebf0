"""Reading what a Prefect server has of events, a stretch of time after the other."""

from __future__ import annotations

import email.utils
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from prefect_lume.recorder.api.lookups import ask
from prefect_lume.recorder.translation.translating import (
    FLOW_RUN_EVENTS,
    TASK_RUN_EVENTS,
)

if TYPE_CHECKING:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)

Event = dict[str, Any]

#: How the names of the events begin that a recorder needs.
PREFIXES: Final = (FLOW_RUN_EVENTS, TASK_RUN_EVENTS)
#: Prefect returns no more events at once.
PAGE_SIZE: Final = 50
#: Longer stretches are cut: the server skips what lies before a page, one by one.
MOST_EVENTS: Final = 5_000
#: Before and after every event, as far as a server's database can tell.
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 1, 1, tzinfo=UTC)

_INSTANT: Final = timedelta(microseconds=1)
_ATTEMPTS: Final = 4


class EventReader:
    """Reads the events of a Prefect server.

    Args:
        client: A client of the server.
        prefixes: How the names of the events begin that are read.
    """

    def __init__(
        self, client: SyncPrefectClient, prefixes: Sequence[str] = PREFIXES
    ) -> None:
        self._client = client
        self._prefixes = list(prefixes)
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the time by the server's clock, as told with its last answer."""
        return datetime.now(UTC) + self._ahead

    def count(self, since: datetime, until: datetime) -> int:
        """Return how many events occurred from ``since`` on and before ``until``."""
        return Window(self, since, until, limit=0).total

    def first(self) -> datetime | None:
        """Return when the oldest event occurred that the server still has."""
        events = Window(self, BEGINNING, END, limit=1).first_page
        return occurred(events[0]) if events else None

    def open(self, since: datetime, until: datetime) -> Window:
        """Read the first page of what occurred from ``since`` on, before ``until``."""
        return Window(self, since, until)

    def read(self, since: datetime, until: datetime) -> Iterator[list[Event]]:
        """Yield all events of a stretch of time, page by page, the oldest first."""
        return self.open(since, until).pages()

    def ask(
        self, since: datetime, until: datetime, limit: int = PAGE_SIZE
    ) -> dict[str, Any]:
        """Return the server's answer with the first events of a stretch of time."""
        # The last moment belongs to what Prefect returns.
        occurred = {
            "since": since.isoformat(),
            "until": (until - _INSTANT).isoformat(),
        }
        body = {
            "filter": {
                "event": {"prefix": self._prefixes},
                "occurred": occurred,
                "order": "ASC",
            },
            "limit": limit,
        }
        response = ask(self._client, "POST", "/events/filter", json=body)
        return self._taken(response)

    def ask_further(self, url: str) -> dict[str, Any]:
        """Return the server's answer with the events after those of another answer.

        Args:
            url: Where they are, as the other answer says.
        """
        # Behind a proxy the server may not know the address under which it is asked.
        token = parse_qs(urlsplit(url).query)["page-token"][0]
        path = "/events/filter/next"
        response = ask(self._client, "GET", path, params={"page-token": token})
        return self._taken(response)

    def _taken(self, response: httpx.Response) -> dict[str, Any]:
        told = response.headers.get("date")
        if told:
            self._ahead = email.utils.parsedate_to_datetime(told) - datetime.now(UTC)
        document: dict[str, Any] = response.json()
        return document


class Window:
    """The events of one stretch of time, of which the first page has been read.

    Attributes:
        total: How many events it had.
        first_page: The oldest of them.
    """

    def __init__(
        self,
        reader: EventReader,
        since: datetime,
        until: datetime,
        limit: int = PAGE_SIZE,
    ) -> None:
        self.since, self.until = since, until
        self._reader, self._limit = reader, limit
        self._open()

    def _open(self) -> None:
        answer = self._reader.ask(self.since, self.until, self._limit)
        self.total: int = answer["total"]
        self.first_page: list[Event] = answer["events"]
        self._next: str | None = answer["next_page"]

    def pages(self) -> Iterator[list[Event]]:
        """Yield all pages; events may come twice, but none is left out.

        The server numbers what it returns. Where events are removed or added
        meanwhile, or occurred at the same moment, a number may be another event's in
        the next page: then fewer events come than there were, and all is read again.
        """
        ids: set[str] = set()
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._open()
            these: set[str] = set()
            for page in self._pages():
                these.update(event["id"] for event in page)
                yield page
            ids |= these
            if len(these) >= self.total or (attempt and len(ids) >= self.total):
                return
        # While events come that occurred before others: they are counted again later.
        logger.info(
            "Of %d events between %s and %s %d could be read.",
            self.total,
            self.since,
            self.until,
            len(ids),
        )

    def _pages(self) -> Iterator[list[Event]]:
        if self.first_page:
            yield self.first_page
        while self._next is not None:
            answer = self._reader.ask_further(self._next)
            self._next = answer["next_page"]
            if answer["events"]:
                yield answer["events"]


def occurred(event: Event) -> datetime:
    """Return when an event occurred.

    Example:
        >>> occurred({"occurred": "2026-05-01T10:00:00Z"}).isoformat()
        '2026-05-01T10:00:00+00:00'
    """
    return datetime.fromisoformat(event["occurred"])
