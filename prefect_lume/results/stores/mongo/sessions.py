"""What uploads leave that never end, and how it is found.

A writer that is killed leaves chunks without a file's entry. To find them, and to leave
alone a writer that is still at it, each process has a session: the ids of its files
begin with eight bytes that no other has, and a record in ``lume_blobs.uploads`` says
when it was heard of last. It is renewed every few minutes while something is uploaded,
so that it costs nothing. All times are the server's: writers' clocks may be days off.

A clean-up marks a record that was not renewed for long, and then removes the chunks in
the session's range that have no entry. A marked session cannot be renewed: its writer,
should it wake up, fails instead of making entries without chunks, and begins another.
The mark stays for another such time, for chunks that the writer adds before it notices.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from bson import ObjectId
from pymongo import DeleteMany
from pymongo import errors as driver
from pymongo.database import Database

from prefect_lume.errors import StorageError
from prefect_lume.results.stores.checks import RESERVED
from prefect_lume.storage.mongo import repeated

#: How often a session says that it is alive, in seconds, while it uploads.
_RENEW: Final = 300.0
#: A session that was heard of within this time is never taken for dead, unless a
#: clean-up is told that nobody is writing.
SILENCE: Final = timedelta(seconds=2 * _RENEW)
_DUPLICATE: Final = 11000
#: How many things are asked for or removed in one request.
BATCH: Final = 500

Document = dict[str, Any]
Item = TypeVar("Item")


class Session:
    """A process that uploads blobs. Threads may share it."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._prefix = secrets.token_bytes(8)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._record = _file_id(self._prefix, 0)
        # The server's clock, and this process's at about the same time.
        self._renewed: tuple[datetime, float] | None = None

    def next_id(self) -> ObjectId:
        """Return the id of a new file."""
        return _file_id(self._prefix, next(self._numbers))

    def server_time(self) -> datetime:
        """Return the server's clock, as far as it is known without asking."""
        there, here = self._renewed or (datetime.now(UTC), time.monotonic())
        return there + timedelta(seconds=time.monotonic() - here)

    def renew(self, database: Database[Document]) -> None:
        """Say that this session is alive, if the last time was long ago.

        Raises:
            StorageError: A clean-up took it for a dead one.
        """
        with self._lock:
            self._renew(database)

    def _renew(self, database: Database[Document]) -> None:
        new, now = self._renewed is None, time.monotonic()
        if self._renewed is not None and now - self._renewed[1] < _RENEW:
            return
        alive: Document = {"_id": self._record}
        if not new:
            alive["collected"] = {"$exists": False}
        record: Any = repeated(
            lambda: database[RESERVED].uploads.find_one_and_update(
                alive,
                {"$currentDate": {"stored": True}},
                upsert=new,
                return_document=True,
            )
        )
        if record is None:
            raise self.collected()
        self._renewed = _zoned(record["stored"]), now

    def usable(self, database: Database[Document]) -> bool:
        """Tell whether this process may begin another upload in this session."""
        if self.process != os.getpid():
            return False
        try:
            self.renew(database)
        except StorageError:
            return False
        return self.is_alive(database)

    def is_alive(self, database: Database[Document]) -> bool:
        """Tell whether no clean-up took the session for a dead one."""
        query = {"_id": self._record, "collected": {"$exists": False}}
        return database[RESERVED].uploads.find_one(query, {"_id": 1}) is not None

    def collected(self) -> StorageError:
        """Return the error of a session that a clean-up took for a dead one."""
        return StorageError(
            "Storing a blob took so long that a clean-up removed its beginning. Store "
            "it again; let clean-ups wait longer than storing takes."
        )


def server_time(database: Database[Document]) -> datetime:
    """Return the server's clock; raises pymongo's exceptions."""
    return _zoned(database.command("hello")["localTime"])


def collect(database: Database[Document], before: datetime) -> None:
    """Remove the chunks without an entry of sessions that are dead.

    Args:
        database: The database.
        before: Sessions not heard of since then are dead; by the server's clock.
    """
    uploads = database[RESERVED].uploads
    old = {"stored": {"$lt": before}}
    for record in list(uploads.find(old)):
        own = {"_id": record["_id"]}
        if "removing" in record:
            remove_chunks(database, record["removing"])
            uploads.delete_one(own)
            continue
        marked = uploads.update_one(
            {**own, **old},
            {"$set": {"collected": True}, "$currentDate": {"stored": True}},
        )
        if marked.matched_count:
            _remove_orphans(database, record["_id"])
            if record.get("collected"):
                uploads.delete_one(own)


def remove_chunks(database: Database[Document], ids: Sequence[ObjectId]) -> None:
    """Remove the chunks of files, except of those that have an entry."""
    blobs = database[RESERVED]
    there = {f["_id"] for f in blobs.files.find({"_id": {"$in": ids}}, {"_id": 1})}
    gone = [key for key in ids if key not in there]
    blobs.chunks.delete_many({"files_id": {"$in": gone}})


def insert_missing(collection: Any, documents: Sequence[Document]) -> None:
    """Insert documents, also if the answer is lost and some are there already."""
    try:
        collection.insert_many(documents, ordered=False)
        return
    except driver.AutoReconnect:
        pass
    try:
        collection.insert_many(documents, ordered=False)
    except driver.BulkWriteError as error:
        if any(item["code"] != _DUPLICATE for item in error.details["writeErrors"]):
            raise


def batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Yield items in lists of at most :data:`BATCH`."""
    for start in range(0, len(items), BATCH):
        yield list(items[start : start + BATCH])


def _remove_orphans(database: Database[Document], record: ObjectId) -> None:
    """Remove the chunks of a session in the gaps between its files."""
    prefix = record.binary[:8]
    last = _file_id(prefix, 2**32 - 1)
    files = database[RESERVED].files.find(
        {"_id": {"$gt": record, "$lte": last}}, {"_id": 1}, sort=[("_id", 1)]
    )
    # Files that a clean-up removed leave gaps too: their chunks are gone already.
    gaps, before = [], record
    for file in files:
        if _number(file["_id"]) > _number(before) + 1:
            gaps.append(DeleteMany({"files_id": {"$gt": before, "$lt": file["_id"]}}))
        before = file["_id"]
    gaps.append(DeleteMany({"files_id": {"$gt": before, "$lte": last}}))
    for batch in batches(gaps):
        database[RESERVED].chunks.bulk_write(batch, ordered=False)


def _file_id(prefix: bytes, number: int) -> ObjectId:
    return ObjectId(prefix + number.to_bytes(4, "big"))


def _number(key: ObjectId) -> int:
    return int.from_bytes(key.binary[8:], "big")


def _zoned(moment: datetime) -> datetime:
    # Whether the zone comes along is an option of the client.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
