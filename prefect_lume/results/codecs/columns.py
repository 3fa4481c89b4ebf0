"""The values of one pandas column or index, as an Arrow column and a description.

pandas' own metadata is not used: it is stamped with versions and interpreted on
reading. What a column was is described in plain JSON instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prefect_lume._optional import require
from prefect_lume.errors import clip
from prefect_lume.results.codecs.arrow import check_field, pyarrow, type_text
from prefect_lume.results.codecs.base import Fields, Path, refusal
from prefect_lume.results.codecs.dtypes import describe, parse
from prefect_lume.results.codecs.keys import MARK
from prefect_lume.results.codecs.ranges import check_bytes, with_bytes
from prefect_lume.results.codecs.times import find_zone, zone_name

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder

_MASKED: Final = frozenset(
    {"boolean", "Float32", "Float64"}
    | {f"{sign}nt{bits}" for sign in ("I", "UI") for bits in (8, 16, 32, 64)}
)
_UNITS: Final = ("s", "ms", "us", "ns")


class Packed(NamedTuple):
    """A column as it is stored.

    Attributes:
        description: What it was, as JSON.
        arrow: Its values as an Arrow array, or ``None`` when the description holds
            them.
    """

    description: dict[str, Any]
    arrow: Any


def pack(values: Any, encoder: Encoder, path: Path, depth: int) -> Packed:
    """Return the stored form of a pandas array.

    Args:
        values: The ``array`` of a Series or an Index.
        encoder: Encodes Python objects in it.
        path: Where it is.
        depth: How many containers are around it.

    Raises:
        EncodingError: Its dtype, or an object in it, cannot be stored.
    """
    name = type(values.dtype).__name__
    if name in _PACKERS:
        return _PACKERS[name](values, encoder, path, depth)
    if hasattr(values.dtype, "numpy_dtype") and str(values.dtype) in _MASKED:
        return Packed({"kind": "masked", "dtype": str(values.dtype)}, _arrow(values))
    if name == "NumpyEADtype" or isinstance(values.dtype, require("numpy").dtype):
        return _pack_numpy(values, encoder, path, depth)
    raise refusal(
        path,
        f"columns of dtype {clip(values.dtype, 80)} cannot be stored. Convert the "
        "column, for example with astype or .sparse.to_dense().",
    )


def unpack(description: Any, arrow: Any, fields: Fields, decoder: Decoder) -> Any:
    """Return the pandas (or numpy) array of a stored column.

    Args:
        description: The stored description.
        arrow: The stored Arrow column, or ``None``.
        fields: The envelope around it.
        decoder: Decodes what the description holds.

    Raises:
        DecodingError: The two do not fit.
    """
    if not isinstance(description, dict):
        raise fields.error("needs a description of each column")
    named = {**description, MARK: fields.raw.get(MARK)}
    inner = Fields(named, fields.path, fields.depth)
    inner.memory = fields.memory
    kind = inner.text("kind")
    if kind not in _UNPACKERS:
        raise fields.error(f"holds a column of the unknown kind {clip(repr(kind), 40)}")
    return _UNPACKERS[kind](inner, arrow, decoder)


def canonical_description(description: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what of a description counts for the hash.

    Text counts by its values, whichever of pandas' dtypes holds it.
    """
    kind = description["kind"]
    if kind == "string" or (kind == "object" and "values" not in description):
        return {"kind": "text"}
    return description


def _arrow(values: Any, kind: Any = None) -> Any:
    pa = pyarrow()
    array = pa.array(values, type=kind)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _pack_numpy(values: Any, encoder: Encoder, path: Path, depth: int) -> Packed:
    pa = pyarrow()
    array = values.to_numpy()
    if array.dtype.kind == "O":
        return _pack_objects(array, encoder, path, depth)
    described = {"kind": "numpy", "dtype": describe(array.dtype, path)}
    layout = parse(described["dtype"])
    if array.dtype.kind in "biufmM" and "/" not in described["dtype"]:
        array = array.astype(layout.stored, copy=False)
        return Packed(described, pa.array(array, from_pandas=False))
    if array.dtype.kind == "c" and "/" not in described["dtype"]:
        parts = array.astype(layout.stored).view(f"<f{layout.itemsize // 2}")
        flat = pa.array(parts, from_pandas=False)
        return Packed(described, pa.FixedSizeListArray.from_arrays(flat, 2))
    raise refusal(
        path, f"columns of dtype {array.dtype} cannot be stored. Use astype(float)."
    )


def _pack_objects(array: Any, encoder: Encoder, path: Path, depth: int) -> Packed:
    members = array.tolist()
    missing = {_missing(item) for item in members if type(item) is not str}
    if missing <= {"none"} or missing == {"nan"}:
        texts = [item if type(item) is str else None for item in members]
        for position, item in enumerate(texts):
            if item is not None and not item.isascii():
                encoder.text(item, (*path, position))
        extra = {"missing": "nan"} if "nan" in missing else {}
        large = pyarrow().large_string()
        return Packed({"kind": "object", **extra}, _arrow(texts, large))
    trees = encoder.sequence(members, path, depth + 1, owner=array)
    return Packed({"kind": "object", "values": trees}, None)


def _missing(item: Any) -> str:
    if item is None:
        return "none"
    return "nan" if type(item) is float and math.isnan(item) else "other"


def _pack_zoned(values: Any, encoder: Encoder, path: Path, depth: int) -> Packed:
    pa = pyarrow()
    numbers = values.tz_convert("UTC").tz_localize(None).to_numpy()
    zone, unit = values.dtype.tz, values.dtype.unit
    described: dict[str, Any] = {"kind": "datetime", "unit": unit}
    name = zone_name(zone)
    if name is not None:
        described["zone"] = name
    else:
        offset = zone.utcoffset(None)
        if offset is None:
            raise refusal(
                path, f"the time zone {clip(zone, 60)} has no name. Use zoneinfo."
            )
        described["offset"] = int(offset.total_seconds())
    return Packed(described, pa.array(numbers).cast(pa.timestamp(unit, "UTC")))


def _pack_string(values: Any, encoder: Encoder, path: Path, depth: int) -> Packed:
    described = {
        "kind": "string",
        "storage": values.dtype.storage,
        "na": "nan" if isinstance(values.dtype.na_value, float) else "NA",
    }
    pa, large = pyarrow(), pyarrow().large_string()
    if values.dtype.storage == "pyarrow":
        return Packed(described, _arrow(values).cast(large))
    array = pa.array(values.to_numpy(dtype=object), large, from_pandas=True)
    chunked = isinstance(array, pa.ChunkedArray)
    return Packed(described, array.combine_chunks() if chunked else array)


def _pack_categories(values: Any, encoder: Encoder, path: Path, depth: int) -> Packed:
    described = {
        "kind": "category",
        "ordered": bool(values.ordered),
        "categories": encoder.encode(
            values.categories, (*path, "categories"), depth + 1
        ),
    }
    return Packed(described, _arrow(values.codes))


def _pack_arrow(values: Any, encoder: Encoder, path: Path, depth: int) -> Packed:
    array = _arrow(values)
    try:
        type_text(array.type)
        check_field(pyarrow().field("", array.type))
    except ValueError as exc:
        raise refusal(path, f"{exc}. Cast the column first.") from exc
    return Packed({"kind": "arrow"}, array)


def _pack_periods(values: Any, encoder: Encoder, path: Path, depth: int) -> Packed:
    numpy = require("numpy")
    numbers = values.asi8.astype("<i8")
    mask = numpy.asarray(values.isna())
    described = {"kind": "period", "freq": values.freqstr}
    return Packed(described, pyarrow().array(numbers, mask=mask))


def _pack_intervals(values: Any, encoder: Encoder, path: Path, depth: int) -> Packed:
    ends = with_bytes([values.left, values.right])
    sides = {
        side: encoder.encode(end, (*path, side), depth + 1)
        for side, end in zip(("left", "right"), ends, strict=True)
    }
    return Packed({"kind": "interval", "closed": values.closed, **sides}, None)


_PACKERS: Final[Mapping[str, Callable[[Any, Any, Path, int], Packed]]] = {
    "DatetimeTZDtype": _pack_zoned,
    "StringDtype": _pack_string,
    "CategoricalDtype": _pack_categories,
    "ArrowDtype": _pack_arrow,
    "PeriodDtype": _pack_periods,
    "IntervalDtype": _pack_intervals,
}


def _expect(inner: Fields, arrow: Any, *names: str) -> Any:
    """Return the column if it is of one of some Arrow types."""
    if arrow is None:
        raise inner.error("lacks the values of a column")
    if type_text(arrow.type) not in names:
        raise inner.error(
            f"holds a column of Arrow type {clip(arrow.type, 60)!r}: wrong here"
        )
    return arrow


def _unpack_numpy(inner: Fields, arrow: Any, decoder: Decoder) -> Any:
    numpy, pa = require("numpy"), pyarrow()
    layout = parse(inner.text("dtype"))
    kind, size = layout.wanted.kind, layout.itemsize
    if kind not in "biufcmM" or "/" in inner.text("dtype"):
        raise inner.error("holds a column of a dtype that tables do not have")
    sample = numpy.zeros(0, layout.stored)
    if kind == "c":
        wanted = f"list<float{size * 4}>[2]"
    else:
        wanted = type_text(pa.array(sample).type)
    column = _expect(inner, arrow, wanted)
    if column.null_count and kind not in "mM":
        raise inner.error("lacks values in a column that has no missing ones")
    if kind == "c":
        flat = pa.concat_arrays(chunk.flatten() for chunk in _chunks(column))
        if flat.null_count or len(flat) != 2 * len(column):
            raise inner.error("lacks values in a column that has no missing ones")
        found = flat.to_numpy(zero_copy_only=False).view(layout.stored)
    else:
        found = column.to_numpy()
        if len(chunks := _chunks(column)) == 1 and not column.null_count:
            view = _writable(chunks[0], layout.stored, inner)
            found = found if view is None else view
    copied = None if found.flags.writeable else True
    return numpy.array(found, dtype=layout.wanted, copy=copied)


def _writable(array: Any, dtype: Any, inner: Fields) -> Any:
    """Return the values of an Arrow array as a view of the payload, or ``None``.

    Arrow's own views are read-only, also of memory that may be written to.
    """
    payload = inner.memory
    if not isinstance(payload, bytearray) or dtype.kind == "b" or not len(array):
        return None
    numpy, values = require("numpy"), array.buffers()[1]
    first = values.address - numpy.frombuffer(payload, "u1").ctypes.data
    first += array.offset * dtype.itemsize
    if not 0 <= first <= len(payload) - len(array) * dtype.itemsize:
        return None
    return numpy.frombuffer(payload, dtype, len(array), first)


def _chunks(column: Any) -> list[Any]:
    return column.chunks or [column.combine_chunks()]


def _unpack_objects(inner: Fields, arrow: Any, decoder: Decoder) -> Any:
    numpy = require("numpy")
    if inner.has("values"):
        place = (*inner.path, "values")
        members = decoder.eager().decode(inner.tree("values"), place, inner.depth + 1)
        if not isinstance(members, list):
            raise inner.error("needs a list of a column's objects")
    else:
        members = _expect(inner, arrow, "string").to_pylist()
        if inner.has("missing"):
            members = [math.nan if item is None else item for item in members]
    found = numpy.empty(len(members), dtype=object)
    for position, item in enumerate(members):
        found[position] = item
    return found


def _unpack_zoned(inner: Fields, arrow: Any, decoder: Decoder) -> Any:
    pandas = require("pandas")
    unit = inner.text("unit")
    if unit not in _UNITS:
        raise inner.error("needs a 'unit' of times")
    zone: tzinfo | None
    if inner.has("zone"):
        zone = find_zone(inner.text("zone")) or UTC
    else:
        offset = inner.integer("offset", -86_399, 86_399)
        zone = timezone(timedelta(seconds=offset)) if offset else UTC
    column = _expect(inner, arrow, f"timestamp[{unit},UTC]")
    index = pandas.DatetimeIndex(column.to_numpy())
    return index.tz_localize("UTC").tz_convert(zone).array


def _unpack_string(inner: Fields, arrow: Any, decoder: Decoder) -> Any:
    pandas = require("pandas")
    storage, missing = inner.text("storage"), inner.text("na")
    if storage not in {"python", "pyarrow"} or missing not in {"nan", "NA"}:
        raise inner.error("describes a column of text wrongly")
    column = _expect(inner, arrow, "string")
    dtype = pandas.StringDtype(storage, math.nan if missing == "nan" else pandas.NA)
    return dtype.__from_arrow__(column)


def _unpack_categories(inner: Fields, arrow: Any, decoder: Decoder) -> Any:
    pandas = require("pandas")
    place = (*inner.path, "categories")
    categories = decoder.eager().decode(
        inner.tree("categories"), place, inner.depth + 1
    )
    if not isinstance(categories, pandas.Index):
        raise inner.error("needs an index as the categories of a column")
    codes = _expect(inner, arrow, "int8", "int16", "int32", "int64")
    if codes.null_count:
        raise inner.error("lacks codes of a column of categories")
    return pandas.Categorical.from_codes(
        codes.to_numpy(), categories=categories, ordered=inner.boolean("ordered")
    )


def _unpack_masked(inner: Fields, arrow: Any, decoder: Decoder) -> Any:
    pandas, pa = require("pandas"), pyarrow()
    name = inner.text("dtype")
    if name not in _MASKED:
        raise inner.error(f"holds a column of the unknown dtype {clip(repr(name), 40)}")
    dtype = pandas.array([], dtype=name).dtype
    wanted = type_text(pa.array(pandas.array([], dtype=name)).type)
    return dtype.__from_arrow__(_expect(inner, arrow, wanted))


def _unpack_arrow(inner: Fields, arrow: Any, decoder: Decoder) -> Any:
    if arrow is None:
        raise inner.error("lacks the values of a column")
    return require("pandas").arrays.ArrowExtensionArray(arrow)


def _unpack_periods(inner: Fields, arrow: Any, decoder: Decoder) -> Any:
    pandas = require("pandas")
    column = _expect(inner, arrow, "int64")
    dtype = pandas.PeriodDtype(inner.text("freq"))
    missing = pandas.NaT._value
    numbers = column.fill_null(missing).to_numpy()
    return pandas.arrays.PeriodArray(numbers.copy(), dtype=dtype)


def _unpack_intervals(inner: Fields, arrow: Any, decoder: Decoder) -> Any:
    pandas = require("pandas")
    sides = [
        decoder.eager().decode(inner.tree(side), (*inner.path, side), inner.depth + 1)
        for side in ("left", "right")
    ]
    if not all(isinstance(side, pandas.Index) for side in sides):
        raise inner.error("needs indices as the ends of intervals")
    check_bytes(sides, inner)
    return pandas.arrays.IntervalArray.from_arrays(*sides, closed=inner.text("closed"))


_UNPACKERS: Final[Mapping[str, Callable[[Fields, Any, Any], Any]]] = {
    "numpy": _unpack_numpy,
    "object": _unpack_objects,
    "datetime": _unpack_zoned,
    "string": _unpack_string,
    "category": _unpack_categories,
    "masked": _unpack_masked,
    "arrow": _unpack_arrow,
    "period": _unpack_periods,
    "interval": _unpack_intervals,
}
