"""Conditions on values in documents: what SQL servers answer is what Python would."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from prefect_lume.results import query as language
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.stores.sql import SQLDBService
from prefect_lume.results.stores.sql_search import Search
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import generated_values, make_document

SERVERS = ("postgresql_url", "mariadb_url", "mysql_url")


def opened(request: pytest.FixtureRequest, server: str) -> SQLDBService:
    """Return an empty store on a server."""
    store = SQLDBService(get_engine(request.getfixturevalue(server)))
    store.create_tables()
    request.addfinalizer(store.engine.dispose)
    return store


def fill(store: SQLDBService, documents: list[Encoded]) -> None:
    """Store documents."""
    assert set(store.insert_many("contract", documents)) == {True}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("seed", [1, 2])
def test_servers_answer_as_python_does(
    request: pytest.FixtureRequest, server: str, seed: int
) -> None:
    """Find, count, order and distinct values agree with the documents tested here."""
    store = opened(request, server)
    chance = random.Random(seed)
    # MySQL reads no number of more than 64 bits, and then nothing is left to compare.
    huge = server != "mysql_url"
    documents = [
        make_document(
            inputs=generated_values.inputs(chance, huge=huge), outputs={"n": n}
        )
        for n in range(120)
    ]
    fill(store, documents)
    trees = sorted((d.tree for d in documents), key=lambda tree: tree["_id"])
    asked = 0
    for _ in range(60):
        query = language.prepare(generated_values.query(chance))
        search = Search(store._transactions, "contract", language.validate(query))
        expected = [tree for tree in trees if language.matches(tree, query)]
        assert ids(store.find("contract", query)) == ids(expected), query
        counted = search.count()
        asked += search.verdict is not None
        assert counted in {None, len(expected)}, query
        path = language.escape_path(generated_values.path_of(chance))
        values: dict[Any, Any] = {}
        for tree in expected:
            for value in language.values(tree, path):
                values.setdefault(language.order_key(value), value)
        distinct = json.dumps([values[key] for key in sorted(values)], sort_keys=True)
        found = store.distinct("contract", path, query)
        assert json.dumps(found, sort_keys=True) == distinct, (path, query)
        way = chance.choice([1, -1])
        expected.sort(
            key=lambda tree: language.sort_key(tree, path, way), reverse=way < 0
        )
        assert ids(store.find("contract", query, [(path, way)])) == ids(expected)
    # Not one of them fell back to Python for an error of the server.
    assert asked > 30


def ids(trees: Any) -> list[str]:
    """Return the keys of documents."""
    return [tree["_id"] for tree in trees]


@pytest.mark.parametrize("server", SERVERS)
def test_a_document_that_a_server_cannot_read_does_not_stop_a_query(
    request: pytest.FixtureRequest, server: str
) -> None:
    """Nested too deep, half of a surrogate pair, U+0000: Python answers for those."""
    store = opened(request, server)
    deep: Any = 1
    for _ in range(150):
        deep = {"a": deep}
    odd = [{"a": deep}, {"a": "\0"}, {"a": "\ud800"}, {"a": 10**400}, {}]
    fill(store, [make_document(inputs={**one, "x": n}) for n, one in enumerate(odd)])
    query = language.prepare({"inputs.x": {"$gte": 1}})
    assert store.count("contract", query) == 4
    found = store.find("contract", query, [("inputs.x", -1)])
    assert [tree["inputs"]["x"] for tree in found] == [4, 3, 2, 1]
    assert store.distinct("contract", "inputs.x", query) == [1, 2, 3, 4]
    absent = language.prepare({"inputs.z": None, "inputs.x": {"$lt": 3}})
    assert store.count("contract", absent) == 3


@pytest.mark.parametrize("server", SERVERS)
def test_sparse_and_dense_answers_are_complete_and_in_order(
    request: pytest.FixtureRequest, server: str
) -> None:
    """Beyond the first thousand documents none is lost and none comes twice."""
    store = opened(request, server)
    fill(
        store,
        [
            make_document(
                inputs={"x": n},
                date_modified=f"2026-01-01T{n // 60:02}:{n % 60:02}:00.000000Z",
            )
            for n in range(1300)
        ],
    )
    for bound in (-1, 200, 1290, 2000):
        query = language.prepare({"inputs.x": {"$gt": bound}})
        for way in (1, -1):
            found = store.find("contract", query, [("date_modified", way)])
            numbers = [tree["inputs"]["x"] for tree in found]
            assert numbers == [n for n in range(1300) if n > bound][::way]
