"""Storing many results at once, and removing them with their blobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest

from prefect_lume.errors import (
    ConflictError,
    ConnectionFailedError,
    EncodingError,
    InvalidInputError,
    NotFoundError,
)
from prefect_lume.results import Index, Result, ResultsService
from prefect_lume.results.stores import SQLDBService
from prefect_lume.storage.sql import get_engine


class Numbered(Result):
    """A type with a number of its own."""

    result_type: ClassVar[str] = "Numbered"
    indices: ClassVar[tuple[Index, ...]] = (Index(("inputs.number",), unique=True),)


@pytest.fixture
def store(tmp_path) -> Iterator[SQLDBService]:
    engine = get_engine(f"sqlite:///{tmp_path}/results.db")
    service = SQLDBService(engine)
    service.create_tables()
    yield service
    engine.dispose()


@pytest.fixture
def results(store) -> ResultsService:
    return ResultsService(store, {"Numbered": Numbered})


def scan(count: int, project: str = "scan") -> list[Result]:
    return [Result(project_name=project, inputs={"n": n}) for n in range(count)]


class TestStoreMany:
    def test_every_result_is_stored_and_found_by_its_reference(self, results):
        """The outcomes are in the order of the results, over batches and projects."""
        given = [r for pair in zip(scan(25), scan(25, "b"), strict=True) for r in pair]
        written = []
        outcomes = results.store_many(given, batch_size=4, progress=written.append)
        assert [o.status for o in outcomes] == ["stored"] * 50
        assert [results.load(o.reference) for o in outcomes] == given
        assert sum(written) == 50
        assert max(written) <= 4

    def test_what_is_wrong_with_one_keeps_no_other_out(self, results):
        """A value that cannot be stored, a bad name and a conflict are outcomes."""
        given = [
            Numbered(project_name="scan", inputs={"number": 1}),
            Result(project_name="scan", inputs={"n": object()}),
            Result(project_name=" scan", inputs={"n": 1}),
            Numbered(project_name="scan", inputs={"number": 1, "again": True}),
            Numbered(project_name="scan", inputs={"number": 2}),
            Numbered(project_name="scan", inputs={"number": 1}),
        ]
        outcomes = results.store_many(given)
        assert [o.status for o in outcomes] == [
            "stored",
            "failed",
            "failed",
            "failed",
            "stored",
            "present",
        ]
        kinds = [type(o.error) for o in outcomes[1:4]]
        assert kinds == [EncodingError, InvalidInputError, ConflictError]
        assert all(o.reference is None for o in outcomes[1:4])
        assert results.count("scan") == 2

    def test_duplicates_mean_what_the_caller_says(self, results):
        """Return, raise and replace work for each result on its own."""
        old, new = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
        first = Result(project_name="scan", inputs={"n": 0}, date_modified=old)
        again = Result(project_name="scan", inputs={"n": 0}, date_modified=new)
        (other,) = scan(2)[1:]
        results.store(first)
        kept = results.store_many([again, other])
        assert [o.status for o in kept] == ["present", "stored"]
        assert results.load(kept[0].reference).date_modified == first.date_modified
        refused = results.store_many([again], on_duplicate="raise")
        assert isinstance(refused[0].error, ConflictError)
        replaced = results.store_many([again, again], on_duplicate="replace")
        assert [o.status for o in replaced] == ["replaced", "replaced"]
        assert results.load(replaced[0].reference).date_modified == again.date_modified
        with pytest.raises(InvalidInputError, match="on_duplicate"):
            results.store_many([], on_duplicate="ignore")
        with pytest.raises(InvalidInputError, match="batch_size"):
            results.store_many([], batch_size=0)

    def test_large_arrays_travel_in_small_batches(self, results):
        """Arrays are written as they come, so that few are in memory."""
        written = []
        given = (
            Result(project_name="scan", outputs={"a": np.full(500_000, float(n))})
            for n in range(6)
        )
        outcomes = results.store_many(given, progress=written.append)
        assert written == [3, 3]
        assert results.load(outcomes[5].reference).outputs["a"][-1] == 5.0

    def test_a_failing_database_raises_and_all_can_be_repeated(self, results, store):
        """The error of a batch is raised, and doing it again completes the rest."""
        calls = []
        insert_many = store.insert_many

        def failing(*args, **kwargs):
            calls.append(args)
            if len(calls) == 2:
                raise ConnectionFailedError("gone", "here")
            return insert_many(*args, **kwargs)

        store.insert_many = failing
        with pytest.raises(ConnectionFailedError):
            results.store_many(scan(30), batch_size=10)
        outcomes = results.store_many(scan(30), batch_size=10)
        assert results.count("scan") == 30
        assert {o.status for o in outcomes[:10]} == {"present"}

    def test_what_came_before_an_error_of_the_caller_is_stored(self, results):
        """When the generator raises, its error comes on, after all that it gave."""

        def measured() -> Iterator[Result]:
            yield from scan(5)
            raise RuntimeError("the device is gone")

        with pytest.raises(RuntimeError, match="device") as caught:
            results.store_many(measured(), batch_size=2)
        assert results.count("scan") == 5
        assert "after 5 results, of which 5 are stored" in caught.value.__notes__[0]

    def test_what_is_no_result_is_refused(self, results):
        """One alone is an error, one among many an outcome of its own."""
        with pytest.raises(InvalidInputError, match="What is stored is a Result"):
            results.store({"inputs": {}})
        outcomes = results.store_many([{"inputs": {}}, *scan(1)])
        assert [o.status for o in outcomes] == ["failed", "stored"]

    def test_nothing_is_stored_of_nothing(self, results):
        """No results, no outcomes, no project."""
        assert results.store_many([]) == []
        assert results.projects() == []


class TestDelete:
    def test_blobs_go_with_the_last_result_that_holds_them(self, results, store):
        """A blob that another result holds stays until that one is gone as well."""
        shared, own = np.arange(50_000.0), np.arange(60_000.0)
        both = results.store(Result(project_name="a", outputs={"x": shared, "y": own}))
        other = results.store(Result(project_name="b", outputs={"x": shared}))
        held = set(store.held_blobs("a"))
        assert len(held) == 2
        assert results.delete("a", {"unique_hash": both.unique_hash}) == 1
        (kept,) = set(store.held_blobs("b"))
        (gone,) = held - {kept}
        with pytest.raises(NotFoundError):
            store.get_blob(gone)
        assert results.load(other).outputs["x"][-1] == 49_999.0
        assert results.delete("b", {}) == 1
        with pytest.raises(NotFoundError):
            store.get_blob(kept)

    def test_other_unused_blobs_are_left_alone(self, results, store):
        """Deleting looks at the blobs of what it deletes only."""
        info = store.put_blob_file(__file__)
        results.store(scan(1)[0])
        assert results.delete("scan", {}) == 1
        assert store.get_blob(info.sha256)
