"""Codecs of pandas' own scalars: moments and durations, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._optional import require
from prefect_lume.results.codecs.base import Codec, Fields, Path, refusal
from prefect_lume.results.codecs.times import (
    find_zone,
    fixed_zone,
    offset_seconds,
    utc_text,
    zone_name,
)

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder

_UNITS: Final = frozenset({"s", "ms", "us", "ns"})


class TimestampCodec(Codec):
    """A pandas Timestamp: a count of its unit, since 1970 in UTC if it is zoned."""

    name = "pandas-timestamp"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        moment = value.to_pydatetime(warn=False)
        fields: dict[str, Any] = {}
        if value.tzinfo is None:
            fields["naive"] = True
        elif (name := zone_name(value.tzinfo)) is not None:
            fields["zone"] = name
        else:
            offset = value.utcoffset()
            if offset is None:
                raise refusal(
                    path, "the time's zone has no offset. Use a zoneinfo.ZoneInfo."
                )
            fields["offset"] = offset_seconds(offset)
        count = value.tz_convert(None) if value.tzinfo is not None else value
        return self.envelope(
            value=int(count.to_datetime64().view("<i8")),
            unit=value.unit,
            utc=utc_text(moment),
            **fields,
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        pandas, numpy = require("pandas", "Loading this time"), require("numpy")
        unit = _unit(fields)
        count = numpy.array(fields.integer("value"), "<i8").view(f"<M8[{unit}]")[()]
        moment = pandas.Timestamp(count)
        if fields.boolean("naive"):
            return moment
        if fields.has("zone"):
            zone = find_zone(fields.text("zone"))
        else:
            zone = fixed_zone(fields.tree("offset"))
        return moment.tz_localize("UTC").tz_convert(zone or "UTC")


class TimedeltaValueCodec(Codec):
    """A pandas Timedelta: a count of its unit."""

    name = "pandas-timedelta"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        count = int(value.to_timedelta64().view("<i8"))
        return self.envelope(value=count, unit=value.unit)

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        pandas, numpy = require("pandas", "Loading this duration"), require("numpy")
        unit = _unit(fields)
        count = numpy.array(fields.integer("value"), "<i8").view(f"<m8[{unit}]")[()]
        return pandas.Timedelta(count)


class MissingCodec(Codec):
    """pandas' ``NaT`` and ``NA``."""

    name = "pandas-missing"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        missing = "NaT" if type(value).__name__ == "NaTType" else "NA"
        return self.envelope(value=missing)

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        name = fields.text("value")
        if name not in {"NaT", "NA"}:
            raise fields.error("needs 'NaT' or 'NA' as 'value'")
        return getattr(require("pandas", "Loading this value"), name)


def _unit(fields: Fields) -> str:
    unit = fields.text("unit")
    if unit not in _UNITS:
        raise fields.error("needs 's', 'ms', 'us' or 'ns' as 'unit'")
    return unit


_MOMENT, _DURATION = TimestampCodec(), TimedeltaValueCodec()
_MISSING = MissingCodec()

CODECS: Final = (_MOMENT, _DURATION, _MISSING)
TYPES: Final[Mapping[type, Codec]] = {}
NAMES: Final[Mapping[str, Codec]] = {
    "pandas.Timestamp": _MOMENT,
    "pandas.Timedelta": _DURATION,
    "pandas.NaTType": _MISSING,
    "pandas.NAType": _MISSING,
}
