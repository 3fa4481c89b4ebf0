"""Conditions on values in documents: what SQLite answers is what Python would."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, update

from prefect_lume.results import query as language
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.search import Search
from prefect_lume.results.stores.sql.service import SQLDBService
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import generated_values, make_document


@pytest.fixture(scope="module")
def corpus() -> dict[str, dict[str, Any]]:
    """Documents with all kinds of values, by their keys."""
    chance = random.Random(11)
    made = [
        make_document(inputs=generated_values.inputs(chance), outputs={"n": n})
        for n in range(150)
    ]
    return {encoded.tree["_id"]: encoded.tree for encoded in made}


def stored(trees: Iterable[dict[str, Any]], path: str) -> SQLDBService:
    """Return a new store in a file that holds some documents."""
    store = SQLDBService(get_engine(f"sqlite:///{path}"))
    store.create_tables()
    batch = [Encoded(tree, {}) for tree in trees]
    assert set(store.insert_many("contract", batch)) == {True}
    return store


@pytest.fixture(scope="module")
def store(
    corpus: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SQLDBService]:
    """A store of the corpus."""
    made = stored(corpus.values(), str(tmp_path_factory.mktemp("store") / "r.db"))
    yield made
    made.engine.dispose()


def numbers(count: int) -> list[dict[str, Any]]:
    """Return documents with a number, a minute apart; it is their place in time."""
    return [
        make_document(
            inputs={"x": n, "half": n / 2},
            date_modified=f"2026-01-01T{n // 60:02}:{n % 60:02}:00.000000Z",
        ).tree
        for n in range(count)
    ]


def pushed(store: SQLDBService, query: dict[str, Any]) -> Search:
    """Return a prepared search."""
    return Search(store._transactions, "contract", language.prepare(query))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=False))
def test_sqlite_answers_as_python_does(
    store: SQLDBService, corpus: dict[str, dict[str, Any]], chance: random.Random
) -> None:
    """Find, count, order and distinct values agree with the documents tested here."""
    query = language.prepare(generated_values.query(chance))
    expected = [tree for tree in corpus.values() if language.matches(tree, query)]
    found = [tree["_id"] for tree in store.find("contract", query)]
    assert sorted(found) == sorted(tree["_id"] for tree in expected)
    assert store.count("contract", query) == len(expected)
    path, way = generated_values.path_of(chance), chance.choice([1, -1])
    expected.sort(key=lambda tree: tree["_id"])
    values: dict[Any, Any] = {}
    stored_path = language.escape_path(path)
    for tree in expected:
        for value in language.values(tree, stored_path):
            values.setdefault(language.order_key(value), value)
    plain = json.dumps([values[key] for key in sorted(values)], sort_keys=True)
    distinct = store.distinct("contract", stored_path, query)
    assert json.dumps(distinct, sort_keys=True) == plain
    expected.sort(
        key=lambda tree: language.sort_key(tree, stored_path, way), reverse=way < 0
    )
    limit = chance.choice([None, 7])
    pages = store.find("contract", query, [(stored_path, way)], limit=limit)
    assert [t["_id"] for t in pages] == [t["_id"] for t in expected[:limit]]


@pytest.mark.parametrize(
    "query",
    [
        {"inputs.x": {"$gt": 0.5}},
        {"inputs.x": 5},
        {"inputs.x": {"$ne": 5.5}},
        {"inputs.QUAD:LI21:7": {"$in": [1, "a", None]}},
        {"inputs.x": {"$exists": False}},
        {"inputs.x": "é"},
        {"$or": [{"inputs.x": True}, {"flow_id": "f"}]},
        {"inputs.x": {"$gt": 1}, "inputs.y": {"$regex": "a"}},
    ],
)
def test_the_server_answers_conditions_on_values(
    store: SQLDBService, query: dict[str, Any]
) -> None:
    """Numbers, text, True, False, None and absence are compared on the server."""
    assert pushed(store, query).verdict is not None


@pytest.mark.parametrize(
    "query",
    [
        {"inputs.x": {"$gt": 2**53}},
        {"inputs.0": 1},
        {"inputs.x": [1, 2]},
        {"inputs.x": {"$size": 1}},
        {"$or": [{"inputs.x": 1}, {"inputs.y": {"$regex": "a"}}]},
        {"inputs.x": 'a"b'},
    ],
)
def test_what_servers_read_differently_is_left_to_python(
    store: SQLDBService, query: dict[str, Any]
) -> None:
    """List indices, lists, huge numbers and text with escapes stay out of SQL."""
    assert pushed(store, query).verdict is None


def test_only_matching_documents_are_fetched(many: SQLDBService) -> None:
    """A selective query reads no document that does not match."""
    fetched: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "document," in statement.partition("CASE")[0]:
            fetched.append(statement)

    query = language.prepare({"inputs.x": {"$gte": 1399}})
    event.listen(many.engine, "after_cursor_execute", note)
    try:
        assert [t["inputs"]["x"] for t in many.find("contract", query)] == [1399]
        assert many.count("contract", query) == 1
    finally:
        event.remove(many.engine, "after_cursor_execute", note)
    (statement,) = fetched
    assert "result.unique_hash IN (" in statement


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLDBService]:
    """A store of 1400 documents with rising numbers."""
    made = stored(numbers(1400), str(tmp_path_factory.mktemp("many") / "r.db"))
    yield made
    made.engine.dispose()


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize("bound", [-1, 100, 1295, 5000])
def test_pages_beyond_the_first_thousand_are_in_order(
    many: SQLDBService, way: int, bound: int
) -> None:
    """Sparse and dense answers come in the order of time, none twice, none lost."""
    store = many
    query = language.prepare({"inputs.x": {"$gt": bound}})
    expected = [n for n in range(1400) if n > bound][::way]
    order = [("date_modified", way)]
    found = [t["inputs"]["x"] for t in store.find("contract", query, order)]
    assert found == expected
    some = store.find("contract", query, order, skip=3, limit=9)
    assert [t["inputs"]["x"] for t in some] == expected[3:12]


def test_a_document_that_sqlite_cannot_read_does_not_stop_a_query(
    tmp_path: Any,
) -> None:
    """When the server's JSON functions fail, Python answers."""
    trees = numbers(3)
    store = stored(trees, f"{tmp_path}/r.db")
    odd = json.dumps({**trees[1], "inputs": {"x": 2, "y": float("nan")}})
    with store.engine.begin() as connection:
        table = sql_tables.result
        where = table.c.date_modified == "2026-01-01T00:01:00.000000Z"
        connection.execute(update(table).where(where).values(document=odd))
    query = language.prepare({"inputs.x": {"$gte": 2}})
    assert store.count("contract", query) == 2
    assert len(list(store.find("contract", query))) == 2
    assert store.distinct("contract", "inputs.x", query) == [2]
    tops = store.find("contract", query, [("inputs.x", 1)])
    assert len(list(tops)) == 2
    store.engine.dispose()


def test_a_few_documents_are_not_sought_in_the_order_of_time(
    many: SQLDBService,
) -> None:
    """SQLite would walk the index of dates from end to end, for lack of statistics."""
    tree = make_document(flow_run_id="run-17").tree
    assert many.insert("contract", Encoded(tree, {}))
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    query = language.prepare({"flow_run_id": "run-17"})
    event.listen(many.engine, "after_cursor_execute", note)
    try:
        assert [t["_id"] for t in many.find("contract", query)] == [tree["_id"]]
    finally:
        event.remove(many.engine, "after_cursor_execute", note)
    with many.engine.connect() as connection:
        explained = [
            str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}", values).all())
            for one, values in asked
            if one.startswith("SELECT")
        ]
    many.delete("contract", query)
    assert any("ix_result_flow_run_id" in plan for plan in explained)
    assert not any("ix_result_date_modified" in plan for plan in explained)
