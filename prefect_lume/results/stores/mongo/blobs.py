"""Blobs in GridFS: visible all at once or not at all, whoever else writes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId
from pymongo.database import Database

from prefect_lume.errors import NotFoundError, clip
from prefect_lume.results.stores.blobs import BlobInfo
from prefect_lume.results.stores.checks import RESERVED
from prefect_lume.results.stores.mongo import sessions
from prefect_lume.results.stores.mongo.downloads import (
    damaged,
    decompressed,
    read_chunks,
)
from prefect_lume.results.stores.mongo.sessions import Session
from prefect_lume.results.stores.mongo.uploads import Source, Uploads
from prefect_lume.storage.mongo import repeated

ZERO: Final = timedelta()

Document = dict[str, Any]


class MongoBlobs:
    """The blobs of a MongoDB database; its methods raise pymongo's exceptions.

    A GridFS file is named by its SHA-256 and has an id of its own. Two writers of one
    blob may store it twice; with the hash as the id, the one that comes second would
    remove the chunks of the first while it cleans up. ``metadata.stored`` is when it
    was stored last, by the server's clock; ``metadata.encoding`` how it is compressed,
    if it is, and ``metadata.size`` its size without.
    """

    def __init__(self, database: Callable[[], Database[Document]]) -> None:
        self._database = database
        self._indexed = False
        self._session = Session()

    def _files(self) -> Any:
        return self._database()[RESERVED].files

    def touch(self, hashes: Collection[str]) -> set[str]:
        """Let blobs count as stored now, and return those that are there."""
        files, wanted = self._files(), {"filename": {"$in": list(hashes)}}
        touched = repeated(
            lambda: files.update_many(
                wanted, {"$currentDate": {"metadata.stored": True}}
            )
        )
        if not touched.matched_count:
            return set()
        return set(hashes) if len(hashes) == 1 else self.present(hashes)

    def present(self, hashes: Collection[str]) -> set[str]:
        """Return which of these blobs are there."""
        query = {"filename": {"$in": list(hashes)}}
        found = self._files().find(query, {"filename": 1, "_id": 0})
        return {file["filename"] for file in found}

    def upload(self, sources: Iterable[Source]) -> None:
        """Store blobs, without asking whether they are there."""
        database = self._database()
        if not self._indexed:
            # As the GridFS specification wants them.
            database[RESERVED].files.create_index([("filename", 1), ("uploadDate", 1)])
            chunks = [("files_id", 1), ("n", 1)]
            database[RESERVED].chunks.create_index(chunks, unique=True)
            self._indexed = True
        session = self._session
        if not session.usable(database):
            self._session = session = Session()
            session.renew(database)
        Uploads(database, session).run(sources)

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's content in pieces.

        Raises:
            NotFoundError: There is no such blob.
            IntegrityError: What is stored of it is not whole or not readable.
        """
        file = self._files().find_one({"filename": sha256})
        if file is None:
            raise NotFoundError("blob", sha256)
        encoding = file.get("metadata", {}).get("encoding")
        if encoding is None:
            yield from self._chunks(file)
        elif encoding == "zstd":
            yield from decompressed(self._chunks(file), file)
        else:
            raise damaged(file, f"it is compressed with {clip(repr(encoding), 40)}")

    def _chunks(self, file: Document) -> Iterator[bytes]:
        total = 0
        for data in read_chunks(self._database()[RESERVED].chunks, file):
            total += len(data)
            yield data
        if total == file["length"]:
            return
        if self._files().find_one({"_id": file["_id"]}, {"_id": 1}) is None:
            raise NotFoundError("blob", file["filename"])  # Removed meanwhile.
        raise damaged(file, f"{total} of {file['length']} bytes are there")

    def before(
        self, moment: datetime, among: Collection[str] = ()
    ) -> Iterator[dict[str, BlobInfo]]:
        """Yield the blobs that were last stored before a moment, in batches."""
        old = {"metadata.stored": {"$lt": moment}}
        kept = {"filename": 1, "length": 1, "metadata": 1}
        if among:
            for hashes in sessions.batches(sorted(among)):
                query = {"filename": {"$in": hashes}, **old}
                yield _infos(self._files().find(query, kept))
            return
        last: Document = {}
        # Page by page: a cursor would not outlast what happens to each.
        while page := list(
            self._files().find({**old, **last}, kept, sort=[("_id", 1)]).limit(1000)
        ):
            yield _infos(page)
            last = {"_id": {"$gt": page[-1]["_id"]}}

    def delete(self, hashes: Collection[str], before: datetime) -> set[str]:
        """Remove blobs that were not stored since a moment; return those now gone."""
        database = self._database()
        blobs, wanted = database[RESERVED], {"filename": {"$in": list(hashes)}}
        old = {"metadata.stored": {"$lt": before}}
        ids = [file["_id"] for file in blobs.files.find({**wanted, **old}, {"_id": 1})]
        if not ids:
            return set()
        # Should this process die between entries and chunks, the record tells of them.
        now = sessions.server_time(database)
        record = {"_id": ObjectId(), "stored": now, "removing": ids}
        sessions.insert_missing(blobs.uploads, [record])
        repeated(lambda: blobs.files.delete_many({"_id": {"$in": ids}, **old}))
        repeated(lambda: sessions.remove_chunks(database, ids))
        repeated(lambda: blobs.uploads.delete_one({"_id": record["_id"]}))
        return set(hashes) - self.present(hashes)

    def collect_uploads(self, older_than: timedelta) -> None:
        """Remove what writers left that were not heard of for some time."""
        database = self._database()
        wait = max(older_than, sessions.SILENCE) if older_than > ZERO else older_than
        sessions.collect(database, sessions.server_time(database) - wait)

    def now(self) -> datetime:
        """Return the server's clock."""
        return sessions.server_time(self._database())


def _infos(files: Iterable[Document]) -> dict[str, BlobInfo]:
    return {
        file["filename"]: BlobInfo(
            file["filename"], file["metadata"].get("size", file["length"])
        )
        for file in files
    }
