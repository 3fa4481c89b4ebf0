"""Conditions on values in documents: what SQL servers answer is what Python would."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from sqlalchemy import event

from prefect_lume.results import Result
from prefect_lume.results import query as language
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.index import Index
from prefect_lume.results.stores.sql.search import Search
from prefect_lume.results.stores.sql.service import SQLDBService
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import generated_values, make_document

SERVERS = ("postgresql_url", "mariadb_url", "mysql_url")


class Indexed(Result):
    """A result with an index, and one that is unique."""

    result_type = "Indexed"
    indices = (Index(("inputs.group",)), Index(("inputs.n",), unique=True))


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
    for _ in range(40):
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
    assert asked > 20


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


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("way", [1, -1])
def test_the_first_by_a_value_are_those_that_python_finds(
    request: pytest.FixtureRequest, server: str, way: int
) -> None:
    """With a limit, equal numbers, what is no number and absence keep their order."""
    store = opened(request, server)
    chance = random.Random(3)
    odd: list[Any] = [None, "a", True, [5, 1], {"a": 1}, 10**30, -(10**30), 0.0]
    documents = [
        make_document(inputs={"x": chance.choice(odd)} if n % 50 == 0 else {"x": n % 7})
        if n % 11
        else make_document(inputs={"y": n})
        for n in range(400)
    ]
    documents += [make_document(outputs={"z": n, "w": n / 3}) for n in range(300)]
    unique = {document.tree["_id"]: document for document in documents}
    fill(store, list(unique.values()))
    for path in ("inputs.x", "outputs.z", "outputs.w"):
        for limit in (1, 10, 150):
            for query in ({}, {"outputs.z": {"$gt": 20}}, {path: {"$lt": 4}}):
                asked = language.prepare(query)
                trees = [d.tree for d in unique.values()]
                expected = [t for t in trees if language.matches(t, asked)]
                expected.sort(key=lambda tree: tree["_id"])
                expected.sort(
                    key=lambda tree, path=path: language.sort_key(tree, path, way),
                    reverse=way < 0,
                )
                found = store.find("contract", asked, [(path, way)], limit=limit)
                assert ids(found) == ids(expected[:limit]), (path, limit, query)


def plans(store: SQLDBService, query: dict[str, Any]) -> list[str]:
    """Return how the server ran each statement of a query, as it explains it."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        assert list(store.find("contract", query))
    finally:
        event.remove(store.engine, "before_cursor_execute", note)
    found = []
    with store.engine.connect() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            # What MySQL and MariaDB might have used is no matter.
            rows = [{**row, "possible_keys": None} for row in plan.mappings()]
            found.append(str(rows))
    # The few definitions of indices may be read as they lie.
    return [plan for plan in found if "result_index'" not in plan]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    "query",
    [
        {"flow_run_id": "run-17"},
        {"inputs.n": 17, "result_type": "Indexed"},
        {"inputs.group": "g1", "result_type": "Indexed"},
    ],
)
def test_a_lookup_by_an_index_walks_no_other(
    request: pytest.FixtureRequest, server: str, query: dict[str, Any]
) -> None:
    """The order of time is not what a server looks a few documents up by."""
    store = opened(request, server)
    store.prepare([Indexed])
    fill(
        store,
        [
            make_document(
                inputs={"n": n, "group": f"g{n // 10}"},
                result_type="Indexed",
                flow_run_id=f"run-{n}",
                date_modified=f"2026-01-01T{n // 60:02}:{n % 60:02}:00.000000Z",
            )
            for n in range(1400)
        ],
    )
    with store.engine.begin() as connection:
        analyse = "ANALYZE" if server == "postgresql_url" else "ANALYZE TABLE"
        for table in ("result", "result_index_key"):
            connection.exec_driver_sql(f"{analyse} {table}").close()
    for plan in plans(store, language.prepare(query)):
        assert "ix_result_date_modified" not in plan
        assert "Seq Scan on result " not in plan
        assert "'ALL'" not in plan


def test_one_document_that_mysql_cannot_read_is_the_only_one_python_tests(
    mysql_url: str,
) -> None:
    """At half a surrogate pair it raises: asked again, with a guard, it does not."""
    store = SQLDBService(get_engine(mysql_url))
    store.create_tables()
    fill(store, [make_document(inputs={"x": n}) for n in range(50)])
    fill(store, [make_document(inputs={"x": 99, "a": "\ud800"})])
    for _ in range(2):
        query = language.prepare({"inputs.x": {"$gte": 40}})
        search = Search(store._transactions, "contract", query)
        assert search.count() == 11
        assert search.verdict is not None
    store.engine.dispose()
