"""Blobs in SQL: chunks of one mebibyte, visible all at once or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from prefect_lume.errors import ConflictError, NotFoundError
from prefect_lume.results.query.operands import time_text
from prefect_lume.results.stores import sql_tables
from prefect_lume.results.stores.blobs import BlobInfo
from prefect_lume.results.stores.sql_transactions import Transactions

_BLOB, _CHUNK = sql_tables.blob, sql_tables.blob_chunk
#: A blob that is stored again counts as new if it is older than this.
_RENEW: Final = timedelta(hours=1)


class SQLBlobs:
    """The blobs of an SQL database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Store a blob in a transaction of its own, unless it is there."""

        def write(connection: Connection) -> None:
            view = memoryview(data).cast("B")
            count = -(-len(view) // sql_tables.CHUNK_SIZE)
            connection.execute(
                insert(_BLOB).values(
                    sha256=sha256, size=len(view), chunks=count, created=_now()
                )
            )
            for n in range(count):
                start = n * sql_tables.CHUNK_SIZE
                part = bytes(view[start : start + sql_tables.CHUNK_SIZE])
                connection.execute(insert(_CHUNK).values(sha256=sha256, n=n, data=part))

        if self._renew(sha256):
            return
        try:
            self._transactions.write(write)
        except ConflictError:
            # Another writer was faster: the content is the same by its hash.
            if not self._renew(sha256):
                raise

    def _renew(self, sha256: str) -> bool:
        """Return whether a blob is there, and keep a clean-up from taking it."""
        statement = select(_BLOB.c.created).where(_BLOB.c.sha256 == sha256)
        created = self._transactions.read(lambda c: c.execute(statement).scalar())
        if created is None:
            return False
        if created >= time_text(datetime.now(UTC) - _RENEW):
            return True
        renew = update(_BLOB).where(_BLOB.c.sha256 == sha256).values(created=_now())
        return self._transactions.write(lambda c: c.execute(renew).rowcount) > 0

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's chunks."""
        statement = select(_BLOB.c.chunks).where(_BLOB.c.sha256 == sha256)
        count = self._transactions.read(lambda c: c.execute(statement).scalar())
        if count is None:
            raise NotFoundError("blob", sha256)
        for n in range(count):
            yield self._chunk(sha256, n)

    def _chunk(self, sha256: str, n: int) -> bytes:
        statement = select(_CHUNK.c.data).where(
            _CHUNK.c.sha256 == sha256, _CHUNK.c.n == n
        )
        # Missing only if somebody removed it: then the blob's hash tells.
        return bytes(
            self._transactions.read(lambda c: c.execute(statement).scalar()) or b""
        )

    def older_than(self, moment: datetime) -> list[BlobInfo]:
        """Return the hashes of the blobs last stored before a moment."""
        statement = select(_BLOB.c.sha256, _BLOB.c.size).where(
            _BLOB.c.created < time_text(moment)
        )
        rows = self._transactions.read(lambda c: c.execute(statement).all())
        return [BlobInfo(*row) for row in rows]

    def delete(self, sha256: str, before: datetime) -> bool:
        """Remove a blob, unless it was stored again since a moment."""

        def write(connection: Connection) -> bool:
            connection.execute(delete(_CHUNK).where(_CHUNK.c.sha256 == sha256))
            gone = connection.execute(
                delete(_BLOB).where(
                    _BLOB.c.sha256 == sha256, _BLOB.c.created < time_text(before)
                )
            )
            if not gone.rowcount:
                connection.rollback()
            return bool(gone.rowcount)

        return self._transactions.write(write)


def _now() -> str:
    return time_text(datetime.now(UTC))
