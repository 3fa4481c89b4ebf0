"""What revision 0002 does with the documents and blobs that are there already."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from prefect_lume.results.stores.sql.compression import decompressed
from prefect_lume.results.stores.trees import blobs_of

#: Documents looked up at once, and the characters of those read at once.
_PAGE: Final = 500
_TEXT: Final = 8 << 20

# A revision does not use the code's tables, which later revisions change.
_RESULT = sa.table(
    "result", sa.column("collection"), sa.column("unique_hash"), sa.column("document")
)
_LINK = sa.table(
    "result_blob",
    sa.column("collection"),
    sa.column("unique_hash"),
    sa.column("sha256"),
)
_BLOB = sa.table(
    "blob", sa.column("sha256"), sa.column("chunks"), sa.column("encoding")
)
_CHUNK = sa.table(
    "blob_chunk",
    sa.column("sha256"),
    sa.column("n"),
    sa.column("data", sa.LargeBinary()),
)
_UPLOAD = sa.table("blob_upload", sa.column("id"), sa.column("sha256"))
_UPLOAD_CHUNK = sa.table(
    "blob_upload_chunk",
    sa.column("upload"),
    sa.column("n"),
    sa.column("data", sa.LargeBinary()),
)


def fill(connection: Connection) -> Iterator[str]:
    """Fill ``result_blob`` from the documents, in bounded memory.

    Yields:
        What is wrong with a document: it holds a blob that is not there.
    """
    connection.execute(_LINK.delete())
    names = sa.select(_RESULT.c.collection).distinct()
    for collection in connection.execute(names).scalars().all():
        for unique_hash, document in _documents(connection, collection):
            yield from _link(connection, collection, unique_hash, document)


def _documents(connection: Connection, collection: str) -> Iterator[tuple[str, str]]:
    """Yield the documents of a collection that hold blobs, by their hashes."""
    after = ""
    while True:
        keys = (
            sa.select(_RESULT.c.unique_hash, sa.func.length(_RESULT.c.document))
            .where(
                _RESULT.c.collection == collection,
                _RESULT.c.unique_hash > after,
                _RESULT.c.document.like('%"blob":"%'),
            )
            .order_by(_RESULT.c.unique_hash)
            .limit(_PAGE)
        )
        found = connection.execute(keys).all()
        for hashes in _groups([(str(key), int(length)) for key, length in found]):
            page = sa.select(_RESULT.c.unique_hash, _RESULT.c.document).where(
                _RESULT.c.collection == collection, _RESULT.c.unique_hash.in_(hashes)
            )
            for row in connection.execute(page).all():
                yield str(row.unique_hash), str(row.document)
        if len(found) < _PAGE:
            return
        after = found[-1][0]


def _groups(found: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for unique_hash, length in found:
        if group and size + length > _TEXT:
            yield group
            group, size = [], 0
        group.append(unique_hash)
        size += length
    if group:
        yield group


def _link(
    connection: Connection, collection: str, unique_hash: str, document: str
) -> Iterator[str]:
    where = f"The result {unique_hash} of {collection!r}"
    problems: list[str] = []

    def part(sha256: str) -> bytes:
        content = b"".join(_content(connection, sha256))
        try:
            json.loads(content)
        except ValueError:
            # Also the blobs that the other parts hold are to be found.
            problems.append(f"{where} has a part that cannot be read: blob {sha256}.")
            return b"[]"
        return content

    held = set(blobs_of(json.loads(document), part))
    yield from problems
    there: set[str] = set()
    wanted = sorted(held)
    for start in range(0, len(wanted), _PAGE):
        some = sa.select(_BLOB.c.sha256).where(
            _BLOB.c.sha256.in_(wanted[start : start + _PAGE])
        )
        there.update(connection.execute(some).scalars())
    for sha256 in sorted(held - there):
        yield f"{where} holds the blob {sha256}, which is missing: it cannot be loaded."
    rows = [
        {"collection": collection, "unique_hash": unique_hash, "sha256": sha256}
        for sha256 in sorted(there)
    ]
    if rows:
        connection.execute(_LINK.insert(), rows)


def _content(connection: Connection, sha256: str) -> Iterator[bytes]:
    chunks = (
        sa.select(_CHUNK.c.data).where(_CHUNK.c.sha256 == sha256).order_by(_CHUNK.c.n)
    )
    for data in connection.execute(chunks).scalars():
        yield bytes(data)


def unpack(connection: Connection) -> None:
    """Store compressed and large blobs as revision 0001 expects them.

    Afterwards nothing is left to be unpacked: done twice, it is done once.
    """
    uploads = sa.select(
        _BLOB.c.sha256, _BLOB.c.chunks, _BLOB.c.encoding, _UPLOAD.c.id
    ).select_from(_BLOB.outerjoin(_UPLOAD, _UPLOAD.c.sha256 == _BLOB.c.sha256))
    changed = uploads.where(sa.or_(_BLOB.c.encoding != "", _UPLOAD.c.id.is_not(None)))
    for row in connection.execute(changed).all():
        for n in range(row.chunks):
            _unpack_chunk(connection, row, n)
    connection.execute(_BLOB.update().where(_BLOB.c.encoding != "").values(encoding=""))
    connection.execute(_UPLOAD.update().values(sha256=None))


def _unpack_chunk(connection: Connection, row: Any, n: int) -> None:
    table, key = (
        (_CHUNK, _CHUNK.c.sha256 == row.sha256)
        if row.id is None
        else (_UPLOAD_CHUNK, _UPLOAD_CHUNK.c.upload == row.id)
    )
    read = sa.select(table.c.data).where(key, table.c.n == n)
    data = connection.execute(read).scalar()
    if data is None:
        return
    plain = decompressed(bytes(data), row.encoding, row.sha256)
    if row.id is None:
        connection.execute(
            _CHUNK.update().where(key, table.c.n == n).values(data=plain)
        )
    else:
        connection.execute(_CHUNK.insert().values(sha256=row.sha256, n=n, data=plain))
