"""Codecs of dates, times and durations."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefect_lume.results.codecs.base import Codec, Fields, refusal
from prefect_lume.results.codecs.base import Path as Place

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder

_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(/[A-Za-z0-9_+-]{1,30}){0,3}")
_DAY: Final = 86_400


def utc_text(moment: datetime) -> str:
    """Return a moment as sortable text of fixed width, in UTC.

    A naive datetime is taken as it stands.

    Example:
        >>> utc_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
        '2026-01-02T03:04:05.000000Z'
    """
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    plain = moment.replace(tzinfo=None, fold=0)
    return plain.isoformat(timespec="microseconds") + "Z"


def parse_utc(text: str) -> datetime:
    """Return the moment of :func:`utc_text`.

    Raises:
        ValueError: The text is not of that form.
    """
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    if utc_text(moment) != text:
        raise ValueError(f"{text[:40]!r} is no UTC time of fixed width")
    return moment


def zone_name(zone: tzinfo | None) -> str | None:
    """Return the IANA name of a zone, or ``None`` if it has none."""
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    return name if isinstance(name, str) and _ZONE.fullmatch(name) else None


def find_zone(name: str) -> tzinfo | None:
    """Return the zone of an IANA name, or ``None`` if this machine has no such."""
    if not _ZONE.fullmatch(name):
        raise ValueError(f"{name[:40]!r} is no name of a time zone")
    try:
        return zoneinfo.ZoneInfo(name) if _is_known(name) else None
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        return None


@lru_cache(maxsize=256)
def _is_known(name: str) -> bool:
    """Tell whether this machine has a zone.

    ZoneInfo is not asked, for it imports ``tzdata.zoneinfo.<part of the name>``.
    """
    installed = any(Path(folder, name).is_file() for folder in zoneinfo.TZPATH)
    return installed or name in _packaged_zones()


@cache
def _packaged_zones() -> frozenset[str]:
    """Return the names of the zones that the package ``tzdata`` has, if it is there."""
    try:
        text = (resources.files("tzdata") / "zones").read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        return frozenset()
    return frozenset(text.split())


class DatetimeCodec(Codec):
    """A datetime with its zone, and a UTC text that sorts."""

    name = "datetime"

    def encode(self, value: Any, encoder: Encoder, path: Place, depth: int) -> Any:
        offset = value.utcoffset()
        plain = value.replace(tzinfo=None, fold=0)
        wall = plain.isoformat(timespec="microseconds")
        fold = {"fold": 1} if value.fold else {}
        if offset is None:
            return self.envelope(value=wall, utc=wall + "Z", naive=True, **fold)
        try:
            utc = utc_text(value)
        except OverflowError as exc:
            raise refusal(
                path, "the datetime lies outside the years 1 to 9999 in UTC."
            ) from exc
        zone = zone_name(value.tzinfo)
        named = {"zone": zone} if zone else {}
        return self.envelope(
            value=wall, utc=utc, offset=offset_seconds(offset), **named, **fold
        )

    def decode(self, fields: Fields, decoder: Decoder) -> datetime:
        wall = parse_utc(fields.text("value") + "Z").replace(
            tzinfo=None, fold=int(fields.has("fold"))
        )
        if fields.boolean("naive"):
            return wall
        utc = parse_utc(fields.text("utc"))
        fixed = wall.replace(tzinfo=fixed_zone(fields.tree("offset")))
        if utc_text(fixed) != utc_text(utc):
            raise fields.error(
                "has 'value', 'offset' and 'utc' that contradict each other"
            )
        if not fields.has("zone"):
            return fixed
        zone = find_zone(fields.text("zone"))
        if zone is None:
            return fixed
        zoned = wall.replace(tzinfo=zone)
        if zoned.utcoffset() == fixed.utcoffset():
            return zoned
        return utc.astimezone(zone)


class DateCodec(Codec):
    """A date."""

    name = "date"

    def encode(self, value: Any, encoder: Encoder, path: Place, depth: int) -> Any:
        return self.envelope(value=value.isoformat())

    def decode(self, fields: Fields, decoder: Decoder) -> date:
        text = fields.text("value")
        if len(text) != len("YYYY-MM-DD"):
            raise fields.error("needs a date such as '2026-01-31' as 'value'")
        return date.fromisoformat(text)


class TimeCodec(Codec):
    """A time of day, naive, with a fixed offset, or with a zone's name."""

    name = "time"

    def encode(self, value: Any, encoder: Encoder, path: Place, depth: int) -> Any:
        fields: dict[str, Any] = {
            "value": value.replace(tzinfo=None, fold=0).isoformat("microseconds")
        }
        if value.fold:
            fields["fold"] = 1
        if value.tzinfo is not None:
            zone, offset = zone_name(value.tzinfo), value.utcoffset()
            if zone is not None:
                fields["zone"] = zone
            elif offset is not None:
                fields["offset"] = offset_seconds(offset)
            else:
                raise refusal(
                    path,
                    "the time's zone has neither a name nor a fixed offset. Use a "
                    "zoneinfo.ZoneInfo or a datetime.timezone.",
                )
        return self.envelope(**fields)

    def decode(self, fields: Fields, decoder: Decoder) -> time:
        text = fields.text("value")
        if len(text) != len("HH:MM:SS.ffffff"):
            raise fields.error("needs a time such as '12:30:00.000000' as 'value'")
        moment = time.fromisoformat(text).replace(fold=int(fields.has("fold")))
        if fields.has("zone"):
            zone = find_zone(fields.text("zone"))
            if zone is None:
                raise fields.error(
                    f"names the zone {fields.text('zone')!r}, which this machine "
                    "does not know. Install the package 'tzdata'"
                )
            return moment.replace(tzinfo=zone)
        if fields.has("offset"):
            return moment.replace(tzinfo=fixed_zone(fields.tree("offset")))
        return moment


class TimedeltaCodec(Codec):
    """A duration, as days, seconds and microseconds."""

    name = "timedelta"

    def encode(self, value: Any, encoder: Encoder, path: Place, depth: int) -> Any:
        return self.envelope(
            days=value.days, seconds=value.seconds, microseconds=value.microseconds
        )

    def decode(self, fields: Fields, decoder: Decoder) -> timedelta:
        return timedelta(
            days=fields.integer("days", -999_999_999, 999_999_999),
            seconds=fields.integer("seconds", 0, _DAY - 1),
            microseconds=fields.integer("microseconds", 0, 999_999),
        )


def offset_seconds(offset: timedelta) -> int | float:
    """Return an offset from UTC in seconds."""
    seconds = offset.total_seconds()
    return int(seconds) if seconds == int(seconds) else seconds


def fixed_zone(offset: Any) -> timezone:
    """Return the zone of a stored offset from UTC in seconds.

    Raises:
        TypeError: It is no number.
        ValueError: It is a day or more.
    """
    if not isinstance(offset, int | float) or isinstance(offset, bool):
        raise TypeError("'offset' is a number of seconds")
    if not -_DAY < offset < _DAY:
        raise ValueError("'offset' is less than a day")
    return UTC if offset == 0 else timezone(timedelta(seconds=offset))


_DATETIME, _DATE, _TIME = DatetimeCodec(), DateCodec(), TimeCodec()
_TIMEDELTA = TimedeltaCodec()

CODECS: Final = (_DATETIME, _DATE, _TIME, _TIMEDELTA)
TYPES: Final[Mapping[type, Codec]] = {
    datetime: _DATETIME,
    date: _DATE,
    time: _TIME,
    timedelta: _TIMEDELTA,
}
NAMES: Final[Mapping[str, Codec]] = {}
