"""How the SQL store keeps blobs: compressed or not, damaged, shared, counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zstandard
from sqlalchemy import create_engine, delete, event, insert, select, text, update
from sqlalchemy.exc import IntegrityError as SQLIntegrityError

from prefect_lume.errors import IntegrityError, NotFoundError
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.compression import (
    compressed,
    decompressed,
    encoding_for,
)
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import make_document

MEBIBYTE = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLDBService]:
    service = SQLDBService(get_engine(f"sqlite:///{tmp_path / 'results.db'}"))
    service.create_tables()
    yield service
    service.engine.dispose()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def noise(size: int) -> bytes:
    return Random(size).randbytes(size)


def change(store: SQLDBService, statement: Any) -> None:
    with store.engine.begin() as connection:
        assert connection.execute(statement).rowcount


def stored_size(store: SQLDBService) -> int:
    with store.engine.connect() as connection:
        return sum(
            connection.execute(
                text(f"SELECT coalesce(sum(length(data)), 0) FROM {name}")
            ).scalar_one()
            for name in ("blob_chunk", "blob_upload_chunk")
        )


def holding(data: bytes, **inputs: Any) -> Any:
    envelope = {"__lume__": "bytes", "v": 1, "blob": digest(data), "size": len(data)}
    return make_document(inputs={"a": envelope, **inputs}, blobs={digest(data): data})


@pytest.mark.parametrize("size", [1000, 3 * MEBIBYTE, 20 * MEBIBYTE])
def test_content_is_compressed_when_it_pays(store: SQLDBService, size: int) -> None:
    """What shrinks takes less room; what does not is stored as it is."""
    data = b"0123456789" * (size // 10)
    store.put_blob(digest(data), data)
    assert stored_size(store) < size / 10
    assert store.get_blob(digest(data)) == data
    store.delete_unused_blobs(timedelta(days=-1))
    random = noise(size)
    store.put_blob(digest(random), random)
    assert stored_size(store) == size
    assert store.get_blob(digest(random)) == random


def test_a_fifth_must_be_saved() -> None:
    """Content that hardly shrinks, or is small, is not compressed."""
    random = noise(100_000)
    assert encoding_for([random + bytes(15_000)]) == ""
    assert encoding_for([random[:50_000] + bytes(60_000)]) == "zstd"
    assert encoding_for([bytes(100)]) == ""
    assert encoding_for([]) == ""


def test_frames_come_back() -> None:
    """A chunk is what it was, whichever way it is stored."""
    for encoding in ("", "zstd"):
        for data in (b"", b"x", bytes(MEBIBYTE)):
            stored = compressed(memoryview(data), encoding)
            assert decompressed(stored, encoding, "ab" * 32) == data


BOMB = zstandard.ZstdCompressor().compress(bytes(300 * MEBIBYTE))
UNSIZED = zstandard.ZstdCompressor(write_content_size=False)
FRAMES = {
    "a bomb that says so": BOMB,
    "a bomb that does not": UNSIZED.compress(bytes(300 * MEBIBYTE)),
    "garbage": noise(1000),
    "nothing": b"",
    "half a frame": compressed(noise(1000) * 2, "zstd")[:-500],
    "more than a frame": compressed(b"abc", "zstd") + b"more",
}


@pytest.mark.parametrize("name", FRAMES)
def test_damaged_compression_is_an_integrity_error(
    store: SQLDBService, name: str
) -> None:
    """Bombs and garbage are refused, with the blob's name, before they take memory."""
    data = bytes(2 * MEBIBYTE)
    store.put_blob(digest(data), data)
    chunk = sql_tables.blob_chunk
    change(store, update(chunk).where(chunk.c.n == 1).values(data=FRAMES[name]))
    with pytest.raises(IntegrityError, match=digest(data)[:12]):
        store.get_blob(digest(data))


def test_an_unknown_encoding_is_an_integrity_error(store: SQLDBService) -> None:
    """A blob that a later version compressed otherwise is not returned as it is."""
    store.put_blob(digest(b"x"), b"x")
    change(store, update(sql_tables.blob).values(encoding="later"))
    with pytest.raises(IntegrityError, match="'later'"):
        store.get_blob(digest(b"x"))


@pytest.mark.parametrize("size", [3 * MEBIBYTE, 20 * MEBIBYTE])
def test_a_lost_chunk_is_an_integrity_error(store: SQLDBService, size: int) -> None:
    """A blob of which a part is missing says which, and returns nothing."""
    data = noise(size)
    store.put_blob(digest(data), data)
    table = sql_tables.blob_chunk if size < 8 * MEBIBYTE else None
    chunk = sql_tables.blob_upload_chunk if table is None else table
    change(store, delete(chunk).where(chunk.c.n == 2))
    with pytest.raises(IntegrityError, match="part 2 of"):
        store.get_blob(digest(data))


@pytest.mark.parametrize("size", [6 * MEBIBYTE, 20 * MEBIBYTE])
def test_a_blob_that_goes_while_it_is_read(store: SQLDBService, size: int) -> None:
    """It is not found any more; stored again, reading just goes on."""
    data = noise(size)
    store.put_blob(digest(data), data)
    pieces = store.read_blob(digest(data))
    first = next(pieces)
    store.delete_unused_blobs(timedelta(days=-1))
    store.put_blob(digest(data), data)
    assert first + b"".join(pieces) == data
    pieces = store.read_blob(digest(data))
    next(pieces)
    store.delete_unused_blobs(timedelta(days=-1))
    with pytest.raises(NotFoundError):
        list(pieces)


def test_pieces_of_any_size_make_the_same_blob(store: SQLDBService) -> None:
    """A source may yield little or much at once; chunks are of one size."""
    data = noise(3 * MEBIBYTE + 5)
    pieces = [data[:10], b"", data[10 : 2 * MEBIBYTE], data[2 * MEBIBYTE :]]
    store.write_blob(digest(data), len(data), pieces)
    assert [len(piece) for piece in store.read_blob(digest(data))] == [MEBIBYTE] * 3 + [
        5
    ]
    assert store.get_blob(digest(data)) == data


def test_the_database_itself_keeps_documents_and_blobs_together(
    store: SQLDBService,
) -> None:
    """Whoever writes SQL by hand cannot part them either."""
    data = bytes(1000)
    document = holding(data)
    store.insert("contract", document)
    with pytest.raises(SQLIntegrityError):
        change(store, delete(sql_tables.blob))
    row = {"collection": "contract", "unique_hash": document.tree["_id"]}
    with pytest.raises(SQLIntegrityError):
        change(store, insert(sql_tables.result_blob).values(**row, sha256="0" * 64))
    change(store, delete(sql_tables.result))
    assert list(store.held_blobs("contract")) == []
    change(store, delete(sql_tables.blob))
    assert stored_size(store) == 0


def test_an_engine_made_elsewhere_checks_references_too() -> None:
    """The guarantee does not depend on how the engine was made."""
    store = SQLDBService(create_engine("sqlite://"))
    store.create_tables()
    store.insert("contract", holding(b"abc"))
    with pytest.raises(SQLIntegrityError):
        change(store, delete(sql_tables.blob))


def test_storing_again_counts_as_stored_now(store: SQLDBService) -> None:
    """A blob stored again is young again, by the database's clock."""
    store.put_blob(digest(b"x"), b"x")
    old = "2026-01-01T00:00:00.000000Z"
    change(store, update(sql_tables.blob).values(created=old))
    assert store.unused_blobs() == [(digest(b"x"), 1)]
    store.put_blob(digest(b"x"), b"x")
    assert store.unused_blobs() == []
    assert store.delete_blob(digest(b"x"), store.now() - timedelta(hours=1)) is False
    assert store.delete_blob(digest(b"x"), store.now()) is True


def test_an_abandoned_upload_goes_after_its_lease(store: SQLDBService) -> None:
    """Ten minutes after the last sign of life, an ordinary clean-up takes it."""
    upload, chunk = sql_tables.blob_upload, sql_tables.blob_upload_chunk
    for name, age in (("aa", 11), ("bb", 9)):
        renewed = (store.now() - timedelta(minutes=age)).strftime(
            "%Y-%m-%dT%H:%M:%S.%fZ"
        )
        change(store, insert(upload).values(id=name * 32, renewed=renewed))
        for n in range(100):
            change(store, insert(chunk).values(upload=name * 32, n=n, data=b"x"))
    assert store.delete_unused_blobs(timedelta(0)) == []
    with store.engine.connect() as connection:
        left = connection.execute(select(upload.c.id)).scalars().all()
        assert left == ["bb" * 32]
        assert len(connection.execute(select(chunk)).all()) == 100


def test_a_batch_takes_the_same_statements_whatever_its_size(
    store: SQLDBService,
) -> None:
    """Ninety documents with a blob each take as many statements as eight."""

    def statements(many: int) -> int:
        sent: list[str] = []

        def note(_c: object, _k: object, statement: str, *_: object) -> None:
            sent.append(statement)

        batch = [holding(b"%d" % n * 50, n=n, many=many) for n in range(many)]
        event.listen(store.engine, "before_cursor_execute", note)
        assert store.insert_many("contract", batch) == [True] * many
        event.remove(store.engine, "before_cursor_execute", note)
        return len(sent)

    assert statements(8) == statements(90) < 20
