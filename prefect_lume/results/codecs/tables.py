"""Codecs of pandas and Arrow tables: Arrow IPC streams, without pandas' metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._fingerprint import sha256_tree
from prefect_lume._optional import require
from prefect_lume.errors import EncodingError, clip
from prefect_lume.results.codecs.arrow import (
    check_table,
    hash_column,
    pyarrow,
    read_stream,
    write_stream,
)
from prefect_lume.results.codecs.base import Codec, Fields, Path, refusal
from prefect_lume.results.codecs.columns import (
    Packed,
    canonical_description,
    pack,
    unpack,
)
from prefect_lume.results.codecs.keys import MARK
from prefect_lume.results.codecs.ranges import check_bytes, with_bytes
from prefect_lume.results.codecs.spill import load_tree

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder

_INDICES: Final = frozenset(
    {
        "Index",
        "RangeIndex",
        "MultiIndex",
        "DatetimeIndex",
        "TimedeltaIndex",
        "PeriodIndex",
        "IntervalIndex",
        "CategoricalIndex",
        "Int64Index",
        "Float64Index",
    }
)
#: Frames of more bytes are left in the payload's memory, unless of many columns.
_LARGE: Final = 16 << 20
_FEW: Final = 100


class TableCodec(Codec):
    """What the codecs of tables have in common: they are hashed by their values."""

    def canonical(self, envelope: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep nothing but the content's hash, which the caller adds."""
        return {MARK: self.name}

    def _finish(
        self,
        encoder: Encoder,
        path: Path,
        columns: Sequence[Packed],
        names: Sequence[str],
        /,
        **fields: Any,
    ) -> dict[str, Any]:
        """Return the envelope of some columns, their hash, and their payload."""
        from prefect_lume.results.codecs.canonical import canonical

        described = [canonical_description(column.description) for column in columns]
        content = sha256_tree(
            {
                "fields": canonical(fields),
                "columns": canonical(described),
                "values": [
                    None if column.arrow is None else hash_column(column.arrow)
                    for column in columns
                ],
            }
        )
        kept = {
            name: column.arrow
            for name, column in zip(names, columns, strict=True)
            if column.arrow is not None
        }
        payload = {}
        if kept:
            payload = encoder.payload(write_stream(pyarrow().table(kept), path))
        descriptions = [column.description for column in columns]
        return self.envelope(
            **fields, dtypes=descriptions, **{**payload, "content": content}
        )

    def _columns(self, fields: Fields, decoder: Decoder) -> list[Any]:
        """Return the arrays of an envelope's columns."""
        descriptions = [
            _description(item, fields, decoder) for item in fields.items("dtypes")
        ]
        stored: list[Any] = []
        if fields.has("data") or fields.has("blob"):
            stored = read_stream(fields.payload(decoder), fields).columns
        found, taken = [], 0
        for description in descriptions:
            arrow = None
            if _has_arrow(description):
                if taken >= len(stored):
                    raise fields.error("describes more columns than it holds")
                arrow = stored[taken]
                taken += 1
            found.append(unpack(description, arrow, fields, decoder))
        if taken != len(stored):
            raise fields.error("describes fewer columns than it holds")
        return found

    def _one(self, fields: Fields, decoder: Decoder) -> Any:
        columns = self._columns(fields, decoder)
        if len(columns) != 1:
            raise fields.error("needs one column")
        return columns[0]


def _description(item: Any, fields: Fields, decoder: Decoder) -> Any:
    """Return a column's description, which may have left the document as a whole."""
    if not isinstance(item, Mapping) or item.get(MARK) != "tree":
        return item
    return load_tree(Fields(item, (*fields.path, "dtypes"), fields.depth), decoder)


def _has_arrow(description: Any) -> bool:
    if not isinstance(description, dict):
        return False
    return "values" not in description and description.get("kind") != "interval"


class ArrowTableCodec(TableCodec):
    """A pyarrow Table. A RecordBatch comes back as a Table."""

    name = "arrow-table"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        pa = pyarrow()
        if isinstance(value, pa.RecordBatch):
            value = pa.Table.from_batches([value])
        check_table(value, path)
        content = sha256_tree(
            {
                "rows": value.num_rows,
                "names": value.schema.names,
                "values": [hash_column(column) for column in value.columns],
            }
        )
        payload = encoder.payload(write_stream(value, path))
        return self.envelope(
            rows=value.num_rows,
            columns=[encoder.text(name, path) for name in value.schema.names],
            **{**payload, "content": content},
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        table = read_stream(fields.payload(decoder), fields)
        if table.num_rows != fields.integer("rows", 0):
            raise fields.error("holds another number of rows than it says")
        return table


class IndexCodec(TableCodec):
    """A pandas Index of any kind."""

    name = "index"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        kind = type(value).__name__
        if kind not in _INDICES or not type(value).__module__.startswith("pandas"):
            raise _subclass(type(value), path, "pandas.Index(value)")
        if kind == "MultiIndex":
            held = [value.get_level_values(level) for level in range(value.nlevels)]
            levels = [
                encoder.encode(level, (*path, "levels", position), depth + 1)
                for position, level in enumerate(with_bytes(held))
            ]
            return self._finish(encoder, path, [], [], kind="multi", levels=levels)
        name = encoder.encode(value.name, (*path, "name"), depth + 1)
        if kind == "RangeIndex":
            return self._finish(
                encoder,
                path,
                [],
                [],
                kind="range",
                name=name,
                start=encoder.encode(value.start, path, depth + 1),
                stop=encoder.encode(value.stop, path, depth + 1),
                step=encoder.encode(value.step, path, depth + 1),
            )
        extra = _frequency(value)
        column = pack(value.array, encoder, path, depth)
        return self._finish(
            encoder, path, [column], ["index"], kind="flat", name=name, **extra
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        pandas = require("pandas", "Loading this table")
        kind = fields.text("kind")
        if kind == "multi":
            return self._decode_levels(fields, decoder)
        name = _label(fields, decoder)
        if kind == "range":
            steps = [fields.integer(key) for key in ("start", "stop", "step")]
            return pandas.RangeIndex(*steps, name=name)
        if kind != "flat":
            raise fields.error("has an unknown 'kind'")
        values = self._one(fields, decoder)
        if fields.has("freq"):
            family = (
                pandas.TimedeltaIndex
                if values.dtype.kind == "m"
                else pandas.DatetimeIndex
            )
            return family(values, freq=fields.text("freq"), name=name)
        return pandas.Index(
            values, dtype=values.dtype, copy=False, name=name, tupleize_cols=False
        )

    def _decode_levels(self, fields: Fields, decoder: Decoder) -> Any:
        pandas = require("pandas")
        levels = [
            decoder.eager().decode(item, (*fields.path, position), fields.depth + 1)
            for position, item in enumerate(fields.items("levels"))
        ]
        if not levels or not all(isinstance(level, pandas.Index) for level in levels):
            raise fields.error("needs indices as its levels")
        check_bytes(levels, fields)
        return pandas.MultiIndex.from_arrays(
            levels, names=[level.name for level in levels]
        )


class SeriesCodec(TableCodec):
    """A pandas Series, with its index and name."""

    name = "series"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        if type(value).__name__ != "Series":
            raise _subclass(type(value), path, "pandas.Series(value)")
        return self._finish(
            encoder,
            path,
            [pack(value.array, encoder, path, depth)],
            ["values"],
            name=encoder.encode(value.name, (*path, "name"), depth + 1),
            index=encoder.encode(value.index, (*path, "index"), depth + 1),
            **_attributes(value, encoder, path, depth),
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        pandas = require("pandas", "Loading this table")
        index = _index(fields, decoder, "index")
        values = self._one(fields, decoder)
        if len(values) != len(index):
            raise fields.error("has more or fewer values than its index")
        name = _label(fields, decoder)
        found = pandas.Series(values, index, values.dtype, name, copy=False)
        return _with_attributes(found, fields, decoder)


class DataFrameCodec(TableCodec):
    """A pandas DataFrame, with its dtypes, index and columns."""

    name = "dataframe"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        if type(value).__name__ != "DataFrame":
            raise _subclass(type(value), path, "pandas.DataFrame(value)")
        labels = list(value.columns)
        plain = all(type(label) is str for label in labels)
        names = [
            label if plain and value.columns.is_unique else str(position)
            for position, label in enumerate(labels)
        ]
        columns = [
            pack(value.iloc[:, position].array, encoder, (*path, label_text), depth)
            for position, label_text in enumerate(map(str, labels))
        ]
        return self._finish(
            encoder,
            path,
            columns,
            names,
            rows=len(value),
            columns=encoder.encode(value.columns, (*path, "columns"), depth + 1),
            index=encoder.encode(value.index, (*path, "index"), depth + 1),
            **_attributes(value, encoder, path, depth),
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        pandas = require("pandas", "Loading this table")
        index = _index(fields, decoder, "index")
        labels = _index(fields, decoder, "columns")
        columns = self._columns(fields, decoder)
        rows = fields.integer("rows", 0)
        if len(index) != rows or any(len(column) != rows for column in columns):
            raise fields.error("has columns of other lengths than its index")
        if len(labels) != len(columns):
            raise fields.error("has more or fewer columns than labels")
        series = {
            position: pandas.Series(column, index, column.dtype, copy=False)
            for position, column in enumerate(columns)
        }
        # pandas likes its columns side by side in one array. A large frame is left
        # where it is, in the payload's own memory.
        large = len(memoryview(fields.memory)) > _LARGE and len(columns) <= _FEW
        found = pandas.DataFrame(series, index, copy=not large)
        found.columns = labels
        return _with_attributes(found, fields, decoder)


def _subclass(kind: type, path: Path, advice: str) -> EncodingError:
    return refusal(
        path,
        f"tables of the class {clip(kind.__qualname__, 60)!r} cannot be stored without "
        f"losing what it adds. Store {advice}, and the rest beside it.",
    )


def _frequency(index: Any) -> dict[str, str]:
    """Return the frequency of an index, when its text says all of it."""
    name = type(index).__name__
    frequency = index.freq if name in {"DatetimeIndex", "TimedeltaIndex"} else None
    if frequency is None:
        return {}
    to_offset = require("pandas.tseries.frequencies").to_offset
    text = str(index.freqstr)
    return {"freq": text} if to_offset(text) == frequency else {}


def _attributes(value: Any, encoder: Encoder, path: Path, depth: int) -> dict[str, Any]:
    if not value.attrs:
        return {}
    return {"attrs": encoder.encode(value.attrs, (*path, "attrs"), depth + 1)}


def _with_attributes(found: Any, fields: Fields, decoder: Decoder) -> Any:
    if fields.has("attrs"):
        place = (*fields.path, "attrs")
        attributes = decoder.eager().decode(
            fields.tree("attrs"), place, fields.depth + 1
        )
        if not isinstance(attributes, dict):
            raise fields.error("needs a dict as 'attrs'")
        found.attrs = attributes
    return found


def _label(fields: Fields, decoder: Decoder) -> Any:
    place = (*fields.path, "name")
    name = decoder.eager().decode(fields.tree("name"), place, fields.depth + 1)
    hash(name)
    return name


def _index(fields: Fields, decoder: Decoder, key: str) -> Any:
    place = (*fields.path, key)
    index = decoder.eager().decode(fields.tree(key), place, fields.depth + 1)
    if not isinstance(index, require("pandas").Index):
        raise fields.error(f"needs an index as {key!r}")
    return index


_ARROW, _INDEX, _SERIES = ArrowTableCodec(), IndexCodec(), SeriesCodec()
_FRAME = DataFrameCodec()

CODECS: Final = (_ARROW, _INDEX, _SERIES, _FRAME)
TYPES: Final[Mapping[type, Codec]] = {}
NAMES: Final[Mapping[str, Codec]] = {
    "pyarrow.Table": _ARROW,
    "pyarrow.RecordBatch": _ARROW,
    "pandas.Index": _INDEX,
    "pandas.Series": _SERIES,
    "pandas.DataFrame": _FRAME,
}
