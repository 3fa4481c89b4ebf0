"""How blobs get into GridFS.

GridFS keeps a file as chunks and an entry that is written after them: nobody sees a
file before it is whole. See ``mongo_sessions`` for what becomes of the chunks of a
writer that is killed in between.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple

from bson import ObjectId
from pymongo import UpdateOne
from pymongo import errors as driver
from pymongo.database import Database

from prefect_lume.results.stores.blobs import PIECE_SIZE, Data, verified
from prefect_lume.results.stores.checks import RESERVED
from prefect_lume.results.stores.mongo.sessions import (
    Document,
    Session,
    insert_missing,
)
from prefect_lume.storage.mongo import repeated

#: The size of GridFS's chunks: that of the pieces, so that they need not be cut.
CHUNK_SIZE: Final = PIECE_SIZE
#: How many bytes of chunks and how many files go in one request.
_BYTES_AT_ONCE: Final = 2 * CHUNK_SIZE
_FILES_AT_ONCE: Final = 200
#: How many requests are under way at once: a server writes them side by side.
_REQUESTS_AT_ONCE: Final = 2
#: Compression must save this share of a sample, or it is not worth its time.
_SAVING: Final = 0.2
_SAMPLE: Final = 1 << 17
_LEVEL: Final = 3


class Source(NamedTuple):
    """A blob that is to be stored.

    Attributes:
        sha256: The SHA-256 of the content.
        size: Its size in bytes.
        pieces: The content.
    """

    sha256: str
    size: int
    pieces: Iterable[Data]


class Uploads:
    """Blobs on their way into GridFS; raises pymongo's exceptions.

    Args:
        database: The database.
        session: The writer's session.
    """

    def __init__(self, database: Database[Document], session: Session) -> None:
        self._database, self._session = database, session
        self._files = database[RESERVED].files
        self._chunks = database[RESERVED].chunks
        self._buffer: list[Document] = []
        self._buffered = 0
        self._threads: ThreadPoolExecutor | None = None
        self._under_way: deque[Future[None]] = deque()
        self._entries: dict[ObjectId, Document] = {}
        self._unfinished: list[ObjectId] = []

    def run(self, sources: Iterable[Source]) -> None:
        """Store blobs, small ones many at a time, in bounded memory.

        Raises:
            IntegrityError: One has another hash or size. Nothing is left of it, nor of
                those after it.
            StorageError: A clean-up took the session for a dead one.
        """
        try:
            for source in sources:
                self._write(source)
                if len(self._entries) >= _FILES_AT_ONCE:
                    self._finish()
            self._finish()
        except BaseException:
            self._stop()
            # If this fails too, a clean-up finds the chunks by the session's record.
            with suppress(driver.PyMongoError):
                self._discard(self._unfinished)
            raise
        finally:
            self._stop()

    def _write(self, source: Source) -> None:
        key = self._session.next_id()
        self._unfinished.append(key)
        content = verified(source.sha256, source.size, source.pieces)
        encoding, content = _compressed(content)
        length = 0
        for n, data in enumerate(_chunks(content)):
            chunk = {"_id": ObjectId(), "files_id": key, "n": n, "data": data}
            self._buffer.append(chunk)
            self._buffered += len(data)
            length += len(data)
            if self._buffered >= _BYTES_AT_ONCE:
                self._send()
        entry = {
            "_id": key,
            "filename": source.sha256,
            "length": length,
            "chunkSize": CHUNK_SIZE,
            "uploadDate": self._session.server_time(),
        }
        if encoding:
            entry["metadata.encoding"] = encoding
            entry["metadata.size"] = source.size
        self._entries[key] = entry

    def _send(self) -> None:
        """Write the chunks so far in a thread, while the next ones are made ready."""
        self._session.renew(self._database)
        if self._threads is None:
            name = "prefect-lume-upload"
            self._threads = ThreadPoolExecutor(_REQUESTS_AT_ONCE, name)
        while len(self._under_way) >= _REQUESTS_AT_ONCE:
            self._under_way.popleft().result()
        sent = self._threads.submit(insert_missing, self._chunks, self._buffer)
        self._under_way.append(sent)
        self._buffer, self._buffered = [], 0

    def _stop(self) -> None:
        """Wait for what is under way."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def _finish(self) -> None:
        if self._buffer:
            self._session.renew(self._database)
            insert_missing(self._chunks, self._buffer)
        self._buffer, self._buffered = [], 0
        while self._under_way:
            self._under_way.popleft().result()
        if not self._entries:
            return
        self._session.renew(self._database)
        # From here on nothing is undone when something fails: an entry may be there,
        # and others may count on it.
        entries, self._entries, self._unfinished = self._entries, {}, []
        made = repeated(
            lambda: self._files.bulk_write(list(map(_upsert, entries.values())))
        )
        if made.upserted_count < len(entries):
            # Another writer of the same blob was faster, or an answer was lost.
            listed = {"_id": {"$in": list(entries)}}
            own = {file["_id"] for file in self._files.find(listed, {"_id": 1})}
            self._discard([key for key in entries if key not in own])
        if not self._session.is_alive(self._database):
            # Between the renewal and the entries: their chunks may be gone.
            repeated(lambda: self._files.delete_many({"_id": {"$in": list(entries)}}))
            raise self._session.collected()

    def _discard(self, keys: list[ObjectId]) -> None:
        if keys:
            self._chunks.delete_many({"files_id": {"$in": keys}})


def _upsert(entry: Document) -> UpdateOne:
    rest = {name: value for name, value in entry.items() if name != "filename"}
    return UpdateOne(
        {"filename": entry["filename"]},
        {"$setOnInsert": rest, "$currentDate": {"metadata.stored": True}},
        upsert=True,
    )


def _compressed(content: Iterator[Data]) -> tuple[str, Iterator[Data]]:
    """Return the name of the compression that pays, or "", and the content with it."""
    import zstandard

    first = next(content, b"")
    sample = memoryview(first)[:_SAMPLE]
    content = itertools.chain([first], content)
    small = len(zstandard.ZstdCompressor(level=_LEVEL).compress(sample))
    if small > sample.nbytes * (1 - _SAVING):
        return "", content
    return "zstd", _zstd(content)


def _zstd(content: Iterator[Data]) -> Iterator[Data]:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    for piece in content:
        yield compressor.compress(piece)
    yield compressor.flush()


def _chunks(content: Iterable[Data]) -> Iterator[bytes]:
    """Yield content in parts of :data:`CHUNK_SIZE`, the last one smaller."""
    kept = bytearray()
    for piece in content:
        if not kept and len(piece) == CHUNK_SIZE:
            yield bytes(piece)
            continue
        kept += piece
        while len(kept) >= CHUNK_SIZE:
            yield bytes(kept[:CHUNK_SIZE])
            del kept[:CHUNK_SIZE]
    if kept:
        yield bytes(kept)
