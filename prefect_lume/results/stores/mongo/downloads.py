"""How blobs come out of GridFS: several requests at a time, in order."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from pymongo.collection import Collection

from prefect_lume.errors import IntegrityError, clip
from prefect_lume.results.stores.blobs import PIECE_SIZE

Document = dict[str, Any]

#: How many chunks come in one answer.
_CHUNKS_AT_ONCE: Final = 2
#: How many requests are under way at once: a server answers them side by side.
_REQUESTS_AT_ONCE: Final = 2
#: Writers of ours need 2 MiB; more could be a trap.
_WINDOW: Final = 1 << 23


def read_chunks(chunks: Collection[Document], file: Document) -> Iterator[bytes]:
    """Yield the chunks of a file in order, as far as they are there.

    Args:
        chunks: GridFS's collection of chunks.
        file: The file's entry.

    Raises:
        IntegrityError: The entry is not one that any writer makes.
    """
    size, length = file.get("chunkSize"), file.get("length")
    if not (isinstance(size, int) and isinstance(length, int) and size > 0):
        raise damaged(file, "its entry has no sizes")
    count = -(-length // size)
    starts = iter(range(0, count, _CHUNKS_AT_ONCE))
    if count <= _CHUNKS_AT_ONCE:
        yield from _read(chunks, file, 0)
        return
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE, "prefect-lume-download") as threads:
        under_way: deque[Future[list[bytes]]] = deque()
        for _ in range(_REQUESTS_AT_ONCE):
            _ask(threads, under_way, chunks, file, starts)
        while under_way:
            found = under_way.popleft().result()
            if len(found) == _CHUNKS_AT_ONCE:
                _ask(threads, under_way, chunks, file, starts)
            yield from found
            if len(found) < _CHUNKS_AT_ONCE:
                # The last ones, or some are missing: what follows is of no use.
                return


def _ask(
    threads: ThreadPoolExecutor,
    under_way: deque[Future[list[bytes]]],
    chunks: Collection[Document],
    file: Document,
    starts: Iterator[int],
) -> None:
    start = next(starts, None)
    if start is not None:
        under_way.append(threads.submit(_read, chunks, file, start))


def _read(chunks: Collection[Document], file: Document, start: int) -> list[bytes]:
    """Return a few chunks, up to the first that is missing or none of ours."""
    query = {
        "files_id": file["_id"],
        "n": {"$gte": start, "$lt": start + _CHUNKS_AT_ONCE},
    }
    found: list[bytes] = []
    for chunk in chunks.find(query, {"_id": 0, "n": 1, "data": 1}, sort=[("n", 1)]):
        data = chunk.get("data")
        if chunk["n"] != start + len(found) or not isinstance(data, bytes):
            break
        found.append(data)
    return found


class _Source(io.RawIOBase):
    """Chunks as a file that can be read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def decompressed(chunks: Iterator[bytes], file: Document) -> Iterator[bytes]:
    """Yield the content of a compressed blob in pieces.

    Args:
        chunks: What is stored.
        file: The blob's entry.

    Raises:
        IntegrityError: It is not what its entry says.
    """
    import zstandard

    left = file["metadata"].get("size", -1)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    try:
        source = io.BufferedReader(_Source(chunks), PIECE_SIZE)
        with decompressor.stream_reader(source) as reader:
            while piece := reader.read(PIECE_SIZE):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
    except zstandard.ZstdError as error:
        raise damaged(file, str(error)) from error
    if left:
        raise damaged(file, "its size is not what its entry says")


def damaged(file: Document, why: str) -> IntegrityError:
    """Return the error that a blob is not what was stored once."""
    return IntegrityError(
        f"The stored blob {file['filename'][:12]}… is damaged: {clip(why)}. Restore it "
        f"from a backup, or delete the results that hold it and run the model again."
    )
