"""The query language: what it allows, what it makes of values, what it means."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import StaticPool, create_engine

from prefect_lume.errors import QueryError
from prefect_lume.results import codecs
from prefect_lume.results import query as language
from prefect_lume.results.query.language import OPERATORS
from prefect_lume.results.query.regex import canonical_regex
from prefect_lume.results.stores import SQLDBService
from prefect_lume.testing import generated, make_document


def found(inputs: dict[str, Any], query: dict[str, Any]) -> bool:
    """Return whether a user's query finds a document with these (encoded) inputs."""
    tree = {"inputs": codecs.encode(inputs).tree}
    return language.matches(tree, language.prepare(query))


@pytest.mark.parametrize(
    ("skip", "limit"), [(-1, None), (0, -1), (0, 10**30), ("1", None), (0, 2.0)]
)
def test_a_page_is_of_whole_numbers(skip, limit):
    """What cannot be left out or asked for is refused before any store sees it."""
    with pytest.raises(QueryError, match="is a whole number from 0"):
        language.check_page(skip, limit)


class TestValidate:
    def test_every_operator_of_the_language_is_allowed(self):
        """The documented operators pass, each with an operand of its kind."""
        query = {
            "$and": [{"a": {"$eq": 1, "$ne": 2, "$gt": 0, "$gte": 0}}],
            "$or": [{"a": {"$lt": 9, "$lte": 9, "$in": [1], "$nin": [2]}}],
            "$nor": [{"a": {"$exists": False}}, {"b": {"$size": 3}}],
            "c": {"$regex": "^x", "$not": {"$elemMatch": {"$gt": 1}}},
        }
        assert language.validate(query)
        used = {part for part in repr(query).split("'") if part.startswith("$")}
        assert used == OPERATORS

    @pytest.mark.parametrize(
        "operator", ["$where", "$expr", "$function", "$type", "$mod", "$text", "$all"]
    )
    @pytest.mark.parametrize("place", ["{}", "a", "not", "elem", "or", "value", "in"])
    def test_any_other_operator_is_refused_by_name(self, operator, place):
        """An operator outside the language is named in the error, wherever it is."""
        query = {
            "{}": {operator: 1},
            "a": {"a": {operator: 1}},
            "not": {"a": {"$not": {operator: 1}}},
            "elem": {"a": {"$elemMatch": {"b": {operator: 1}}}},
            "or": {"$or": [{"a": 1}, {operator: 1}]},
            "value": {"a": {"b": {operator: 1}}},
            "in": {"a": {"$in": [{operator: 1}]}},
        }[place]
        with pytest.raises(QueryError, match=operator.replace("$", r"\$")):
            language.validate(query)

    def test_a_misspelt_operator_gets_a_suggestion(self):
        """The error names the nearest operator."""
        with pytest.raises(QueryError, match=r"Did you mean '\$exists'"):
            language.prepare({"a": {"$exist": True}})

    @pytest.mark.parametrize(
        "query",
        [
            [],
            "text",
            {"": 1},
            {"a..b": 1},
            {"a.": 1},
            {"a.$b": 1},
            {"a\0": 1},
            {1: 2},
            {"$or": []},
            {"$or": {"a": 1}},
            {"$and": [1]},
            {"a": {"$in": 1}},
            {"a": {"$in": "abc"}},
            {"a": {"$exists": 1}},
            {"a": {"$size": -1}},
            {"a": {"$size": True}},
            {"a": {"$size": 1.0}},
            {"a": {"$gt": None}},
            {"a": {"$gt": [1]}},
            {"a": {"$gt": {}}},
            {"a": {"$gt": float("nan")}},
            {"a": {"$not": 1}},
            {"a": {"$not": {}}},
            {"a": {"$elemMatch": {}}},
            {"a": {"$elemMatch": 1}},
            {"a": {"$gt": 1, "b": 2}},
            {"a": {"$regex": 1}},
            {"a": {"$gt": 2**63}},
            {"a": object()},
            {"a": {"$gt": date(2026, 1, 1)}},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, query):
        """Operands of the wrong kind and empty names are errors, not empty answers."""
        with pytest.raises(QueryError):
            language.prepare(query)

    def test_depth_size_and_length_are_bounded(self):
        """A query cannot be made to cost what the data does not."""
        deep: Any = {"a": 1}
        for _ in range(30):
            deep = {"$or": [deep]}
        nested: Any = 1
        for _ in range(30):
            nested = [nested]
        for query in (
            deep,
            {"a": nested},
            {"$or": [{"a": 1}] * 1001},
            {"a": {"$in": list(range(10_001))}},
            {"a" * 1001: 1},
            {"a": b"x" * 100_000},
        ):
            with pytest.raises(QueryError):
                language.prepare(query)

    def test_a_prepared_query_is_valid(self):
        """What prepare returns passes validate, with the same meaning."""
        chance = Random(3)
        for _ in range(300):
            prepared = language.prepare(generated.query(chance))
            tree = {"inputs": generated.inputs(chance)}
            validated = language.validate(prepared)
            assert language.matches(tree, prepared) == language.matches(tree, validated)


class TestValues:
    def test_dates_compare_by_their_instant(self):
        """Zones do not matter, neither in the document nor in the query."""
        east = timezone(timedelta(hours=9))
        moment = datetime(2026, 1, 1, 9, tzinfo=east)
        inputs = {"t": moment, "l": [moment]}
        same = datetime(2026, 1, 1, tzinfo=UTC)
        before = same - timedelta(microseconds=1)
        assert found(inputs, {"inputs.t": same})
        assert found(inputs, {"inputs.l": same})
        assert found(inputs, {"inputs.t": {"$gt": before, "$lte": same}})
        assert not found(inputs, {"inputs.t": {"$gt": same}})
        assert found(inputs, {"inputs.t": {"$ne": before}})
        assert found(inputs, {"inputs.t": {"$in": [1, same, None]}})
        assert not found(inputs, {"inputs.t": {"$nin": [1, same]}})
        assert found(inputs, {"inputs.t": {"$not": {"$lt": same}}})
        assert found(inputs, {"inputs.l": {"$elemMatch": {"$gt": before}}})

    def test_date_modified_takes_dates_and_text(self):
        """The document's own time is text, and compares with dates all the same."""
        moment = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
        assert language.prepare({"date_modified": {"$gt": moment}}) == {
            "date_modified": {"$gt": "2026-01-01T11:00:00.000000Z"}
        }
        text = {"date_modified": {"$gt": "2026"}}
        assert language.prepare(text) == text

    @pytest.mark.parametrize(
        "stored", [3, 3.0, np.float64(3), np.float32(3), np.int64(3), np.uint8(3)]
    )
    @pytest.mark.parametrize("asked", [3, 3.0, np.float64(3), np.int32(3)])
    def test_numbers_compare_by_value(self, stored, asked):
        """A numpy scalar is found, and asked for, as the number that it is."""
        inputs = {"k": stored}
        for condition in (
            asked,
            {"$gte": asked},
            {"$gt": asked - 1, "$lt": asked + 1},
            {"$in": [asked, "x"]},
            {"$not": {"$ne": asked}},
        ):
            assert found(inputs, {"inputs.k": condition}), condition
        for condition in ({"$ne": asked}, {"$nin": [asked]}, {"$gt": asked}):
            assert not found(inputs, {"inputs.k": condition}), condition

    def test_only_numpy_scalars_are_looked_into(self):
        """A dict of the user's own that has a 'value' does not equal a number."""
        assert not found({"k": {"value": 3}}, {"inputs.k": 3})
        assert found({"k": {"value": 3}}, {"inputs.k.value": 3})

    @pytest.mark.parametrize(
        "value",
        [
            Decimal("1.50"),
            date(2026, 1, 1),
            b"bytes",
            (1, 2),
            float("inf"),
            float("nan"),
            2**80,
            {"b": 1, "a": {"d": 1, "c": 2}},
            {"a.b": 1, "": 2},
        ],
    )
    def test_whatever_is_stored_can_be_asked_for(self, value):
        """Equality works with every value that the codecs store."""
        assert found({"v": value}, {"inputs.v": value})
        assert not found({"v": None}, {"inputs.v": value})

    def test_infinity_bounds_every_number(self):
        """An infinite bound leaves nothing out that is finite."""
        assert found({"v": 1e308}, {"inputs.v": {"$lt": float("inf")}})
        assert found({"v": -(2**62)}, {"inputs.v": {"$gt": -float("inf")}})

    def test_keys_with_special_characters_are_found(self):
        """Names are escaped as in documents; a dot in a name is written %2E."""
        inputs = {"100%": 1, "a.b": 2, "$x": 3, "": 4, "plain": {"50%2": 5}}
        assert found(inputs, {"inputs.100%": 1})
        assert found(inputs, {"inputs.a%2Eb": 2})
        assert found(inputs, {"inputs.%24x": 3})
        assert found(inputs, {"inputs.%": 4})
        assert found(inputs, {"inputs.plain.50%2": 5})

    def test_unique_hash_is_the_key(self):
        """Users need not know the name that the databases give to the key."""
        assert language.prepare({"unique_hash": "ab"}) == {"_id": {"$eq": "ab"}}
        assert language.prepare_sort("-unique_hash") == [("_id", -1)]


class TestRegex:
    @pytest.mark.parametrize(
        ("pattern", "canonical"),
        [
            (r"^run-\d+$", "^run-[0-9]+$"),
            (r"[\w.-]+", "[A-Za-z0-9_.-]+"),
            (r"\S", r"[^ \t\n\r\f\v]"),
            (r"(?i)a|b", "(?i)a|b"),
            (r"(ab)+c{2,3}?", "(ab)+c{2,3}?"),
            (r"(?:a|b)?", "(?:a|b)?"),
            (r"\.\$\(\[", r"\.\$\(\["),
            ("é🌌", "é🌌"),
        ],
    )
    def test_the_subset_is_written_in_one_way(self, pattern, canonical):
        """What engines read differently is spelt out; doing it twice is harmless."""
        assert canonical_regex(pattern) == canonical
        assert canonical_regex(canonical) == canonical

    @pytest.mark.parametrize(
        "pattern",
        [
            "(a+)+",
            "(a|a)*",
            "((a*)b)*",
            "(a{1,9}){1,9}",
            "(?:x*)*",
            "a*b*c*d*e*",
            r"(a)\1",
            "(?=a)",
            "(?<!a)",
            "(?P<n>a)",
            r"\bword",
            r"\Z",
            r"\x41",
            "a{999}",
            "a{3,2}",
            "(a",
            "a)",
            "[a",
            "[]",
            "[z-a]",
            "*a",
            "a**",
            "a{",
            "}",
            "\\",
            "a(?i)b",
            "a\0",
            "a" * 257,
        ],
    )
    def test_what_may_never_end_or_differs_is_refused(self, pattern):
        """Exponential patterns and those that engines read differently are errors."""
        with pytest.raises(QueryError, match=r"\$regex"):
            canonical_regex(pattern)

    @pytest.mark.timeout(60)  # What takes exponential time never ends.
    def test_an_allowed_pattern_ends_soon(self):
        """The worst pattern that is let through takes no exponential time."""
        query = {"inputs.a": {"$regex": "a*a*a*b$"}}
        assert not found({"a": "a" * 150}, query)


class TestSortAndProjection:
    def test_an_order_is_always_total(self):
        """The key comes last, and without an order time does."""
        assert language.prepare_sort(None) == [("date_modified", 1), ("_id", 1)]
        assert language.prepare_sort({"a": -1}) == [("a", -1), ("_id", 1)]
        assert language.prepare_sort([("a", 1), "-b", "a"]) == [
            ("a", 1),
            ("b", -1),
            ("_id", 1),
        ]

    @pytest.mark.parametrize("sort", [[("a", 2)], [("$a", 1)], [""], [("a", "x")]])
    def test_an_order_that_is_none_is_refused(self, sort):
        """Directions are 1 and -1, names are names."""
        with pytest.raises(QueryError):
            language.prepare_sort(sort)

    def test_a_projection_is_a_list_of_fields(self):
        """A text is not taken apart into its letters; operators are refused."""
        for wrong in ("inputs", ["$x"], [{"a": 1}]):
            with pytest.raises(QueryError):
                language.prepare_projection(wrong)


@pytest.fixture(scope="module")
def corpus():
    """A SQLite store with random documents, and the documents."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    store = SQLDBService(engine)
    store.create_tables()
    chance = Random(11)
    trees = {}
    for n in range(40):
        encoded = make_document(
            inputs=generated.inputs(chance),
            outputs={"n": n},
            flow_id=chance.choice([None, "f", "g"]),
            deployment_id=chance.choice([None, 1, 2]),
        )
        store.insert("contract", encoded)
        trees[encoded.tree["_id"]] = encoded.tree
    yield store, trees
    engine.dispose()


def header_query(chance: Random) -> dict[str, Any]:
    """Return a random query that SQL may answer in whole or in part."""
    options: dict[str, list[Any]] = {
        "flow_id": [None, "f", "g ", "", 1, {"$ne": "f"}, {"$nin": [None, "g"]}],
        "deployment_id": [None, 1, 1.0, True, {"$gt": 1}, {"$ne": None}, {"$in": [1]}],
        "date_modified": [{"$gte": "2026"}, {"$lt": "2026"}, {"$exists": True}],
        "result_type": ["Generic", {"$in": ["x", "Generic"]}, {"$regex": "^G"}],
    }
    name = chance.choice(list(options))
    first = {name: chance.choice(options[name])}
    other = generated.query(chance, 1)
    joint = chance.choice(["", "$and", "$or", "$nor"])
    return {joint: [first, other]} if joint else {**first, **other}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_sql_answers_as_the_language_says(corpus, chance):
    """Whatever part of a query goes to SQL, the answer and the count are the same."""
    store, trees = corpus
    query = header_query(chance)
    expected = {key for key, tree in trees.items() if language.matches(tree, query)}
    assert {tree["_id"] for tree in store.find("contract", query)} == expected
    assert store.count("contract", query) == len(expected)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_pages_in_sql_are_cut_from_one_order(corpus, chance):
    """Any order, by columns or by contents, gives the same pages as sorting all."""
    store, trees = corpus
    names = ["flow_id", "deployment_id", "outputs.n", "inputs.a", "date_modified"]
    pairs = [(name, chance.choice([1, -1])) for name in chance.sample(names, 2)]
    expected = sorted(trees)
    for path, way in reversed(pairs):
        expected.sort(
            key=lambda key, p=path, w=way: language.sort_key(trees[key], p, w),
            reverse=way < 0,
        )
    skip, limit = chance.randrange(45), chance.choice([None, 1, 7, 50])
    page = store.find("contract", sort=pairs, skip=skip, limit=limit)
    stop = None if limit is None else skip + limit
    assert [tree["_id"] for tree in page] == expected[skip:stop]
