"""Blobs in SQL: chunks of one mebibyte, visible all at once or not at all.

A blob of a few chunks is stored in one transaction. A larger one is stored in many
short ones, so that nobody else is kept waiting, as an *upload*: bytes under an
identifier of their own, which nobody sees. The last transaction makes the blob and
gives it the upload. What a writer that died leaves behind is an upload that nobody
renews; see :mod:`prefect_lume.results.stores.sql.collector`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, insert, select, update

from prefect_lume.errors import (
    ConflictError,
    IntegrityError,
    LumeError,
    NotFoundError,
    StorageError,
)
from prefect_lume.results.stores.blobs import Data, pieces_of, verified
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.clock import server_time
from prefect_lume.results.stores.sql.compression import (
    compressed,
    decompressed,
    encoding_for,
)
from prefect_lume.results.stores.sql.tables import CHUNK_SIZE
from prefect_lume.results.stores.sql.transactions import (
    RepeatedConflictError,
    Transactions,
)

_BLOB, _CHUNK = sql_tables.blob, sql_tables.blob_chunk
_UPLOAD, _UPLOAD_CHUNK = sql_tables.blob_upload, sql_tables.blob_upload_chunk

#: Chunks written in one transaction, and read in one round trip.
_WRITE_AT_ONCE: Final = 8
_READ_AT_ONCE: Final = 4
_NAMES_AT_ONCE: Final = 500
#: Small blobs stored in one transaction.
_BLOBS_AT_ONCE: Final = 100
_ATTEMPTS: Final = 20


class _Header(NamedTuple):
    """A blob's row, and the upload that holds its bytes, if one does."""

    sha256: str
    size: int
    chunks: int
    encoding: str
    upload: str | None


class SQLBlobs:
    """The blobs of an SQL database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def write(self, sha256: str, size: int, pieces: Iterable[Data]) -> None:
        """Store a blob piece by piece; if it is there, count it as stored now."""
        if self._renew(sha256):
            return
        chunks = _chunks(verified(sha256, size, pieces))
        first = list(islice(chunks, _WRITE_AT_ONCE))
        encoding = encoding_for(first)
        following = next(chunks, None)
        if following is None:
            self._write_small(_Small.of(sha256, size, encoding, first))
        else:
            rest = chain(first, [following], chunks)
            self._write_large(sha256, size, encoding, rest)

    def _renew(self, sha256: str) -> bool:
        """Return whether a blob is there, and keep a clean-up from taking it."""
        statement = select(_BLOB.c.sha256).where(_BLOB.c.sha256 == sha256)
        found = self._transactions.read(lambda c: c.execute(statement).scalar())
        if found is None:
            return False

        def renew(connection: Connection) -> bool:
            changed = connection.execute(
                update(_BLOB)
                .where(_BLOB.c.sha256 == sha256)
                .values(created=server_time(connection))
            )
            return changed.rowcount > 0

        return self._transactions.write(renew)

    def _write_small(self, blob: _Small) -> None:
        for _ in range(_ATTEMPTS):
            try:
                self._transactions.write(lambda c: _insert_small(c, [blob]))
            except ConflictError:
                # Another writer was faster: the content is the same by its hash. It
                # may be cleaned up at once, being held by no document yet.
                if self._renew(blob.row["sha256"]):
                    return
            else:
                return
        raise _taken_away(blob.row["sha256"])

    def _write_large(
        self, sha256: str, size: int, encoding: str, chunks: Iterator[Data]
    ) -> None:
        upload = secrets.token_hex(32)
        self._once(_begin_upload, upload)
        try:
            count = 0
            while batch := list(islice(chunks, _WRITE_AT_ONCE)):
                rows = [
                    {"upload": upload, "n": n, "data": compressed(chunk, encoding)}
                    for n, chunk in enumerate(batch, count)
                ]
                self._once(_add_to_upload, upload, rows)
                count += len(batch)
            self._complete(upload, _row(sha256, size, count, encoding))
        except BaseException:
            # As good as it goes: what remains is cleaned up as any dead upload is.
            with suppress(LumeError):
                self._abandon(upload)
            raise

    def _once(self, work: Callable[..., None], *arguments: Any) -> None:
        # Nobody else knows the upload: a conflict after a lost connection is with the
        # first run of the same work, which was committed.
        with suppress(RepeatedConflictError):
            self._transactions.write(lambda c: work(c, *arguments))

    def _complete(self, upload: str, row: dict[str, Any]) -> None:
        def write(connection: Connection) -> None:
            now = server_time(connection)
            connection.execute(insert(_BLOB).values(**row, created=now))
            found = connection.execute(
                update(_UPLOAD)
                .where(_UPLOAD.c.id == upload, _UPLOAD.c.renewed.is_not(None))
                .values(sha256=row["sha256"])
            )
            if not found.rowcount:
                raise _stood_still()

        for _ in range(_ATTEMPTS):
            try:
                self._transactions.write(write)
            except ConflictError:
                if self._renew(row["sha256"]):
                    # Another's upload is taken, or this one, by a run that was lost.
                    self._abandon(upload)
                    return
            else:
                return
        raise _taken_away(row["sha256"])

    def _abandon(self, upload: str) -> None:
        self._transactions.write(
            lambda c: c.execute(
                update(_UPLOAD)
                .where(_UPLOAD.c.id == upload, _UPLOAD.c.sha256.is_(None))
                .values(renewed=None)
            )
        )

    def missing(self, names: Iterable[str]) -> set[str]:
        """Return those of some hashes of which no blob is stored."""
        wanted = sorted(names)
        left = set(wanted)
        for start in range(0, len(wanted), _NAMES_AT_ONCE):
            left -= self._stored(wanted[start : start + _NAMES_AT_ONCE])
        return left

    def _stored(self, names: list[str]) -> set[str]:
        statement = select(_BLOB.c.sha256).where(_BLOB.c.sha256.in_(names))
        return set(
            self._transactions.read(lambda c: c.execute(statement).scalars().all())
        )

    def write_all(self, blobs: Mapping[str, Data]) -> None:
        """Store blobs that are in memory and not stored yet, small ones together.

        Raises:
            IntegrityError: One has another hash.
        """
        most = _WRITE_AT_ONCE * CHUNK_SIZE
        group: list[_Small] = []
        size = 0
        for sha256, data in sorted(blobs.items()):
            view = memoryview(data).cast("B")
            if view.nbytes > most:
                self.write(sha256, view.nbytes, pieces_of(view))
                continue
            if size + view.nbytes > most or len(group) == _BLOBS_AT_ONCE:
                self._write_group(group)
                group, size = [], 0
            pieces = list(verified(sha256, view.nbytes, pieces_of(view)))
            encoding = encoding_for(pieces)
            group.append(_Small.of(sha256, view.nbytes, encoding, pieces))
            size += view.nbytes
        self._write_group(group)

    def _write_group(self, group: list[_Small]) -> None:
        if not group:
            return
        try:
            self._transactions.write(lambda c: _insert_small(c, group))
        except ConflictError:
            for blob in group:
                self._write_small(blob)

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's chunks, a few in each round trip."""
        header = self._header(sha256)
        if header is None:
            raise NotFoundError("blob", sha256)
        n = 0
        while n < header.chunks:
            rows = self._rows(header, n)
            if not rows:
                # Removed meanwhile, and perhaps stored again.
                again = self._header(sha256)
                if again is None:
                    raise NotFoundError("blob", sha256)
                if again == header:
                    raise IntegrityError(
                        f"The stored blob {sha256[:12]}… is damaged: part {n} of "
                        f"{header.chunks} is missing. Restore it from a backup, or run "
                        f"the model again."
                    )
                header = again
            for data in rows:
                yield decompressed(data, header.encoding, sha256)
                n += 1

    def _header(self, sha256: str) -> _Header | None:
        statement = (
            select(
                _BLOB.c.sha256,
                _BLOB.c.size,
                _BLOB.c.chunks,
                _BLOB.c.encoding,
                _UPLOAD.c.id,
            )
            .outerjoin(_UPLOAD, _UPLOAD.c.sha256 == _BLOB.c.sha256)
            .where(_BLOB.c.sha256 == sha256)
        )
        row = self._transactions.read(lambda c: c.execute(statement).first())
        return None if row is None else _Header(*row)

    def _rows(self, header: _Header, n: int) -> list[bytes]:
        """Return the chunks from one on that follow each other."""
        table: Table = _CHUNK
        owner: ColumnElement[bool] = _CHUNK.c.sha256 == header.sha256
        if header.upload is not None:
            table, owner = _UPLOAD_CHUNK, _UPLOAD_CHUNK.c.upload == header.upload
        statement = (
            select(table.c.n, table.c.data)
            .where(owner, table.c.n >= n, table.c.n < n + _READ_AT_ONCE)
            .order_by(table.c.n)
        )
        rows = self._transactions.read(lambda c: c.execute(statement).all())
        return [bytes(row.data) for at, row in enumerate(rows, n) if row.n == at]


class _Small(NamedTuple):
    """A blob that is stored in one transaction."""

    row: dict[str, Any]
    chunks: list[bytes]

    @classmethod
    def of(cls, sha256: str, size: int, encoding: str, chunks: list[Data]) -> _Small:
        """Compress the chunks."""
        return cls(
            _row(sha256, size, len(chunks), encoding),
            [compressed(chunk, encoding) for chunk in chunks],
        )


def _row(sha256: str, size: int, chunks: int, encoding: str) -> dict[str, Any]:
    return {"sha256": sha256, "size": size, "chunks": chunks, "encoding": encoding}


def _insert_small(connection: Connection, group: list[_Small]) -> None:
    statement = insert(_BLOB).values(created=server_time(connection))
    connection.execute(statement, [blob.row for blob in group])
    rows = [
        {"sha256": blob.row["sha256"], "n": n, "data": data}
        for blob in group
        for n, data in enumerate(blob.chunks)
    ]
    if rows:
        connection.execute(insert(_CHUNK), rows)


def _begin_upload(connection: Connection, upload: str) -> None:
    connection.execute(
        insert(_UPLOAD).values(id=upload, renewed=server_time(connection))
    )


def _add_to_upload(
    connection: Connection, upload: str, rows: list[dict[str, Any]]
) -> None:
    renewed = connection.execute(
        update(_UPLOAD)
        .where(_UPLOAD.c.id == upload, _UPLOAD.c.renewed.is_not(None))
        .values(renewed=server_time(connection))
    )
    if not renewed.rowcount:
        raise _stood_still()
    connection.execute(insert(_UPLOAD_CHUNK), rows)


def _chunks(pieces: Iterable[Data]) -> Iterator[Data]:
    """Yield content in chunks of ``CHUNK_SIZE``, copying only what does not fit."""
    kept = bytearray()
    for piece in pieces:
        for part in pieces_of(piece):
            if not kept and part.nbytes == CHUNK_SIZE:
                yield part
                continue
            kept += part
            if len(kept) >= CHUNK_SIZE:
                yield bytes(kept[:CHUNK_SIZE])
                del kept[:CHUNK_SIZE]
    if kept:
        yield bytes(kept)


def _stood_still() -> StorageError:
    return StorageError(
        "A blob was being stored so slowly that a clean-up took it for abandoned. "
        "Store it again, from a faster source."
    )


def _taken_away(sha256: str) -> StorageError:
    return StorageError(
        f"The blob {sha256[:12]}… was removed by a clean-up each time it was stored. "
        f"Run clean-ups less often, or let them spare what is young."
    )
