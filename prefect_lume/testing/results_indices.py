"""Part of the contract of a results database: the indices of document types."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from prefect_lume.errors import ConflictError
from prefect_lume.results import Index, Result
from prefect_lume.results import query as language
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.stores import DBService
from prefect_lume.results.stores.index_changes import DuplicatesError
from prefect_lume.testing.corpus import make_document


class _Seeded(Result):
    """A document type with a unique and a plain index."""

    result_type: ClassVar[str] = "Seeded"
    indices: ClassVar[tuple[Index, ...]] = (
        Index(("inputs.seed",), unique=True),
        Index(("inputs.kind", "inputs.size")),
    )


class IndexContract:
    """What every results database promises of the indices of document types."""

    def test_a_unique_index_holds(self, db_service: DBService) -> None:
        """A declared unique index refuses a second value, per type and project."""
        db_service.prepare([_Seeded])
        db_service.prepare([_Seeded, Result])

        def seeded(seed: Any, note: str = "", project: str = "contract") -> Encoded:
            inputs = {"seed": seed, "note": note}
            return make_document(project, inputs=inputs, result_type="Seeded")

        assert db_service.insert("contract", seeded(1))
        with pytest.raises(ConflictError, match=r"inputs\.seed"):
            db_service.insert("contract", seeded(1, "again"))
        with pytest.raises(ConflictError, match=r"inputs\.seed"):
            db_service.replace("contract", seeded(1.0, "again"))
        assert db_service.insert("contract", seeded(2))
        assert db_service.insert("contract", seeded("1"))
        assert db_service.insert("other", seeded(1, project="other"))
        assert db_service.insert("contract", make_document(inputs={"seed": 1}))
        assert db_service.insert("contract", seeded(None))
        with pytest.raises(ConflictError, match=r"inputs\.seed"):
            db_service.insert("contract", make_document(result_type="Seeded"))
        assert db_service.count("contract") == 5
        db_service.delete("contract", {"inputs.seed": 1})
        assert db_service.insert("contract", seeded(1, "again"))

    def test_an_index_covers_what_was_stored_before(
        self, db_service: DBService
    ) -> None:
        """Preparing a type indexes its older documents, or says why it cannot."""
        for n in range(3):
            document = make_document(
                inputs={"seed": n, "kind": "x", "size": n % 2}, result_type="Seeded"
            )
            db_service.insert("contract", document)
        db_service.prepare([_Seeded])
        query = {"result_type": "Seeded", "inputs.kind": "x", "inputs.size": 0}
        assert db_service.count("contract", query) == 2
        assert len(list(db_service.find("contract", query))) == 2
        with pytest.raises(ConflictError):
            db_service.insert(
                "contract", make_document(inputs={"seed": 2}, result_type="Seeded")
            )

    def test_an_index_that_is_contradicted_says_so(self, db_service: DBService) -> None:
        """A unique index over documents that share a value is refused by name."""
        for n in range(2):
            document = make_document(inputs={"seed": 1, "n": n}, result_type="Seeded")
            db_service.insert("contract", document)
        with pytest.raises(ConflictError, match=r"inputs\.seed"):
            db_service.prepare([_Seeded])

    def test_a_number_is_found_in_every_form(self, db_service: DBService) -> None:
        """An index finds a number, an equal one, and a numpy scalar that holds it."""
        db_service.prepare([_Seeded])
        scalar = {"__lume__": "numpy-scalar", "v": 1, "dtype": "<f8", "value": 3.0}
        forms: list[Any] = [3, 3.0, scalar, "3", True, 4, None]
        for n, size in enumerate(forms):
            db_service.insert("contract", _document({"size": size, "seed": n}))
        db_service.insert("contract", make_document(inputs={"size": 3, "seed": 3}))
        of_type = {"result_type": {"$eq": "Seeded"}}

        def found(query: Mapping[str, Any]) -> list[Any]:
            whole = {"$and": [of_type, language.prepare(query)]}
            trees = db_service.find("contract", whole, sort=[("inputs.seed", 1)])
            assert db_service.count("contract", whole) == len(list(trees))
            trees = db_service.find("contract", whole, sort=[("inputs.seed", 1)])
            return [tree["inputs"]["seed"] for tree in trees]

        assert found({"inputs.kind": None, "inputs.size": 3}) == [0, 1, 2]
        assert found({"inputs.size": 3}) == [0, 1, 2]
        assert found({"inputs.seed": 3}) == [3]
        assert found({"inputs.seed": 3, "inputs.size": 3}) == []

    def test_many_may_prepare_at_once(self, db_service: DBService) -> None:
        """Preparing from four threads at once succeeds in all, and the index holds."""
        for n in range(150):
            document = make_document(inputs={"seed": n}, result_type="Seeded")
            db_service.insert("contract", document)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(db_service.prepare, [[_Seeded]] * 4))
        with pytest.raises(ConflictError):
            db_service.insert("contract", _document({"seed": 149, "note": "again"}))
        query = {"result_type": "Seeded", "inputs.seed": 77}
        assert db_service.count("contract", query) == 1


def _document(
    inputs: Mapping[str, Any], project: str = "contract", **header: Any
) -> Encoded:
    return make_document(project, inputs, **{"result_type": "Seeded", **header})


def _type(*indices: Index) -> type[Result]:
    """Return a version of one document type that declares some indices."""
    return type("Seeded", (Result,), {"indices": indices, "__module__": __name__})


class IndexOptionsContract:
    """What a results database promises that offers all options of indices.

    A service that overrides neither ``compare_indices`` nor ``migrate_indices`` and
    takes no heed of the options need not keep it.
    """

    def test_a_compound_unique_index_takes_all_fields(
        self, db_service: DBService
    ) -> None:
        """Documents may share a value of one field, not of all."""
        db_service.prepare([_type(Index(("inputs.a", "inputs.b"), unique=True))])
        for a, b in ((1, 1), (1, 2), (2, 1), (1, None)):
            assert db_service.insert("contract", _document({"a": a, "b": b}))
        with pytest.raises(ConflictError, match=r"inputs\.a, inputs\.b"):
            db_service.insert("contract", _document({"a": 2, "b": 1.0, "n": 1}))
        with pytest.raises(ConflictError):
            db_service.insert("contract", _document({"a": 1}))

    def test_a_sparse_unique_index_lets_many_lack_the_field(
        self, db_service: DBService
    ) -> None:
        """Documents without the field do not collide; with it, they do."""
        index = Index(("inputs.serial",), unique=True, sparse=True)
        db_service.insert("contract", _document({"n": -1}))
        db_service.insert("contract", _document({"n": -2}))
        db_service.prepare([_type(index)])
        for n in range(3):
            assert db_service.insert("contract", _document({"n": n}))
        assert db_service.insert("contract", _document({"serial": "a"}))
        with pytest.raises(ConflictError, match=r"inputs\.serial"):
            db_service.insert("contract", _document({"serial": "a", "n": 1}))
        of_type = {"result_type": "Seeded"}
        assert db_service.count("contract", {**of_type, "inputs.serial": "a"}) == 1
        assert db_service.count("contract", {**of_type, "inputs.serial": None}) == 5

    def test_a_partial_unique_index_holds_where_it_says(
        self, db_service: DBService
    ) -> None:
        """Only documents that match the condition collide, and all are found."""
        where = {"inputs.kind": "golden", "inputs.n": {"$gte": 1}}
        index = Index(("inputs.seed",), unique=True, where=where)
        db_service.prepare([_type(index)])
        for kind, n in (("golden", 1), ("golden", 0), ("other", 5), ("other", 6)):
            document = _document({"kind": kind, "n": n, "seed": 1})
            assert db_service.insert("contract", document)
        with pytest.raises(ConflictError, match=r"inputs\.seed"):
            db_service.insert(
                "contract", _document({"kind": "golden", "n": 2, "seed": 1})
            )
        seed = {"result_type": "Seeded", "inputs.seed": 1}
        assert db_service.count("contract", seed) == 4
        assert db_service.count("contract", {**seed, "inputs.kind": "golden"}) == 2
        found = db_service.find("contract", {**seed, **where})
        assert [tree["inputs"]["n"] for tree in found] == [1]
        # A document that comes to match has its key, one that ceases to has none.
        changed = _document({"kind": "golden", "n": 1, "seed": 1})
        moved = {**changed.tree, "inputs": {"kind": "was", "n": 1, "seed": 1}}
        db_service.replace("contract", Encoded(moved, {}))
        assert db_service.insert(
            "contract", _document({"kind": "golden", "n": 2, "seed": 1})
        )

    def test_documents_expire(self, db_service: DBService) -> None:
        """What is older than the type allows is removed, in its condition only."""
        now = db_service.now()
        scratch = Index(
            ("date_modified",),
            where={"inputs.kind": "scratch"},
            expire_after=timedelta(days=30),
        )
        ages = {"old": 31, "young": 29}

        def store(kind: str, note: str) -> None:
            for name, days in ages.items():
                moment = (now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S")
                inputs = {"kind": kind, "age": name, "note": note}
                made = f"{moment}.000000Z"
                db_service.insert("contract", _document(inputs, date_modified=made))

        store("scratch", "before")
        store("golden", "before")
        db_service.prepare([_type(scratch)])
        assert [i.expire_after for i in db_service.expiring_indices()] == [30 * 86400]
        store("scratch", "after")
        # The server may have been faster.
        assert db_service.delete_expired() <= 2
        left = [tree["inputs"] for tree in db_service.find("contract")]
        assert len(left) == 4
        assert {(i["kind"], i["age"]) for i in left} == {
            ("golden", "old"),
            ("golden", "young"),
            ("scratch", "young"),
        }
        assert db_service.delete_expired() == 0

    def test_an_index_that_is_unique_no_more_refuses_nothing(
        self, db_service: DBService
    ) -> None:
        """Preparing a type whose index has other options replaces the index."""
        db_service.prepare([_type(Index(("inputs.seed",), unique=True))])
        db_service.insert("contract", _document({"seed": 1}))
        plain = _type(Index(("inputs.seed",)))
        db_service.prepare([plain])
        assert db_service.insert("contract", _document({"seed": 1, "n": 1}))
        assert not db_service.compare_indices([plain])
        query = {"result_type": "Seeded", "inputs.seed": 1}
        assert db_service.count("contract", query) == 2

    def test_an_obsolete_index_is_reported_and_dropped_on_demand(
        self, db_service: DBService
    ) -> None:
        """An index on fields that are not declared any more goes by migration only."""
        before = _type(Index(("inputs.seed",), unique=True), Index(("inputs.n",)))
        after = _type(Index(("inputs.n",)), Index(("inputs.kind",)))
        db_service.insert("contract", _document({"seed": 1}))
        db_service.prepare([before])
        assert not db_service.compare_indices([before])
        assert not db_service.compare_indices([Result])
        changes = db_service.compare_indices([after])
        assert [c.index.fields for c in changes.create] == [("inputs.kind",)]
        dropped = [(c.index.fields, c.reason) for c in changes.drop]
        assert dropped == [(("inputs.seed",), "obsolete")]
        db_service.prepare([after])
        with pytest.raises(ConflictError):
            db_service.insert("contract", _document({"seed": 1, "n": 1}))
        assert db_service.migrate_indices([after]).drop == changes.drop
        assert db_service.insert("contract", _document({"seed": 1, "n": 1}))
        assert not db_service.compare_indices([after])

    def test_documents_in_the_way_are_named(self, db_service: DBService) -> None:
        """A unique index over duplicates names groups of them and leaves no trace."""
        documents = [_document({"seed": n // 2, "n": n}) for n in range(14)]
        documents += [_document({"seed": 100 + n}) for n in range(3)]
        for document in documents:
            db_service.insert("contract", document)
        unique = _type(Index(("inputs.seed",), unique=True), Index(("inputs.n",)))
        blocked = db_service.compare_indices([unique]).blocked
        with pytest.raises(DuplicatesError, match="7 groups") as caught:
            db_service.prepare([unique])
        for change in (*blocked, caught.value.change):
            assert change.total == 7
            assert len(change.groups) == 5
            for group in change.groups:
                pair = [
                    document.tree["_id"]
                    for document in documents
                    if f"inputs.seed = {document.tree['inputs']['seed']}"
                    == group.values
                ]
                assert sorted(group.unique_hashes) == sorted(pair)
                assert (group.count, group.collection) == (2, "contract")
                assert pair[0] in str(caught.value)
        # Nothing half-built goes on refusing, and the other index is there.
        assert db_service.insert("contract", _document({"seed": 100, "n": 99}))
        db_service.delete("contract", {"inputs.n": {"$gte": 0}})
        assert [
            c.index.fields for c in db_service.compare_indices([unique]).create
        ] == [("inputs.seed",)]
        db_service.prepare([unique])
        with pytest.raises(ConflictError):
            db_service.insert("contract", _document({"seed": 100, "n": 1}))

    def test_an_index_in_the_way_of_its_successor_stays_until_it_can_go(
        self, db_service: DBService
    ) -> None:
        """If the unique index cannot be built, the plain one before it stays."""
        plain = _type(Index(("inputs.seed",)))
        unique = _type(Index(("inputs.seed",), unique=True))
        db_service.prepare([plain])
        for n in range(2):
            db_service.insert("contract", _document({"seed": 1, "n": n}))
        changes = db_service.migrate_indices([unique])
        assert not changes.drop
        assert [c.total for c in changes.blocked] == [1]
        assert not db_service.compare_indices([plain])
        db_service.delete("contract", {"inputs.n": 1})
        assert [c.reason for c in db_service.migrate_indices([unique]).drop] == [
            "replaced"
        ]
        with pytest.raises(ConflictError):
            db_service.insert("contract", _document({"seed": 1, "n": 2}))
