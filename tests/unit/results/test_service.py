"""ResultsService: storing once, loading whole or in part, finding."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import StaticPool, create_engine, text

from prefect_lume.errors import (
    ConflictError,
    EncodingError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    QueryError,
)
from prefect_lume.results import ImpactResult, Index, Result, ResultsService
from prefect_lume.results.codecs import Lazy
from prefect_lume.results.stores import SQLDBService


@pytest.fixture
def store() -> Iterator[SQLDBService]:
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    service = SQLDBService(engine)
    service.create_tables()
    yield service
    engine.dispose()


@pytest.fixture
def results(store: SQLDBService) -> ResultsService:
    return ResultsService(store)


def result(n: int = 1, project: str = "injector", **fields) -> Result:
    fields = {"inputs": {"n": n}, "outputs": {"square": n * n}, **fields}
    return Result(project_name=project, flow_id="flow", **fields)


class Shot(Result):
    """A document type with fields and indices of its own."""

    result_type: ClassVar[str] = "Shot"
    indices: ClassVar[tuple[Index, ...]] = (
        Index(("inputs.number",), unique=True),
        Index(("inputs.line", "inputs.charge")),
    )
    operator: str = ""


class TestStore:
    def test_storing_twice_returns_the_first(self, results):
        """The same content is one document, and the first one stays."""
        first = result(date_modified="2026-01-01T00:00:00Z")
        again = result(date_modified="2026-02-02T00:00:00Z")
        assert results.store(first) == results.store(again)
        assert results.count("injector") == 1
        assert results.load(results.store(again)).date_modified == first.date_modified

    def test_a_duplicate_raises_or_replaces_if_asked(self, results):
        """The caller says what a duplicate means."""
        first = result(date_modified="2026-01-01T00:00:00Z")
        again = result(date_modified="2026-02-02T00:00:00Z")
        reference = results.store(first, on_duplicate="raise")
        with pytest.raises(ConflictError, match=first.unique_hash):
            results.store(again, on_duplicate="raise")
        assert results.store(again, on_duplicate="replace") == reference
        assert results.load(reference).date_modified == again.date_modified
        with pytest.raises(InvalidInputError, match="'return', 'raise' or 'replace'"):
            results.store(first, on_duplicate="ignore")

    def test_what_cannot_be_stored_leaves_nothing(self, results, store):
        """An open socket inside is refused by its place; no blob, no document."""
        import socket

        big = np.arange(100_000)
        with socket.socket() as sock, pytest.raises(EncodingError, match="sock"):
            results.store(result(outputs={"big": big, "deep": [{"sock": sock}]}))
        assert results.projects() == []
        with store.engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM blob")).scalar() == 0

    def test_a_failure_between_blobs_and_document_shows_nothing(self, results, store):
        """When the document cannot be written, no reader sees a result."""
        with store.engine.begin() as connection:
            connection.execute(
                text(
                    "CREATE TRIGGER full BEFORE INSERT ON result BEGIN "
                    "SELECT RAISE(FAIL, 'database or disk is full'); END"
                )
            )
        stored = result(outputs={"big": np.arange(100_000)})
        with pytest.raises(Exception, match="full"):
            results.store(stored)
        assert results.projects() == []
        with store.engine.begin() as connection:
            connection.execute(text("DROP TRIGGER full"))
        reference = results.store(stored)
        assert results.load_value(reference.narrowed("outputs", ["big", -1])) == 99_999

    def test_the_threshold_decides_what_leaves_the_document(self, store):
        """A low threshold makes blobs of small values, with the same result."""
        results = ResultsService(store, blob_threshold=10)
        stored = result(outputs={"a": np.arange(20)})
        reference = results.store(stored)
        assert len(store.blobs_before(pd.Timestamp("2999-01-01", tz="UTC"))) == 1
        assert results.load(reference) == stored


class TestLoad:
    def test_a_result_comes_back_whole(self, results):
        """Class, fields, arrays, tables and numbers are what was stored."""
        stored = ImpactResult(
            project_name="injector",
            flow_id="flow",
            deployment_id=3,
            inputs={"k": np.float64(1.5), "on": True},
            outputs={
                "beam": np.arange(50_000, dtype=">f4").reshape(100, 500),
                "table": pd.DataFrame({"z": [0.0, 1.0], "name": ["a", "b"]}),
                "twiss": {"beta": [1.0, 2.0]},
            },
            config={"steps": 10},
        )
        loaded = results.load(results.store(stored))
        assert type(loaded) is ImpactResult
        assert loaded == stored
        assert loaded.outputs["beam"].dtype == np.dtype(">f4")
        pd.testing.assert_frame_equal(loaded.outputs["table"], stored.outputs["table"])

    def test_a_reference_is_json(self, results):
        """What Prefect passes between processes finds the result."""
        stored = result()
        sent = json.loads(results.store(stored).model_dump_json())
        assert results.load(sent) == stored
        with pytest.raises(InvalidInputError, match="no reference"):
            results.load({"unique_hash": "x"})

    def test_lazy_values_stay_in_the_database(self, results):
        """Nothing large is read before it is asked for."""
        stored = result(outputs={"big": np.arange(100_000), "small": 1})
        loaded = results.load(results.store(stored), lazy=True)
        assert loaded.outputs["small"] == 1
        assert isinstance(loaded.outputs["big"], Lazy)
        assert loaded.outputs["big"].load().sum() == np.arange(100_000).sum()

    @pytest.mark.parametrize(
        ("attribute", "index", "expected"),
        [
            ("outputs", ["square"], 4),
            ("outputs", ["list", 1, "a"], 2),
            ("outputs", ["pair", 0], 7),
            ("outputs", ["array", 2, 1], 5),
            ("outputs", ["table", "z", 1], 1.5),
            ("outputs", ["a.b"], "dotted"),
            ("flow_id", None, "flow"),
            ("inputs", None, {"n": 2}),
            (None, ["outputs", "square"], 4),
        ],
    )
    def test_a_narrowed_reference_gives_one_value(
        self, results, attribute, index, expected
    ):
        """Keys, positions, columns and fields lead to a value inside."""
        stored = result(
            2,
            outputs={
                "square": 4,
                "list": [1, {"a": 2}],
                "pair": (7, 8),
                "array": np.arange(6).reshape(3, 2),
                "table": pd.DataFrame({"z": [0.5, 1.5]}),
                "a.b": "dotted",
            },
        )
        reference = results.store(stored).narrowed(attribute, index)
        assert results.load_value(reference) == expected

    @pytest.mark.parametrize(
        ("attribute", "index", "words"),
        [
            ("output", ["x"], ["output", "Did you mean 'outputs'", "inputs"]),
            ("outputs", ["sqare"], ["sqare", "Did you mean 'square'", "at outputs"]),
            ("outputs", ["list", 5], ["5", "It has 2", "outputs['list']"]),
            ("outputs", ["list", "a"], ["'a'", "type list"]),
            ("outputs", ["square", "x"], ["'x'", "type int", "outputs['square']"]),
            ("outputs", ["table", "y"], ["column", "'y'", "'z'"]),
        ],
    )
    def test_a_wrong_step_says_what_is_there(self, results, attribute, index, words):
        """The error names the step that fails and what could be written instead."""
        stored = result(
            outputs={"square": 1, "list": [1, 2], "table": pd.DataFrame({"z": [1]})}
        )
        reference = results.store(stored).narrowed(attribute, index)
        with pytest.raises(NotFoundError) as caught:
            results.load_value(reference)
        for word in words:
            assert word in str(caught.value)

    def test_a_missing_result_or_project_is_named(self, results):
        """A wrong project lists those that exist; a wrong hash names both."""
        reference = results.store(result())
        other = reference.model_copy(update={"project_name": "injektor"})
        with pytest.raises(NotFoundError, match="Did you mean 'injector'"):
            results.load(other)
        gone = reference.model_copy(update={"unique_hash": "0" * 64})
        with pytest.raises(NotFoundError, match="'injector' with the unique hash"):
            results.load(gone)
        with pytest.raises(NotFoundError, match="'injektor'"):
            list(results.find("injektor"))

    def test_changed_content_is_never_returned(self, results, store):
        """A document or blob that somebody altered fails its hash."""
        stored = result(outputs={"big": np.arange(100_000)})
        reference = results.store(stored)
        with store.engine.begin() as connection:
            connection.execute(
                text("UPDATE result SET document = replace(document, :old, :new)"),
                {"old": '"inputs":{"n":1}', "new": '"inputs":{"n":2}'},
            )
        part = reference.narrowed("inputs", ["n"])
        for read in (
            lambda: results.load(reference),
            lambda: results.load(reference, lazy=True),
            lambda: results.load_value(part),
            lambda: list(results.find("injector")),
            lambda: results.load_dataframe("injector"),
        ):
            with pytest.raises(IntegrityError, match="was changed in the database"):
                read()
        (odd,) = results.find("injector", verify=False, lazy=True)
        assert odd.inputs == {"n": 2}

    def test_a_changed_blob_is_never_returned(self, results, store):
        """A value that left its document fails its hash, whole or in part."""
        reference = results.store(result(outputs={"big": np.arange(100_000)}))
        with store.engine.begin() as connection:
            connection.execute(
                text("UPDATE blob_chunk SET data = zeroblob(length(data))")
            )
        with pytest.raises(IntegrityError, match="damaged"):
            results.load_value(reference.narrowed("outputs", ["big"]))
        with store.engine.begin() as connection:
            connection.execute(text("DELETE FROM blob_chunk"))
        with pytest.raises(IntegrityError, match="damaged"):
            results.load(reference, verify=False)

    def test_an_unknown_type_loads_as_generic(self, store):
        """A document of a type that is not registered here loses nothing."""
        writer = ResultsService(store, {"Shot": Shot})
        reference = writer.store(Shot(project_name="p", operator="Jo"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = ResultsService(store).load(reference)
        assert type(loaded) is Result
        assert loaded.operator == "Jo"
        assert "Shot" in str(caught[0].message)
        assert type(writer.load(reference)) is Shot


class TestFind:
    @pytest.fixture
    def filled(self, store: SQLDBService) -> ResultsService:
        results = ResultsService(store, {"Shot": Shot})
        for n in range(6):
            moment = f"2026-01-01T00:00:0{n}Z"
            results.store(result(n, date_modified=moment))
            inputs = {"number": n, "line": "ab"[n % 2], "charge": n / 2}
            results.store(Shot(project_name="injector", inputs=inputs))
        return results

    def test_queries_types_orders_and_pages(self, filled):
        """What a user asks of a project is answered with documents."""
        found = filled.find(
            "injector",
            {"outputs.square": {"$gte": 4}},
            result_type=Result,
            sort="-inputs.n",
            skip=1,
            limit=2,
        )
        assert [item.inputs["n"] for item in found] == [4, 3]
        newest = filled.find_one("injector", result_type="Shot", sort="-inputs.number")
        assert newest.inputs["number"] == 5
        assert filled.count("injector", {"inputs.n": {"$exists": True}}) == 6
        assert filled.count("nothing") == 0
        assert filled.distinct("injector", "inputs.line") == ["a", "b"]
        assert filled.distinct("injector", "result_type") == ["Generic", "Shot"]

    def test_a_projection_keeps_what_describes_the_result(self, filled):
        """Only the asked values are loaded, with hash, type and flow."""
        (found,) = filled.find(
            "injector", {"inputs.n": 3}, projection=["outputs.square"]
        )
        assert found.outputs == {"square": 9}
        assert found.inputs == {}
        assert found.flow_id == "flow"
        assert found.unique_hash == result(3).unique_hash

    def test_nothing_found_is_an_error_where_one_is_asked_for(self, filled):
        """Find yields nothing, find_one raises."""
        assert list(filled.find("injector", {"inputs.n": 99})) == []
        with pytest.raises(NotFoundError, match="matches"):
            filled.find_one("injector", {"inputs.n": 99})

    def test_find_by_index_uses_a_declared_index(self, filled):
        """All or the first fields of an index are enough; others are refused."""
        found = filled.find_by_index(
            "injector", Shot, {"inputs.line": "a", "inputs.charge": 1.0}
        )
        assert [item.inputs["number"] for item in found] == [2]
        found = filled.find_by_index("injector", "Shot", {"inputs.line": "b"})
        assert sorted(item.inputs["number"] for item in found) == [1, 3, 5]
        with pytest.raises(QueryError, match=r"inputs\.line, inputs\.charge"):
            filled.find_by_index("injector", "Shot", {"inputs.charge": 1.0})
        with pytest.raises(NotFoundError, match="Shot"):
            filled.find_by_index("injector", "Shoot", {"inputs.line": "a"})

    def test_find_by_unique_field_returns_one(self, filled):
        """The hash, or a field with a unique index, finds the one result."""
        shot = filled.find_by_unique_field(
            "injector", "inputs.number", 3, result_type="Shot"
        )
        assert shot.inputs["line"] == "b"
        same = filled.find_by_unique_field("injector", "unique_hash", shot.unique_hash)
        assert same == shot
        with pytest.raises(NotFoundError, match="99"):
            filled.find_by_unique_field(
                "injector", "inputs.number", 99, result_type=Shot
            )
        with pytest.raises(QueryError, match="unique_hash"):
            filled.find_by_unique_field(
                "injector", "inputs.charge", 1, result_type=Shot
            )
        with pytest.raises(QueryError, match="result_type"):
            filled.find_by_unique_field("injector", "inputs.number", 1)

    def test_a_unique_index_of_a_type_holds(self, filled):
        """A second shot of the same number is a conflict, named by its field."""
        with pytest.raises(ConflictError, match=r"inputs\.number"):
            filled.store(
                Shot(project_name="injector", inputs={"number": 3, "note": "x"})
            )

    def test_delete_needs_a_query(self, filled):
        """Nothing is removed by oversight; what matches is."""
        with pytest.raises(QueryError, match="needs a query"):
            filled.delete("injector", None)
        assert filled.delete("injector", {"inputs.n": {"$lt": 2}}) == 2
        assert filled.delete("injector", {}, result_type="Generic") == 4
        assert filled.count("injector") == 6
        assert filled.projects() == ["injector"]

    def test_operators_outside_the_language_are_refused(self, filled):
        """$where cannot come in through any method that takes a query."""
        query = {"$where": "sleep(1e9)"}
        for call in (
            filled.find,
            filled.find_one,
            filled.count,
            filled.load_dataframe,
            filled.delete,
        ):
            with pytest.raises(QueryError, match=r"\$where"):
                call("injector", query)
