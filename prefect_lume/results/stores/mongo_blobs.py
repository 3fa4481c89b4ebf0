"""Blobs in GridFS: visible all at once or not at all, whoever else writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gridfs import GridFSBucket
from gridfs.errors import CorruptGridFile, NoFile
from pymongo.database import Database

from prefect_lume.errors import IntegrityError, NotFoundError, clip
from prefect_lume.results.stores.blobs import BlobInfo
from prefect_lume.results.stores.checks import RESERVED

CHUNK_SIZE: Final = 1 << 20
_RENEW: Final = timedelta(hours=1)


class MongoBlobs:
    """The blobs of a MongoDB database.

    A GridFS file is named by its SHA-256 and has an id of its own. Two writers of one
    blob may store it twice; with the hash as the id, the one that comes second would
    remove the chunks of the first while it cleans up. GridFS writes the file's entry
    after its chunks, so that no reader finds a part of a blob.
    """

    def __init__(self, database: Callable[[], Database[dict[str, Any]]]) -> None:
        self._database = database

    def _bucket(self) -> GridFSBucket:
        return GridFSBucket(self._database(), RESERVED, CHUNK_SIZE)

    def _files(self) -> Any:
        return self._database()[RESERVED].files

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Store a blob, unless it is there."""
        size = memoryview(data).nbytes
        now = datetime.now(UTC)
        known = self._files().find_one_and_update(
            {"filename": sha256, "length": size}, {"$set": {"metadata.stored": now}}
        )
        if known is None:
            self._bucket().upload_from_stream(
                sha256, bytes(data), metadata={"stored": now}
            )

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's chunks."""
        try:
            stream = self._bucket().open_download_stream_by_name(sha256)
        except NoFile as error:
            raise NotFoundError("blob", sha256) from error
        with stream:
            try:
                while chunk := stream.read(CHUNK_SIZE):
                    yield chunk
            except CorruptGridFile as error:
                raise IntegrityError(
                    f"The stored blob {sha256[:12]}… is damaged: {clip(error)}"
                ) from error

    def older_than(self, moment: datetime) -> list[BlobInfo]:
        """Return the hashes of the blobs last stored before a moment."""
        query = {"metadata.stored": {"$lt": moment}}
        found = {file["filename"]: file["length"] for file in self._files().find(query)}
        return [BlobInfo(*item) for item in sorted(found.items())]

    def delete(self, sha256: str, before: datetime) -> bool:
        """Remove a blob, unless it was stored again since a moment."""
        files = self._files()
        if files.count_documents(
            {"filename": sha256, "metadata.stored": {"$gte": before}}
        ):
            return False
        gone = False
        for file in list(files.find({"filename": sha256})):
            # The entry first: a reader must not find a file that lacks chunks.
            removed = files.delete_one(
                {"_id": file["_id"], "metadata.stored": {"$lt": before}}
            )
            if removed.deleted_count:
                self._database()[RESERVED].chunks.delete_many({"files_id": file["_id"]})
                gone = True
        return gone
