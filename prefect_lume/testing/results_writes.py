"""A part of the contract of a results database: many documents at once, and blobs."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from prefect_lume.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from prefect_lume.results import Index, Result
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.stores import DBService
from prefect_lume.testing.corpus import digest, make_document


class _Numbered(Result):
    """A document type with a unique index."""

    result_type: ClassVar[str] = "Numbered"
    indices: ClassVar[tuple[Index, ...]] = (Index(("inputs.number",), unique=True),)


def _numbered(number: int, note: str = "", **header: Any) -> Encoded:
    inputs = {"number": number, "note": note}
    return make_document(inputs=inputs, result_type="Numbered", **header)


def _holding(data: bytes, given: bool = True, **inputs: Any) -> Encoded:
    """Return a document that holds a blob, with or without the blob itself."""
    envelope = {"__lume__": "bytes", "v": 1, "blob": digest(data), "size": len(data)}
    blobs = {digest(data): data} if given else {}
    return make_document(inputs={"data": envelope, **inputs}, blobs=blobs)


class WriteContract:
    """What every results database promises of writing."""

    #: How long writers and clean-ups run against each other, in seconds.
    contended_for: ClassVar[float] = 2.0

    # --- many at once ----------------------------------------------------------

    def test_many_documents_are_stored_at_once(self, db_service: DBService) -> None:
        """All of them come back; doing it again changes nothing and says so."""
        documents = [make_document(inputs={"n": n}) for n in range(1200)]
        assert db_service.insert_many("contract", []) == []
        assert db_service.insert_many("contract", documents) == [True] * 1200
        assert db_service.insert_many("contract", documents[:3]) == [False] * 3
        assert db_service.count("contract") == 1200
        for document in documents[::100]:
            assert db_service.get("contract", document.tree["_id"]) == document.tree

    def test_of_many_with_one_key_the_first_is_stored(
        self, db_service: DBService
    ) -> None:
        """A key that comes twice in a batch is stored once, as it came first."""
        first, again = (make_document(inputs={"n": n}, _id="ab" * 32) for n in (1, 2))
        other = make_document(inputs={"n": 3})
        outcomes = db_service.insert_many("contract", [first, other, again, other])
        assert outcomes == [True, True, False, False]
        assert db_service.get("contract", "ab" * 32) == first.tree

    def test_of_many_replaced_the_last_stays(self, db_service: DBService) -> None:
        """Replacing stores and replaces; of one key, the last in the batch stays."""
        versions = [make_document(inputs={"n": n}, _id="ab" * 32) for n in range(3)]
        other = make_document(inputs={"n": 9})
        assert db_service.insert("contract", versions[0])
        batch = [versions[1], other, versions[2]]
        assert db_service.insert_many("contract", batch, replace=True) == [True] * 3
        assert db_service.get("contract", "ab" * 32) == versions[2].tree
        assert db_service.count("contract") == 2

    def test_each_of_many_has_its_own_outcome(self, db_service: DBService) -> None:
        """What is wrong with one document does not keep the others out."""
        db_service.prepare([_Numbered])
        assert db_service.insert("contract", _numbered(5))
        batch = [_numbered(n, "new") for n in range(10)]
        batch[2] = make_document("other")
        batch[7] = _numbered(3, "a second three")
        batch[8] = _holding(b"nowhere", given=False)
        outcomes = db_service.insert_many("contract", batch)
        stored = [0, 1, 3, 4, 6, 9]
        assert [n for n, outcome in enumerate(outcomes) if outcome is True] == stored
        assert isinstance(outcomes[2], InvalidInputError)
        assert isinstance(outcomes[5], ConflictError)
        assert isinstance(outcomes[7], ConflictError)
        assert "inputs.number" in str(outcomes[5])
        assert isinstance(outcomes[8], IntegrityError)
        found = db_service.find("contract", sort=[("inputs.number", 1)])
        numbers = [tree["inputs"]["number"] for tree in found]
        assert numbers == [0, 1, 3, 4, 5, 6, 9]

    def test_each_of_many_replaced_has_its_own_outcome(
        self, db_service: DBService
    ) -> None:
        """A replacement that violates a unique index leaves what was there."""
        db_service.prepare([_Numbered])
        old = [_numbered(n, _id=digest(b"%d" % n)) for n in range(5)]
        assert db_service.insert_many("contract", old) == [True] * 5
        new = [_numbered(n + 10, _id=digest(b"%d" % n)) for n in range(4)]
        new[1] = _numbered(4, "taken", _id=digest(b"1"))
        outcomes = db_service.insert_many("contract", new, replace=True)
        assert [outcome is True for outcome in outcomes] == [True, False, True, True]
        assert isinstance(outcomes[1], ConflictError)
        assert db_service.get("contract", digest(b"1")) == old[1].tree
        assert db_service.get("contract", digest(b"3")) == new[3].tree
        assert db_service.insert("contract", _numbered(2, "free again"))

    def test_writers_of_overlapping_batches(self, db_service: DBService) -> None:
        """Four threads store batches that overlap: each document is stored once."""
        documents = [make_document(inputs={"n": n}) for n in range(300)]

        def store(seed: int) -> list[Any]:
            batch = documents[seed * 40 : seed * 40 + 180]
            random.Random(seed).shuffle(batch)  # noqa: S311 - no secret.
            return [
                outcome
                for start in range(0, len(batch), 60)
                for outcome in db_service.insert_many(
                    "contract", batch[start : start + 60]
                )
            ]

        with ThreadPoolExecutor(4) as threads:
            outcomes = [each for some in threads.map(store, range(4)) for each in some]
        assert outcomes.count(True) == db_service.count("contract") == 300
        assert outcomes.count(False) == 4 * 180 - 300

    # --- documents and blobs ---------------------------------------------------

    def test_a_document_is_never_without_its_blob(self, db_service: DBService) -> None:
        """A document that names a blob which nobody has is refused."""
        encoded = _holding(b"missing", given=False)
        with pytest.raises(IntegrityError, match=digest(b"missing")[:12]):
            db_service.insert("contract", encoded)
        with pytest.raises(IntegrityError, match=digest(b"missing")[:12]):
            db_service.replace("contract", encoded)
        assert db_service.count("contract") == 0
        db_service.put_blob(digest(b"missing"), b"missing")
        assert db_service.insert("contract", encoded)

    def test_many_documents_with_blobs(self, db_service: DBService) -> None:
        """The blobs of a batch are stored with it, those in common once."""
        shared = bytes(1000)
        batch = [_holding(b"%d" % n * 100, n=n) for n in range(30)]
        batch += [_holding(shared, n=n) for n in range(10)]
        assert db_service.insert_many("contract", batch) == [True] * 40
        for document in batch:
            ((sha256, data),) = document.blobs.items()
            assert bytes(db_service.get_blob(sha256)) == bytes(data)
        held = set(db_service.held_blobs("contract"))
        assert held == {sha256 for document in batch for sha256 in document.blobs}
        assert set(db_service.held_blobs("contract", {"inputs.n": 3})) == {
            digest(b"3" * 100),
            digest(shared),
        }

    def test_blobs_go_when_their_last_document_went(
        self, db_service: DBService
    ) -> None:
        """A blob is unused when no document holds it, deleted or replaced."""
        old = -timedelta(days=1)
        batch = [_holding(b"one", n=1), _holding(b"one", n=2), _holding(b"two", n=3)]
        assert db_service.insert_many("contract", batch) == [True] * 3
        if not db_service.blobs_before(db_service.now() + timedelta(days=1)):
            pytest.skip("This results database keeps no account of its blobs.")
        db_service.delete("contract", {"inputs.n": 1})
        assert db_service.unused_blobs(old) == []
        replaced = make_document(inputs={"n": 3}, _id=batch[2].tree["_id"])
        db_service.replace("contract", replaced)
        db_service.delete("contract", {"inputs.n": 2})
        names = {digest(b"one"), digest(b"two")}
        assert {info.sha256 for info in db_service.unused_blobs(old)} == names
        assert db_service.unused_blobs(timedelta(days=1)) == []
        among = [digest(b"two"), digest(b"three")]
        assert db_service.unused_blobs(old, among) == [(digest(b"two"), 3)]
        assert db_service.delete_unused_blobs(old, among) == [(digest(b"two"), 3)]
        assert db_service.delete_unused_blobs(old) == [(digest(b"one"), 3)]
        with pytest.raises(NotFoundError):
            db_service.get_blob(digest(b"one"))

    def test_a_clean_up_never_takes_what_a_writer_stores(
        self, db_service: DBService
    ) -> None:
        """Writers and clean-ups at work on one blob: each document can be loaded."""
        data = bytes(range(256)) * 16
        stop = threading.Event()

        def clean() -> None:
            while not stop.is_set():
                db_service.delete_unused_blobs(db_service.blob_lease)

        def write(number: int) -> None:
            end = time.monotonic() + self.contended_for
            n = 0
            while time.monotonic() < end:
                encoded = _holding(data, writer=number, n=n)
                assert db_service.insert("contract", encoded)
                assert db_service.get_blob(digest(data)) == data
                db_service.delete("contract", {"_id": encoded.tree["_id"]})
                n += 1
            assert db_service.insert("contract", _holding(data, writer=number))

        with ThreadPoolExecutor(3) as threads:
            cleaning = threads.submit(clean)
            try:
                list(threads.map(write, range(2)))
            finally:
                stop.set()
            cleaning.result()
        assert db_service.count("contract") == 2
        assert db_service.get_blob(digest(data)) == data

    def test_blobs_of_any_content_come_back(self, db_service: DBService) -> None:
        """Content that can be compressed and content that cannot come back alike."""
        chance = random.Random(3)  # noqa: S311 - no secret.
        mebibyte = 1 << 20
        noise = chance.randbytes(3 * mebibyte // 2)
        for data in (
            bytes(mebibyte * 3 + 7),
            noise,
            bytes(2 * mebibyte) + noise,
            noise + bytes(2 * mebibyte),
            b"ab" * 300,
        ):
            db_service.put_blob(digest(data), data)
            assert db_service.get_blob(digest(data)) == data

    def test_writers_of_one_large_blob(self, db_service: DBService) -> None:
        """Three threads store the same large blob at once, and all succeed."""
        data = random.Random(4).randbytes(10_500_000)  # noqa: S311 - no secret.
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda _: db_service.put_blob(digest(data), data), "abc"))
        assert db_service.get_blob(digest(data)) == data

    def test_a_large_blob_that_fails_leaves_nothing(
        self, db_service: DBService
    ) -> None:
        """A source that breaks off, or holds something else, stores nothing."""
        piece = bytes(1 << 20)

        def pieces() -> Any:
            yield from [piece] * 11
            raise OSError("broken off")

        with pytest.raises(OSError, match="broken off"):
            db_service.write_blob("ab" * 32, 12 << 20, pieces())
        with pytest.raises(IntegrityError):
            db_service.write_blob("ab" * 32, 12 << 20, iter([piece] * 12))
        with pytest.raises(NotFoundError):
            db_service.get_blob("ab" * 32)
        with suppress(NotFoundError):
            assert list(db_service.read_blob("ab" * 32)) == []
        db_service.put_blob(digest(piece * 12), piece * 12)
        assert db_service.get_blob(digest(piece * 12)) == piece * 12

    def test_the_clock_is_right(self, db_service: DBService) -> None:
        """The database's time has a zone and is about that of this machine."""
        now = db_service.now()
        assert now.utcoffset() == timedelta(0)
        assert abs(now - datetime.now(UTC)) < timedelta(minutes=5)
