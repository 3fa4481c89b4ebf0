"""Part of the contract of a results database: blobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from prefect_lume.errors import IntegrityError, NotFoundError
from prefect_lume.results.stores import DBService
from prefect_lume.testing.corpus import digest, make_document


class BlobContract:
    """What every results database promises of content-addressed blobs."""

    #: The most bytes of one blob that the suite stores.
    blob_size: ClassVar[int] = 20_000_000

    def test_a_blob_comes_back(self, db_service: DBService) -> None:
        """Blobs of any size come back, also around a chunk's size."""
        for size in (0, 1, 1 << 20, (1 << 20) + 1):
            data = (bytes(range(251)) * (size // 251 + 1))[:size]
            db_service.put_blob(digest(data), memoryview(data))
            db_service.put_blob(digest(data), data)
            assert db_service.get_blob(digest(data)) == data

    def test_a_large_blob_comes_back(self, db_service: DBService) -> None:
        """Twenty megabytes are stored with a document, and once for two of them."""
        data = bytes(bytearray(range(256)) * (self.blob_size // 256))
        for n in range(2):
            encoded = make_document(inputs={"n": n}, blobs={digest(data): data})
            assert db_service.insert("contract", encoded)
        pieces = list(db_service.read_blob(digest(data)))
        assert b"".join(pieces) == data
        assert len(pieces) > 1

    def test_a_blob_with_a_wrong_hash_is_not_stored(
        self, db_service: DBService
    ) -> None:
        """Nothing is stored under a hash that is not its own."""
        with pytest.raises(IntegrityError):
            db_service.put_blob(digest(b"a"), b"b")
        with pytest.raises(NotFoundError):
            db_service.get_blob(digest(b"a"))

    def test_only_unused_blobs_are_cleaned_up(self, db_service: DBService) -> None:
        """A clean-up takes blobs that no document holds, and only old ones."""
        used, inner, unused = b"used" * 100, b"inner" * 100, b"unused" * 100
        part = f'[{{"__lume__": "bytes", "blob": "{digest(inner)}"}}]'.encode()
        inputs = {
            "a": {"__lume__": "bytes", "v": 1, "blob": digest(used), "size": 400},
            "b": {"__lume__": "tree", "v": 1, "blob": digest(part), "size": len(part)},
        }
        blobs = {digest(data): data for data in (used, inner, part)}
        db_service.insert("contract", make_document(inputs=inputs, blobs=blobs))
        db_service.put_blob(digest(unused), unused)
        assert db_service.delete_unused_blobs() == []
        if db_service.blobs_before(datetime.now(UTC) + timedelta(days=1)):
            (gone,) = db_service.delete_unused_blobs(timedelta(days=-1))
            assert gone == (digest(unused), len(unused))
            with pytest.raises(NotFoundError):
                db_service.get_blob(digest(unused))
        for data in (used, inner, part):
            assert db_service.get_blob(digest(data)) == data
