"""Indices of document types: what may be declared, what fits a query, what is built."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from prefect_lume.errors import InvalidInputError, QueryError
from prefect_lume.results import Index, Result
from prefect_lume.results import query as language
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.stores.implied import implied
from prefect_lume.results.stores.index_changes import duplicates
from prefect_lume.results.stores.indices import (
    DeclaredIndex,
    declared,
    unique_condition,
)
from prefect_lume.results.stores.mongo.indices import MongoIndices
from prefect_lume.results.stores.sql import index as sql_index
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import make_document


def document_type(*indices: Index) -> type[Result]:
    return type("Seeded", (Result,), {"indices": indices, "__module__": __name__})


def seeded(inputs: dict[str, Any], **header: Any) -> Any:
    return make_document(inputs=inputs, **{"result_type": "Seeded", **header})


def only(*indices: Index) -> DeclaredIndex:
    (index,) = declared(document_type(*indices))
    return index


class TestDeclaration:
    def test_a_condition_does_not_change_and_can_be_hashed(self) -> None:
        """Equal definitions are equal and hash alike, whatever form they came in."""
        query = {"inputs.n": {"$gt": 1}, "inputs.kind": "golden"}
        one = Index(("inputs.a",), where=query)
        two = Index(
            ("inputs.a",),
            where={
                "$and": [{"inputs.kind": {"$eq": "golden"}}, {"inputs.n": {"$gt": 1}}]
            },
        )
        query["inputs.n"] = 5
        assert one == two
        assert hash(one) == hash(two)
        assert one.where == {"inputs.n": {"$gt": 1}, "inputs.kind": "golden"}
        assert dataclasses.replace(one, unique=True).where is one.where
        assert one != Index(("inputs.a",), where={"inputs.n": {"$gt": True}})

    def test_an_inner_condition_does_not_change(self) -> None:
        """Changing the operators that were given leaves the index as it was."""
        inner: dict[str, Any] = {"$gt": 1}
        index = Index(("inputs.a",), where={"inputs.n": inner})
        inner["$gt"] = 2
        assert index.where == {"inputs.n": {"$gt": 1}}

    @pytest.mark.parametrize(
        "where",
        [
            {},
            [],
            {"inputs.a": {"$ne": 1}},
            {"inputs.a": {"$in": [1]}},
            {"inputs.a": {"$exists": False}},
            {"inputs.a": {"$regex": "a"}},
            {"inputs.a": {"$not": {"$gt": 1}}},
            {"inputs.a": {"$gt": None}},
            {"inputs.a": [1, 2]},
            {"inputs.a": {"b": 1}},
            {"$or": [{"inputs.a": 1}]},
            {"$and": []},
            {"$where": "1"},
        ],
    )
    def test_other_conditions_are_refused(self, where: Any) -> None:
        """What not every database can filter an index by is refused with a list."""
        with pytest.raises(QueryError, match=r"\$eq.*\$exists.*\$gt"):
            Index(("inputs.a",), where=where)

    @pytest.mark.parametrize(
        "options",
        [
            {"fields": ("inputs.a",)},
            {"fields": ("date_modified", "flow_id")},
            {"unique": True},
            {"sparse": True},
            {"expire_after": timedelta(0)},
            {"expire_after": 30},
        ],
    )
    def test_expiry_counts_from_the_date_alone(self, options: dict[str, Any]) -> None:
        """An index that lets documents expire is refused in any other company."""
        given = {"fields": ("date_modified",), "expire_after": timedelta(1), **options}
        with pytest.raises(InvalidInputError, match="expire_after"):
            Index(**given)

    def test_a_definition_without_options_keeps_its_name(self) -> None:
        """Databases of earlier versions keep their indices."""
        index = only(Index(("inputs.seed",), unique=True))
        assert index.name == (
            "002ad5f1a8bd35d3a77efea00e87f25b85394dda47d9e0492b5380fe6cba92b1"
        )

    def test_every_option_makes_another_index(self) -> None:
        """Definitions that differ in any option have different names."""
        field = ("inputs.seed",)
        names = {
            only(index).name
            for index in (
                Index(field),
                Index(field, unique=True),
                Index(field, sparse=True),
                Index(field, where={"inputs.n": 1}),
                Index(field, where={"inputs.n": True}),
                Index(field, where={"inputs.n": "1"}),
                Index(field, sparse=True, where={"inputs.n": 1}),
                Index(("date_modified",), expire_after=timedelta(days=1)),
                Index(("date_modified",), expire_after=timedelta(days=2)),
            )
        }
        assert len(names) == 9

    def test_a_date_in_a_condition_is_an_instant(self) -> None:
        """Dates are compared as they are stored, with and without an envelope."""
        moment = datetime(2026, 1, 2, tzinfo=UTC)
        where = {"inputs.t": {"$gte": moment}, "date_modified": {"$lt": moment}}
        assert only(Index(("inputs.a",), where=where)).where == (
            ("date_modified", "$lt", "2026-01-02T00:00:00.000000Z"),
            ("inputs.t.utc", "$gte", "2026-01-02T00:00:00.000000Z"),
        )

    def test_the_query_for_a_unique_field_holds_the_condition(self) -> None:
        """A field that is unique in part is looked for in that part."""
        full = Index(("inputs.a",), unique=True)
        part = Index(("inputs.a",), unique=True, where={"inputs.kind": "golden"})
        condition = {"inputs.kind": {"$eq": "golden"}}
        assert unique_condition(document_type(part), "inputs.a") == condition
        assert unique_condition(document_type(part, full), "inputs.a") == {}
        assert unique_condition(document_type(part, full), "inputs.b") is None


class TestUse:
    @pytest.mark.parametrize(
        ("index", "query", "fits"),
        [
            (Index(("inputs.a",)), {"inputs.a": "x"}, True),
            (Index(("inputs.a",), sparse=True), {"inputs.a": "x"}, True),
            (Index(("inputs.a",), sparse=True), {"inputs.a": 3}, True),
            (Index(("inputs.a",), sparse=True), {"inputs.a": None}, False),
            (Index(("inputs.a",), where={"inputs.k": "g"}), {"inputs.a": "x"}, False),
            (
                Index(("inputs.a",), where={"inputs.k": "g"}),
                {"inputs.a": "x", "inputs.k": "g"},
                True,
            ),
            (
                Index(("inputs.a",), where={"inputs.k": "g"}),
                {"inputs.a": "x", "inputs.k": "h"},
                False,
            ),
            (
                Index(("inputs.a",), where={"inputs.k": {"$gt": "f"}}),
                {"inputs.a": "x", "inputs.k": "g"},
                True,
            ),
            (
                Index(("inputs.a",), where={"inputs.k": {"$gt": "f"}}),
                {"inputs.a": "x", "inputs.k": {"$gt": "f", "$lt": "z"}},
                True,
            ),
            (
                Index(("inputs.a",), where={"inputs.k": {"$gt": 1}}),
                {"inputs.a": "x", "inputs.k": 2},
                False,
            ),
            (
                Index(("inputs.a",), where={"inputs.k": {"$exists": True}}),
                {"inputs.a": "x", "inputs.k": 2},
                True,
            ),
            (
                Index(("inputs.a",), where={"deployment_id": {"$gte": 1}}),
                {"inputs.a": "x", "deployment_id": 2},
                True,
            ),
        ],
    )
    def test_an_index_serves_what_implies_its_condition(
        self, index: Index, query: dict[str, Any], fits: bool
    ) -> None:
        """Queries that may match documents outside the index do not use it."""
        assert implied(only(index), language.prepare(query)) is fits

    def test_hidden_dates_follow_the_shortest_time(self) -> None:
        """A document expires by the index that lets it expire first, if any does."""
        day = timedelta(days=1)
        indices = MongoIndices(lambda: "")
        where = {"inputs.kind": "scratch"}
        indices.declare(
            [
                document_type(
                    Index(("date_modified",), expire_after=30 * day),
                    Index(("date_modified",), expire_after=day, where=where),
                )
            ]
        )
        made = datetime(2026, 1, 1, tzinfo=UTC)
        hidden = indices.hidden_fields(seeded({"kind": "scratch"}).tree)
        assert hidden == {"_expires": made + day}
        hidden = indices.hidden_fields(seeded({"kind": "golden"}).tree)
        assert hidden == {"_expires": made + 30 * day}
        assert indices.hidden_fields(make_document().tree) == {}


class TestDuplicates:
    def test_groups_are_counted_beyond_what_is_shown(self) -> None:
        """All groups are counted, five are shown, of each five hashes."""
        trees = [seeded({"seed": n % 7, "n": n}).tree for n in range(70)]
        index = sql_index.IndexDefinition("Seeded", ("inputs.seed",), unique=True)
        groups, total = duplicates(index, "contract", lambda: trees, index.keys)
        assert total == 7
        assert [len(group.unique_hashes) for group in groups] == [5] * 5
        assert groups[0].count == 10
        assert str(groups[0]).endswith("and 5 more")

    def test_one_document_is_no_duplicate_of_itself(self) -> None:
        """A list that holds a value twice is no conflict."""
        trees = [seeded({"seed": [1, 1, 2]}).tree, seeded({"seed": [3, 4]}).tree]
        index = sql_index.IndexDefinition("Seeded", ("inputs.seed",), unique=True)
        assert duplicates(index, "contract", lambda: trees, index.keys) == ([], 0)


_KILLED = """
import os, sys
from sqlalchemy import event
from prefect_lume.results import Index, Result
from prefect_lume.results.stores import SQLDBService
from prefect_lume.storage.sql import get_engine

engine = get_engine(sys.argv[1])
keys = 0

@event.listens_for(engine, "before_cursor_execute")
def kill(connection, cursor, statement, parameters, context, many):
    global keys
    if statement.startswith("INSERT INTO result_index_key"):
        keys += 1
        if keys == 3:
            os._exit(9)

class Seeded(Result):
    indices = (Index(("inputs.seed",), unique=True),)

SQLDBService(engine).prepare([Seeded])
"""


class TestBuildingInSQL:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SQLDBService]:
        engine = get_engine(f"sqlite:///{tmp_path / 'results.db'}")
        store = SQLDBService(engine)
        store.create_tables()
        yield store
        engine.dispose()

    def test_a_killed_build_is_completed_by_the_next(
        self, store: SQLDBService, tmp_path: Path
    ) -> None:
        """What a killed process left is reported, enforced and completed."""
        store.insert_many("contract", [seeded({"seed": n}) for n in range(1000)])
        url = f"sqlite:///{tmp_path / 'results.db'}"
        done = subprocess.run([sys.executable, "-c", _KILLED, url], check=False)
        assert done.returncode == 9
        assert 0 < self.key_count(store) < 1000
        seed = document_type(Index(("inputs.seed",), unique=True))
        (change,) = store.compare_indices([seed]).create
        assert change.reason == "unfinished"
        query = {"result_type": "Seeded", "inputs.seed": 999}
        assert store.count("contract", query) == 1
        store.prepare([seed])
        assert self.key_count(store) == 1000
        assert not store.compare_indices([seed])
        assert store.count("contract", query) == 1

    def test_keys_without_a_document_do_not_stand_in_the_way(
        self, store: SQLDBService
    ) -> None:
        """A key that a vanished document left behind is removed by the next build."""
        unique = document_type(Index(("inputs.seed",), unique=True))
        store.prepare([unique])
        store.insert("contract", seeded({"seed": 1}))
        with store.engine.begin() as connection:
            connection.execute(sql_tables.result.delete())
            connection.execute(sql_tables.result_index.update().values(ready=False))
            connection.execute(
                sql_tables.result.insert(),
                [_row(seeded({"seed": 1, "note": "other"}).tree)],
            )
        store.prepare([unique])
        assert not store.compare_indices([unique])
        assert self.key_count(store) == 1

    def test_a_document_of_too_many_values_leaves_no_index(
        self, store: SQLDBService
    ) -> None:
        """An index that cannot hold a document is refused and leaves no trace."""
        store.insert("contract", seeded({"seed": list(range(20_000))}))
        many = document_type(Index(("inputs.seed",)))
        with pytest.raises(InvalidInputError, match="20001 keys"):
            store.prepare([many])
        assert [c.reason for c in store.compare_indices([many]).create] == ["missing"]

    def test_a_blocked_index_leaves_no_keys(self, store: SQLDBService) -> None:
        """After a refused build no definition and no key is left."""
        for n in range(500):
            store.insert("contract", seeded({"seed": min(n, 498), "n": n}))
        unique = document_type(Index(("inputs.seed",), unique=True))
        assert [c.total for c in store.migrate_indices([unique]).blocked] == [1]
        assert self.key_count(store) == 0

    @staticmethod
    def key_count(store: SQLDBService) -> int:
        with store.engine.connect() as connection:
            return len(connection.execute(select(sql_tables.result_index_key)).all())


def _row(tree: dict[str, Any]) -> dict[str, Any]:
    from prefect_lume.results.stores.trees import to_json

    header = ("result_type", "flow_id", "flow_run_id", "deployment_id", "date_modified")
    row = {name: tree[name] for name in header}
    return {
        **row,
        "collection": "contract",
        "unique_hash": tree["_id"],
        "document": to_json(tree),
    }
