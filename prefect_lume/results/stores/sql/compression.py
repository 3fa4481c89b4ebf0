"""Compress the chunks of a blob when it pays, and read them back safely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prefect_lume.errors import IntegrityError
from prefect_lume.results.stores.blobs import Data
from prefect_lume.results.stores.sql.tables import CHUNK_SIZE

PLAIN: Final = ""
ZSTD: Final = "zstd"

#: A sample must shrink to this part of its size, or the blob stays as it is.
_WORTH: Final = 0.8
_SAMPLE: Final = 1 << 16
_SMALLEST: Final = 512
_LEVEL: Final = 3


def encoding_for(chunks: Sequence[Data]) -> str:
    """Return how a blob is best stored, judged by the start of its first chunks.

    Args:
        chunks: The first chunks of its content, or all of them.

    Returns:
        ``"zstd"`` if compression saves a fifth or more, else ``""``.

    Example:
        >>> encoding_for([bytes(10_000)])
        'zstd'
        >>> encoding_for([b"small"])
        ''
    """
    sample = b"".join(bytes(memoryview(chunk)[:_SAMPLE]) for chunk in chunks)
    if len(sample) < _SMALLEST:
        return PLAIN
    return ZSTD if len(compressed(sample, ZSTD)) <= _WORTH * len(sample) else PLAIN


def compressed(chunk: Data, encoding: str) -> bytes:
    """Return a chunk as it is stored."""
    if encoding == PLAIN:
        return bytes(chunk)
    import zstandard

    # Not shared: a compressor must not be used by two threads at once.
    return zstandard.ZstdCompressor(level=_LEVEL).compress(chunk)


def decompressed(data: bytes, encoding: str, sha256: str) -> bytes:
    """Return the content of a stored chunk: at most ``CHUNK_SIZE`` bytes.

    Args:
        data: The stored bytes.
        encoding: As :func:`encoding_for` named it.
        sha256: The blob, for messages.

    Raises:
        IntegrityError: The bytes are no such frame, or would become more than a chunk
            holds.
    """
    if encoding == PLAIN:
        return data
    if encoding != ZSTD:
        raise IntegrityError(
            f"The stored blob {sha256[:12]}… has the encoding {encoding[:20]!r}, which "
            f"this version of prefect-lume does not know."
        )
    import zstandard

    try:
        # The frame itself says how much memory to take: look before it is believed.
        size = zstandard.frame_content_size(data)
        if size > CHUNK_SIZE:
            raise zstandard.ZstdError(f"{size} bytes are more than a chunk holds")
        return zstandard.ZstdDecompressor().decompress(
            data, max_output_size=CHUNK_SIZE, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise IntegrityError(
            f"The stored blob {sha256[:12]}… is damaged: a compressed part cannot be "
            f"read ({error}). Restore it from a backup, or delete the results "
            "that hold it and run the model again."
        ) from error
