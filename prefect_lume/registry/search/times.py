"""Dates in filters: a day, a moment, or so long ago."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_MOMENT: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[Tt ]"
    r"(?P<time>(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?)"
    r"(?P<zone>[Zz]|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?\Z",
    re.ASCII,
)
_AGO: Final = re.compile(
    r"(?P<many>\d{1,6}) (?P<unit>second|minute|hour|day|week)s? ago\Z",
    re.ASCII | re.IGNORECASE,
)
_LAST: Final = timedelta(days=1) - timedelta(microseconds=1)
ALLOWED: Final = (
    "Allowed are a day in UTC ('2026-11-28'), a moment with Z or an offset "
    "('2026-11-28T09:30:00Z', '2026-11-28T10:30:00+01:00'), now, and '7 days ago'."
)


@dataclass(frozen=True)
class Span:
    """From the first to the last microsecond of what is written, both included."""

    first: datetime
    last: datetime


@dataclass(frozen=True)
class Ago:
    """A moment before the search."""

    before: timedelta

    def at(self, now: datetime) -> Span:
        """Return the moment; the earliest there is if it would be before that."""
        try:
            moment = now - self.before
        except OverflowError:
            moment = datetime.min.replace(tzinfo=UTC)
        return Span(moment, moment)


When = Span | Ago


def read(text: str) -> When:
    """Return the time that a text means.

    Raises:
        ValueError: It means none; the message says why.

    Example:
        >>> read("2026-03-29").last.isoformat()
        '2026-03-29T23:59:59.999999+00:00'
        >>> read("2026-03-29T02:30+01:00").first.isoformat()
        '2026-03-29T01:30:00+00:00'
    """
    ago = _AGO.match(text)
    if ago:
        unit = f"{ago['unit'].lower()}s"
        return Ago(timedelta(**{unit: int(ago["many"])}))
    if text.lower() == "now":
        return Ago(timedelta())
    if _DAY.match(text):
        start = _made(text, "00:00", "+00:00")
        return Span(start, start + _LAST)
    moment = _MOMENT.match(text)
    if not moment:
        raise ValueError(f"is no date. {ALLOWED}")
    if not moment["zone"]:
        raise ValueError(
            "is a time without a zone, which is another moment in each place. Add Z "
            f"for UTC, or an offset: '{text}Z', '{text}+01:00'."
        )
    exact = _made(moment["day"], moment["time"], moment["zone"])
    return Span(exact, exact)


def _made(day: str, time: str, zone: str) -> datetime:
    try:
        found = datetime.fromisoformat(f"{day}T{time}{zone.upper()}").astimezone(UTC)
    except (ValueError, OverflowError):
        message = f"is no date of the calendar from year 1 to 9999. {ALLOWED}"
        raise ValueError(message) from None
    return found
