"""The contract of a results database, as a suite that anyone can run.

Example::

    import pytest
    from prefect_lume.testing import DBServiceContract

    class TestMyDBService(DBServiceContract):
        @pytest.fixture
        def db_service(self):
            service = MyDBService(MyConfig(url="blah://..."))
            yield service
            service.close()
"""

from __future__ import annotations

import operator
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from prefect_lume.errors import (
    InvalidInputError,
    NotFoundError,
    QueryError,
)
from prefect_lume.results import query as language
from prefect_lume.results.stores import DBService
from prefect_lume.testing import generated
from prefect_lume.testing.corpus import QUERIES, REFUSED, SORTS, digest, make_document
from prefect_lume.testing.corpus import corpus as corpus_documents
from prefect_lume.testing.results_indices import IndexContract
from prefect_lume.testing.results_parts import BlobContract
from prefect_lume.testing.results_writes import WriteContract


class DBServiceContract(IndexContract, BlobContract, WriteContract):
    """What every results database promises. Override ``db_service`` and run it."""

    #: How many random queries are compared.
    generated_queries: ClassVar[int] = 200

    @pytest.fixture
    def db_service(self) -> DBService:
        """Return the service under test, on an empty database."""
        raise NotImplementedError("Override the fixture 'db_service'.")

    # --- documents -------------------------------------------------------------

    def test_a_document_comes_back_exactly(self, db_service: DBService) -> None:
        """Every plain value comes back as it was: type, sign, size and text."""
        inputs = {
            "ints": [0, 1, -1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)],
            "floats": [1.0, -0.0, 1e300, 5e-324, 0.1 + 0.2, 1e16, 123456789.0],
            "texts": ["", " a ", "é", "🌌", "\x00", '"\\', "\u2028", "a" * 70_000],
            "others": [None, True, False, {}, [], [[]], [{}]],
            "keys": {"a%2Eb": 1, "%24x": 2, "%": 3, "é": 4, " ": 5, "0": 6, "🌌": 7},
            "deep": {"a": [{"b": [{"c": [[[1]]]}]}]},
        }
        encoded = make_document(inputs=inputs)
        assert db_service.insert("contract", encoded)
        for tree in (
            db_service.get("contract", encoded.tree["_id"]),
            next(iter(db_service.find("contract"))),
        ):
            assert tree == encoded.tree
            assert _typed(tree["inputs"]) == _typed(inputs)

    def test_a_key_is_stored_once(self, db_service: DBService) -> None:
        """A second insert of a key returns False and changes nothing."""
        first = make_document(inputs={"n": 1}, _id="ab" * 32)
        second = make_document(inputs={"n": 2}, _id="ab" * 32)
        assert db_service.insert("contract", first) is True
        assert db_service.insert("contract", second) is False
        assert db_service.get("contract", "ab" * 32) == first.tree
        assert db_service.count("contract") == 1

    def test_a_key_counts_in_its_collection_only(self, db_service: DBService) -> None:
        """The same key may be stored in two projects."""
        for project in ("contract", "other"):
            assert db_service.insert(project, make_document(project, _id="ab" * 32))
        assert db_service.collections() == ["contract", "other"]

    def test_replace_stores_and_replaces(self, db_service: DBService) -> None:
        """Replacing works with and without a document of that key."""
        for n in (1, 2):
            document = make_document(inputs={"n": n}, _id="ab" * 32)
            db_service.replace("contract", document)
            assert db_service.get("contract", "ab" * 32) == document.tree
        assert db_service.count("contract", {"inputs.n": 1}) == 0

    def test_what_is_not_there_is_not_found(self, db_service: DBService) -> None:
        """A missing key raises; a missing collection is empty."""
        with pytest.raises(NotFoundError, match="no result"):
            db_service.get("contract", "ab" * 32)
        with pytest.raises(NotFoundError, match="no blob"):
            db_service.get_blob("ab" * 32)
        assert list(db_service.find("nothing")) == []
        assert db_service.count("nothing") == 0
        assert db_service.delete("nothing", {}) == 0
        assert db_service.collections() == []

    def test_a_name_that_no_database_holds_is_refused(
        self, db_service: DBService
    ) -> None:
        """Collections are named alike in every database."""
        for name in ("", "a$b", "system.x", " a", "a ", "a\0b", "é" * 100, ".a"):
            with pytest.raises(InvalidInputError, match="project name"):
                db_service.insert(name, make_document(name))

    def test_unusual_names_of_projects_work(self, db_service: DBService) -> None:
        """Names with dots, blanks, any script and case are collections of their own."""
        names = sorted(["a.b", "Injector 2", "injector 2", "é🌌", "e🌌", "x" * 100])
        for name in names:
            assert db_service.insert(name, make_document(name))
            assert db_service.count(name, {"project_name": name}) == 1
        assert db_service.collections() == names

    # --- concurrency -----------------------------------------------------------

    def test_of_many_writers_of_one_key_one_wins(self, db_service: DBService) -> None:
        """Eight threads insert one document: one True, one document, whole blobs."""
        data = bytes(range(256)) * 8192
        encoded = make_document(inputs={"n": 1}, blobs={digest(data): data})
        with ThreadPoolExecutor(8) as threads:
            answers = list(
                threads.map(lambda _: db_service.insert("contract", encoded), range(8))
            )
        assert sorted(answers) == [False] * 7 + [True]
        assert db_service.count("contract") == 1
        assert db_service.get_blob(digest(data)) == data

    def test_many_writers_of_many_keys_all_get_in(self, db_service: DBService) -> None:
        """Concurrent writers of different documents do not disturb each other."""
        documents = [make_document(inputs={"n": n}) for n in range(40)]
        with ThreadPoolExecutor(8) as threads:
            answers = list(
                threads.map(lambda d: db_service.insert("contract", d), documents)
            )
        assert answers == [True] * 40
        assert db_service.count("contract") == 40

    def test_a_reader_may_write_meanwhile(self, db_service: DBService) -> None:
        """Documents can be stored while others are being read."""
        for n in range(30):
            db_service.insert("contract", make_document(inputs={"n": n}))
        for tree in db_service.find("contract", sort=[("_id", 1)]):
            copy = make_document("other", inputs=tree["inputs"])
            assert db_service.insert("other", copy)
        assert db_service.count("other") == 30

    # --- queries ---------------------------------------------------------------

    def test_queries_mean_the_same_everywhere(self, db_service: DBService) -> None:
        """Every query of the language finds what ``matches`` says it finds."""
        corpus = corpus_documents()
        for encoded in corpus:
            assert db_service.insert("contract", encoded)
        wrong = []
        for query in QUERIES:
            found = {tree["_id"] for tree in db_service.find("contract", query)}
            expected = [d for d in corpus if language.matches(d.tree, query)]
            count = db_service.count("contract", query)
            if found != {d.tree["_id"] for d in expected} or count != len(expected):
                odd = found ^ {d.tree["_id"] for d in expected}
                inputs = [d.tree["inputs"] for d in corpus if d.tree["_id"] in odd]
                wrong.append((query, count, len(expected), inputs))
        assert not wrong, "\n".join(map(repr, wrong))

    def test_generated_queries_mean_the_same(self, db_service: DBService) -> None:
        """Random queries over random documents find what ``matches`` finds."""
        chance = random.Random(7)  # noqa: S311 - reproducible, and no secret.
        corpus = [
            make_document(inputs=generated.inputs(chance), outputs={"n": n})
            for n in range(60)
        ]
        for encoded in corpus:
            assert db_service.insert("contract", encoded)
        by_hash = {d.tree["_id"]: d.tree for d in corpus}
        wrong = []
        for _ in range(self.generated_queries):
            query = generated.query(chance)
            found = {tree["_id"] for tree in db_service.find("contract", query)}
            expected = {
                key for key, tree in by_hash.items() if language.matches(tree, query)
            }
            if found != expected:
                odd = found ^ expected
                wrong.append((query, [by_hash[key]["inputs"] for key in odd]))
        assert not wrong, "\n".join(map(repr, wrong))

    def test_sorting_means_the_same_everywhere(self, db_service: DBService) -> None:
        """Orders over all types are MongoDB's, total, and cut into pages alike."""
        corpus = corpus_documents()
        for encoded in corpus:
            db_service.insert("contract", encoded)
        for pairs in SORTS:
            expected = [d.tree for d in corpus]
            for path, way in reversed([*pairs, ("_id", 1)]):
                decorated = [
                    (language.sort_key(tree, path, way), tree) for tree in expected
                ]
                decorated.sort(key=operator.itemgetter(0), reverse=way < 0)
                expected = [tree for _, tree in decorated]
            found = list(db_service.find("contract", sort=pairs))
            assert found == expected, pairs
            page = db_service.find("contract", sort=pairs, skip=7, limit=9)
            assert list(page) == expected[7:16], pairs
        ordered = [d.tree["date_modified"] for d in corpus]
        found_times = [t["date_modified"] for t in db_service.find("contract")]
        assert found_times == sorted(ordered)

    def test_limits_and_skips_go_with_queries(self, db_service: DBService) -> None:
        """A page of what a query matches is cut after matching."""
        for n in range(50):
            db_service.insert(
                "contract",
                make_document(
                    inputs={"n": n}, date_modified=f"2026-01-01T00:00:{n:02}.000000Z"
                ),
            )
        query = {"inputs.n": {"$gte": 10}}
        found = db_service.find("contract", query, skip=5, limit=30)
        assert [tree["inputs"]["n"] for tree in found] == list(range(15, 45))
        assert list(db_service.find("contract", query, limit=0)) == []
        assert list(db_service.find("contract", query, skip=100)) == []
        with pytest.raises(QueryError):
            list(db_service.find("contract", skip=-1))

    def test_projections_keep_what_is_asked(self, db_service: DBService) -> None:
        """Objects and the objects in lists lose all other fields."""
        inputs = {"a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}, 5, [{"x": 3}]]}
        encoded = make_document(inputs=inputs, outputs={"z": 1})
        db_service.insert("contract", encoded)
        paths = ["inputs.b.c", "inputs.l.x", "inputs.none", "flow_id"]
        (tree,) = db_service.find("contract", projection=paths)
        assert tree == {
            "_id": encoded.tree["_id"],
            "flow_id": None,
            "inputs": {"b": {"c": 2}, "l": [{"x": 1}, [{"x": 3}]]},
        }
        (bare,) = db_service.find("contract", projection=[])
        assert bare == {"_id": encoded.tree["_id"]}

    def test_distinct_values_are_sorted(self, db_service: DBService) -> None:
        """Distinct takes lists apart, skips what is missing, and sorts."""
        for encoded in corpus_documents():
            db_service.insert("contract", encoded)
        flows = db_service.distinct("contract", "flow_id")
        assert flows == [None, "flow-1", "flow-2"]
        assert db_service.distinct("contract", "deployment_id") == [None, 1, 2, 10]
        assert db_service.distinct("contract", "inputs.a.b") == [
            None,
            1,
            2,
            5,
            9,
            {"c": [{"d": 1}]},
        ]
        only = db_service.distinct("contract", "outputs.n", {"outputs.n": {"$lt": 3}})
        assert only == [0, 1, 2]

    def test_other_operators_never_reach_the_server(
        self, db_service: DBService
    ) -> None:
        """Whatever is outside the language is refused by all methods."""
        for query in REFUSED:
            with pytest.raises(QueryError):
                list(db_service.find("contract", query))
            with pytest.raises(QueryError):
                db_service.count("contract", query)
            with pytest.raises(QueryError):
                db_service.distinct("contract", "inputs.a", query)
            with pytest.raises(QueryError):
                db_service.delete("contract", query)

    def test_delete_removes_what_matches(self, db_service: DBService) -> None:
        """Only matching documents of the one collection go; their keys are free."""
        for n in range(5):
            db_service.insert("contract", make_document(inputs={"n": n}))
        db_service.insert("other", make_document("other", inputs={"n": 0}))
        assert db_service.delete("contract", {"inputs.n": {"$lt": 3}}) == 3
        assert db_service.count("contract") == 2
        assert db_service.count("other") == 1
        assert db_service.insert("contract", make_document(inputs={"n": 0}))


def _typed(value: Any) -> Any:
    """Return a tree with the type and exact text of each of its values."""
    if isinstance(value, dict):
        return {name: _typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return (type(value), repr(value))
