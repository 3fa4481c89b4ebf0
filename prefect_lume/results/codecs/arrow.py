"""Arrow streams and columns: written, read safely, hashed by their values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from prefect_lume._fingerprint import sha256_bytes, sha256_tree
from prefect_lume._optional import require
from prefect_lume.results.codecs.arrow_safety import check_lengths, check_messages
from prefect_lume.results.codecs.base import Fields, Path, refusal

_EXTENSION: Final = b"ARROW:extension:name"
_DEEPEST: Final = 32
_PURPOSE: Final = "A table"
_LARGE: Final = 1 << 20
#: Columns are hashed in parts of so many rows, to take no more memory.
_ROWS: Final = 1 << 17


def pyarrow() -> Any:
    """Return the module ``pyarrow``, or raise an error that names its extra."""
    return require("pyarrow", _PURPOSE)


def write_stream(table: Any, path: Path) -> memoryview:
    """Return a table as the bytes of an uncompressed Arrow IPC stream.

    Raises:
        EncodingError: It has columns of so many rows without bytes (all null) that
            it would not be read again.
    """
    try:
        check_lengths(table, table.nbytes)
    except ValueError as exc:
        raise refusal(path, f"{exc}. Leave the column out.") from exc
    pa, ipc = pyarrow(), require("pyarrow.ipc", _PURPOSE)
    table = table.unify_dictionaries()

    def write(sink: Any) -> Any:
        with ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink

    if table.nbytes < _LARGE:
        return memoryview(write(pa.BufferOutputStream()).getvalue())
    # A stream that grows takes up to twice its size.
    stream = pa.allocate_buffer(write(pa.MockOutputStream()).size())
    write(pa.FixedSizeBufferWriter(stream)).close()
    return memoryview(stream)


def read_stream(data: Any, fields: Fields) -> Any:
    """Return the table of an Arrow IPC stream, every offset in it checked."""
    pa, ipc = pyarrow(), require("pyarrow.ipc", _PURPOSE)
    try:
        buffer = pa.py_buffer(data)
        check_messages(buffer)
        reader = ipc.open_stream(buffer)
        for field in reader.schema:
            type_text(field.type)
            check_field(field)
        table = reader.read_all()
        table.validate(full=True)
        check_lengths(table, buffer.size)
    except (pa.ArrowException, ValueError, OSError, MemoryError) as exc:
        raise fields.error(
            f"holds no Arrow stream that can be read ({str(exc)[:120]})"
        ) from exc
    return table


def check_table(table: Any, path: Path) -> None:
    """Refuse a table with columns that cannot be stored, each by its name."""
    for field in table.schema:
        try:
            type_text(field.type)
            check_field(field)
        except ValueError as exc:
            raise refusal(
                (*path, str(field.name)), f"{exc}. Cast the column first."
            ) from exc


def check_field(field: Any) -> None:
    """Refuse a field that says it is of an extension type.

    Raises:
        ValueError: It does, or a field inside it.
    """
    if field.metadata and _EXTENSION in field.metadata:
        raise ValueError("Arrow extension types are not stored")
    for position in range(field.type.num_fields):
        check_field(field.type.field(position))


def type_text(kind: Any, level: int = 0) -> str:
    """Return an Arrow type as text that does not change between versions.

    ``string`` and ``large_string`` are one type here, and so on: they hold the same
    values.

    Raises:
        ValueError: Columns of that type are not stored.
    """
    types = require("pyarrow.types", _PURPOSE)
    if level > _DEEPEST:
        raise ValueError("the Arrow type is nested too deep")
    for test, name in _SIMPLE:
        if getattr(types, test)(kind):
            return name
    for tests, describe in _NESTED:
        if any(getattr(types, test, bool)(kind) for test in tests):
            return describe(kind, level + 1)
    raise ValueError(f"the Arrow type {str(kind)[:80]!r} is not stored")


def _inside(kind: Any, level: int) -> str:
    return f"list<{type_text(kind.value_type, level)}>"


def _struct(kind: Any, level: int) -> str:
    parts = [
        f"{kind.field(position).name!r}:{type_text(kind.field(position).type, level)}"
        for position in range(kind.num_fields)
    ]
    return f"struct<{','.join(parts)}>"


_SIMPLE: Final = (
    ("is_null", "null"),
    ("is_boolean", "bool"),
    *(
        (f"is_{sign}int{bits}", f"{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    ),
    *((f"is_float{bits}", f"float{bits}") for bits in (16, 32, 64)),
    ("is_date32", "date32"),
    ("is_date64", "date64"),
    ("is_string", "string"),
    ("is_large_string", "string"),
    ("is_binary", "binary"),
    ("is_large_binary", "binary"),
)

_NESTED: Final[tuple[tuple[tuple[str, ...], Callable[[Any, int], str]], ...]] = (
    (("is_time32", "is_time64"), lambda kind, _: f"time[{kind.unit}]"),
    (("is_timestamp",), lambda kind, _: f"timestamp[{kind.unit},{kind.tz or ''}]"),
    (("is_duration",), lambda kind, _: f"duration[{kind.unit}]"),
    (
        ("is_decimal128", "is_decimal256"),
        lambda kind, _: f"decimal{kind.bit_width}({kind.precision},{kind.scale})",
    ),
    (("is_fixed_size_binary",), lambda kind, _: f"bytes[{kind.byte_width}]"),
    (("is_list", "is_large_list"), _inside),
    (
        ("is_fixed_size_list",),
        lambda kind, level: f"{_inside(kind, level)}[{kind.list_size}]",
    ),
    (("is_struct",), _struct),
    (
        ("is_dictionary",),
        lambda kind, level: f"dictionary<{type_text(kind.value_type, level)}>",
    ),
)


def hash_column(column: Any) -> str:
    """Return the SHA-256 of a column's type and values.

    Chunks, offsets, the width of string offsets and what lies behind a null do not
    matter. Values of a fixed width count by their little-endian bytes, with one bit
    pattern for NaN.
    """
    pa = pyarrow()
    if isinstance(column, pa.ChunkedArray):
        single = column.num_chunks == 1
        column = column.chunk(0) if single else column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # Too large for one array.
        column = pa.concat_arrays(_wide(column).chunks)
    return _hash_array(column)


def _wide(column: Any) -> Any:
    pa, types = pyarrow(), require("pyarrow.types")
    if types.is_string(column.type):
        return column.cast(pa.large_string())
    if types.is_binary(column.type):
        return column.cast(pa.large_binary())
    return column


def _hash_array(array: Any) -> str:
    types = require("pyarrow.types")
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    valid = _hash_parts(
        array, lambda part: part.is_valid().to_numpy(zero_copy_only=False)
    )
    kept = array.drop_null() if array.null_count else array
    parts = [type_text(array.type), len(array), valid, *_hash_values(kept)]
    return sha256_tree(parts)


def _hash_parts(values: Any, shown: Callable[[Any], Any]) -> str:
    """Return the SHA-256 of what is shown of some values, a part at a time."""
    digest = hashlib.sha256()
    for start in range(0, len(values), _ROWS):
        digest.update(memoryview(shown(values[start : start + _ROWS])).cast("B"))
    return digest.hexdigest()


def _hash_values(array: Any) -> list[str]:
    """Return the hashes of what a column without nulls holds."""
    pa, types, kind = pyarrow(), require("pyarrow.types"), array.type
    if types.is_null(kind) or not len(array):
        return []
    if types.is_struct(kind):
        return [_hash_array(part) for part in array.flatten()]
    if types.is_list(kind) or types.is_large_list(kind):
        compute = require("pyarrow.compute")
        lengths = compute.list_value_length(array).cast(pa.int64()).to_numpy()
        return [sha256_bytes(lengths.tobytes()), _hash_array(array.flatten())]
    if types.is_fixed_size_list(kind):
        return [_hash_array(array.flatten())]
    if types.is_boolean(kind):
        return [_hash_parts(array, lambda part: part.to_numpy(zero_copy_only=False))]
    if type_text(kind) in {"string", "binary"}:
        return _hash_text(array)
    return [_hash_fixed(array)]


def _hash_text(array: Any) -> list[str]:
    numpy, pa = require("numpy"), pyarrow()
    array = array.cast(pa.large_binary())
    _, offsets, data = array.buffers()
    ends = numpy.frombuffer(offsets, "<i8")[
        array.offset : array.offset + len(array) + 1
    ]
    digest = hashlib.sha256()
    if data is not None:
        digest.update(memoryview(data)[int(ends[0]) : int(ends[-1])])
    return [sha256_bytes(numpy.diff(ends).tobytes()), digest.hexdigest()]


def _hash_fixed(array: Any) -> str:
    numpy, types = require("numpy"), require("pyarrow.types")
    width = array.type.bit_width // 8
    data = memoryview(array.buffers()[1])
    data = data[array.offset * width : (array.offset + len(array)) * width]
    if types.is_floating(array.type):
        values, nan = numpy.frombuffer(data, f"<f{width}"), numpy.array(numpy.nan)
        nan = nan.astype(f"<f{width}")
        return _hash_parts(
            values, lambda part: numpy.where(numpy.isnan(part), nan, part)
        )
    return sha256_bytes(data)
