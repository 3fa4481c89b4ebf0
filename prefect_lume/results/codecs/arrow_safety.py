"""What is checked of an Arrow stream that was stored, beyond what Arrow checks.

Arrow checks that offsets and sizes fit the bytes. It does not mind that a few bytes
stand for very many values: compressed buffers, and columns that take no bytes at all.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from prefect_lume._optional import require

#: A column that takes no bytes may have so many rows.
MOST_EMPTY: Final = 1 << 27

_BITS: Final = 8
_RECORD_BATCH: Final = 3
_DICTIONARY_BATCH: Final = 2
# The numbers of fields in Arrow's flatbuffers (format/Message.fbs).
_HEADER_TYPE, _HEADER, _DATA, _COMPRESSION = 1, 2, 1, 3


def check_messages(buffer: Any) -> None:
    """Refuse a stream with compressed buffers, which may stand for any amount.

    Args:
        buffer: The stream as a pyarrow buffer. Nothing of it is copied.

    Raises:
        ValueError: It has such, or its messages are malformed.
    """
    reader = require("pyarrow.ipc").MessageReader.open_stream(buffer)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if is_compressed(bytes(message.metadata)):
            raise ValueError("compressed Arrow streams are not stored")


def is_compressed(metadata: bytes) -> bool:
    """Tell whether a message's metadata names a compression of its buffers.

    Args:
        metadata: The flatbuffer of one message of a stream.

    Raises:
        ValueError: It is no such flatbuffer.
    """
    try:
        root = struct.unpack_from("<I", metadata)[0]
        kind = _field(metadata, root, _HEADER_TYPE)
        header = _field(metadata, root, _HEADER)
        if kind is None or header is None:
            return False
        batch: int | None = _target(metadata, header)
        if metadata[kind] == _DICTIONARY_BATCH:
            data = _field(metadata, _target(metadata, header), _DATA)
            batch = None if data is None else _target(metadata, data)
        elif metadata[kind] != _RECORD_BATCH:
            return False
        if batch is None:
            return False
        return _field(metadata, batch, _COMPRESSION) is not None
    except (struct.error, IndexError) as exc:
        raise ValueError("a message of the Arrow stream is malformed") from exc


def _target(data: bytes, place: int) -> int:
    return place + int(struct.unpack_from("<I", data, place)[0])


def _field(data: bytes, table: int, number: int) -> int | None:
    """Return where a field of a flatbuffers table lies, or ``None`` without it."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise IndexError(vtable)
    entry = 4 + 2 * number
    if entry + 2 > struct.unpack_from("<H", data, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", data, vtable + entry)[0]
    return table + offset if offset else None


def check_lengths(table: Any, size: int) -> None:
    """Refuse columns of far more values than their bytes could hold.

    Args:
        table: A pyarrow table.
        size: How many bytes it was read from, or will be written to.

    Raises:
        ValueError: A column, or what is inside it, is longer.
    """
    most = max(MOST_EMPTY, size * _BITS)
    for column in table.columns:
        for chunk in column.chunks:
            _check_length(chunk, most)


def _check_length(array: Any, most: int) -> None:
    if len(array) > most:
        raise ValueError(f"a column of {len(array)} values without bytes is not stored")
    types, kind = require("pyarrow.types"), array.type
    if types.is_struct(kind):
        for position in range(kind.num_fields):
            _check_length(array.field(position), most)
    elif hasattr(array, "values") and kind.num_fields:
        _check_length(array.values, most)
    elif types.is_dictionary(kind):
        _check_length(array.dictionary, most)
