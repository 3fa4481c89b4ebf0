"""Find and remove, in SQL, the blobs that no document holds.

The database itself refuses to remove a blob that a document holds, so that a clean-up
may run beside any number of writers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from prefect_lume.errors import ConflictError
from prefect_lume.results.query.operands import time_text
from prefect_lume.results.stores.blobs import BlobInfo
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.clock import server_time
from prefect_lume.results.stores.sql.transactions import Transactions

_BLOB, _LINK = sql_tables.blob, sql_tables.result_blob
_UPLOAD, _UPLOAD_CHUNK = sql_tables.blob_upload, sql_tables.blob_upload_chunk

#: An upload to which nothing was added for so long is taken for abandoned.
UPLOAD_LEASE: Final = timedelta(minutes=10)

_AT_ONCE: Final = 100
_BYTES_AT_ONCE: Final = 64 << 20
_PAGE: Final = 1000
_CHUNKS_AT_ONCE: Final = 64

_HELD: Final = select(_LINK.c.sha256).where(_LINK.c.sha256 == _BLOB.c.sha256).exists()


class SQLCollector:
    """Removes the blobs of an SQL database that no document holds."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def now(self) -> datetime:
        """Return the time by the server's clock."""
        text = self._transactions.read(
            lambda c: c.execute(select(server_time(c))).scalar_one()
        )
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)

    def before(self, moment: datetime) -> list[BlobInfo]:
        """Return the blobs last stored before a moment."""
        return list(self._found(_BLOB.c.created < time_text(moment)))

    def unused(self, older_than: timedelta, among: Iterable[str]) -> list[BlobInfo]:
        """Return the blobs of some age that no document holds, by their hashes."""
        moment = time_text(self.now() - older_than)
        conditions = (_BLOB.c.created < moment, ~_HELD)
        wanted = sorted(set(among))
        if not wanted:
            return list(self._found(*conditions))
        found: list[BlobInfo] = []
        for start in range(0, len(wanted), _PAGE):
            names = _BLOB.c.sha256.in_(wanted[start : start + _PAGE])
            found += self._found(names, *conditions)
        return found

    def _found(self, *conditions: ColumnElement[bool]) -> Iterator[BlobInfo]:
        after = ""
        while True:
            page = (
                select(_BLOB.c.sha256, _BLOB.c.size)
                .where(*conditions, _BLOB.c.sha256 > after)
                .order_by(_BLOB.c.sha256)
                .limit(_PAGE)
            )
            rows = self._read(page)
            yield from (BlobInfo(*row) for row in rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def _read(self, statement: Any) -> Sequence[Any]:
        return self._transactions.read(lambda c: c.execute(statement).all())

    def delete(self, sha256: str, before: datetime) -> bool:
        """Remove a blob, unless a document holds it or it was stored since."""
        gone = self._delete([sha256], time_text(before))
        if gone:
            self._reclaim()
        return gone

    def delete_unused(
        self, older_than: timedelta, among: Iterable[str]
    ) -> list[BlobInfo]:
        """Remove the blobs of some age that no document holds, and return them."""
        names = set(among)
        before = time_text(self.now() - older_than)
        gone: list[BlobInfo] = []
        for group in _groups(self.unused(older_than, names)):
            if self._delete([info.sha256 for info in group], before):
                gone += group
            else:
                # A document or a writer came for one of them.
                gone += [i for i in group if self._delete([i.sha256], before)]
        if not names:
            self._abandon(older_than)
        self._reclaim()
        return gone

    def _delete(self, hashes: list[str], before: str) -> bool:
        """Remove all of some blobs, or none if one is held or was stored since."""

        def write(connection: Connection) -> bool:
            # The bytes of uploads follow later, bit by bit: it may be a lot of them.
            connection.execute(
                update(_UPLOAD)
                .where(_UPLOAD.c.sha256.in_(hashes))
                .values(sha256=None, renewed=None)
            )
            gone = connection.execute(
                delete(_BLOB).where(
                    _BLOB.c.sha256.in_(hashes), _BLOB.c.created < before
                )
            )
            if gone.rowcount != len(hashes):
                connection.rollback()
            return gone.rowcount == len(hashes)

        try:
            return self._transactions.write(write)
        except ConflictError:
            return False

    def _abandon(self, older_than: timedelta) -> None:
        # Less than no age means: whatever is there, nobody is writing.
        spared = older_than
        if older_than >= timedelta(0):
            spared = max(older_than, UPLOAD_LEASE)
        moment = time_text(self.now() - spared)
        stale = _UPLOAD.c.sha256.is_(None) & (_UPLOAD.c.renewed < moment)
        self._transactions.write(
            lambda c: c.execute(update(_UPLOAD).where(stale).values(renewed=None))
        )

    def _reclaim(self) -> None:
        """Remove the bytes of uploads that are to go, a part at a time."""
        doomed = select(_UPLOAD.c.id, func.max(_UPLOAD_CHUNK.c.n)).outerjoin(
            _UPLOAD_CHUNK, _UPLOAD_CHUNK.c.upload == _UPLOAD.c.id
        )
        doomed = doomed.where(_UPLOAD.c.sha256.is_(None), _UPLOAD.c.renewed.is_(None))
        for upload, last in self._read(doomed.group_by(_UPLOAD.c.id)):
            for n in range(0, (last or 0) + 1, _CHUNKS_AT_ONCE):
                part = delete(_UPLOAD_CHUNK).where(
                    _UPLOAD_CHUNK.c.upload == upload,
                    _UPLOAD_CHUNK.c.n < n + _CHUNKS_AT_ONCE,
                )
                self._write(part)
            self._write(delete(_UPLOAD).where(_UPLOAD.c.id == upload))

    def _write(self, statement: Any) -> None:
        self._transactions.write(lambda c: c.execute(statement))

    def held(self, collection: str) -> Iterator[str]:
        """Yield the hashes of the blobs that a collection's documents hold."""
        key, sha256 = _LINK.c.unique_hash, _LINK.c.sha256
        page = (
            select(key, sha256)
            .where(_LINK.c.collection == collection)
            .order_by(key, sha256)
            .limit(_PAGE)
        )
        rows = self._read(page)
        while rows:
            yield from (str(row.sha256) for row in rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1]
            beyond = or_(key > last.unique_hash, sha256 > last.sha256)
            rows = self._read(page.where(key >= last.unique_hash, beyond))

    def held_by(self, collection: str, hashes: Sequence[str]) -> list[str]:
        """Return the hashes of the blobs that some documents hold."""
        statement = (
            select(_LINK.c.sha256)
            .distinct()
            .where(_LINK.c.collection == collection, _LINK.c.unique_hash.in_(hashes))
        )
        return [str(row.sha256) for row in self._read(statement)]


def _groups(found: list[BlobInfo]) -> Iterator[list[BlobInfo]]:
    """Cut blobs into groups that are removed in one transaction each."""
    group: list[BlobInfo] = []
    size = 0
    for info in found:
        if group and (len(group) == _AT_ONCE or size + info.size > _BYTES_AT_ONCE):
            yield group
            group, size = [], 0
        group.append(info)
        size += info.size
    if group:
        yield group
