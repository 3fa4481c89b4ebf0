"""Documents, queries and orders on which results databases tend to differ."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any, Final

from prefect_lume.results.codecs import Encoded

#: Documents on which MongoDB's rules differ from what one would guess.
INPUTS: Final[list[Any]] = [
    {},
    {"a": None},
    {"a": 0},
    {"a": -0.0},
    {"a": 1},
    {"a": 1.0},
    {"a": 2**53 + 1},
    {"a": float(2**53)},
    {"a": 2**63 - 1},
    {"a": 1.5},
    {"a": True},
    {"a": False},
    {"a": ""},
    {"a": "a"},
    {"a": "A"},
    {"a": "a "},
    {"a": "é"},
    {"a": "🌌 4-byte"},
    {"a": "\x00nul"},
    {"a": "run-12"},
    {"a": {}},
    {"a": []},
    {"a": [None]},
    {"a": [1, 5]},
    {"a": [1, "a"]},
    {"a": [[1, 5]]},
    {"a": [[]]},
    {"a": {"b": 1}},
    {"a": {"b": None}},
    {"a": {"b": [1, 2]}},
    {"a": {"c": 1}},
    {"a": {"b": 1, "c": 2}},
    {"a": {"c": 2, "b": 1}},
    {"a": [{"b": 1}, {"b": 5}]},
    {"a": [{"b": 1}, {}]},
    {"a": [{"b": 1, "c": 9}, {"b": 9, "c": 1}]},
    {"a": [{"b": [1, 2]}, 3]},
    {"a": {"0": 1}},
    {"a": {"b": {"c": [{"d": 1}]}}},
]

_OPERANDS: Final[list[Any]] = [0, 1, 1.5, 5, "", "a", "é", True, False, 2**53, -1e300]

#: Queries over :data:`INPUTS`, each to be answered as ``matches`` answers it.
QUERIES: Final[list[dict[str, Any]]] = [
    {},
    *({"inputs.a": value} for value in [None, {}, [], [1, 5], {"b": 1}, *_OPERANDS]),
    *({"inputs.a": {"$ne": value}} for value in [None, 1, "a", [1, 5], True]),
    *(
        {"inputs.a": {name: value}}
        for name in ("$gt", "$gte", "$lt", "$lte")
        for value in _OPERANDS
    ),
    *(
        {path: {"$exists": there}}
        for path in ("inputs.a", "inputs.a.b", "inputs.a.0", "inputs.a.b.0")
        for there in (True, False)
    ),
    *({"inputs.a.b": value} for value in (None, 1, 5, [1, 2], {"c": 1})),
    {"inputs.a.b": {"$ne": 1}},
    {"inputs.a.b": {"$gt": 1}},
    {"inputs.a.b": {"$gt": 1, "$lt": 5}},
    {"inputs.a.0": 1},
    {"inputs.a.1": {"$gte": 5}},
    {"inputs.a.0.b": 1},
    {"inputs.a.b.c.d": 1},
    {"inputs.a": {"$in": [1, "a", None]}},
    {"inputs.a": {"$in": []}},
    {"inputs.a": {"$in": [[1, 5], {"b": 1}]}},
    {"inputs.a": {"$nin": [1, "a", None]}},
    {"inputs.a": {"$nin": []}},
    *({"inputs.a": {"$size": size}} for size in (0, 1, 2)),
    {"inputs.a.b": {"$size": 2}},
    {"inputs.a": {"$elemMatch": {"$gt": 1, "$lt": 9}}},
    {"inputs.a": {"$elemMatch": {"b": 1, "c": 9}}},
    {"inputs.a": {"$elemMatch": {"b": {"$gt": 1}, "c": {"$lt": 5}}}},
    {"inputs.a": {"$elemMatch": {"b": None}}},
    {"inputs.a": {"$elemMatch": {"$in": [1, "a"]}}},
    {"inputs.a": {"$elemMatch": {"$not": {"$gt": 1}}}},
    {"inputs.a": {"$elemMatch": {"$elemMatch": {"$gt": 1}}}},
    {"inputs.a": {"$elemMatch": {"$or": [{"b": 5}, {"b": None}]}}},
    {"inputs.a": {"$not": {"$gt": 1}}},
    {"inputs.a": {"$not": {"$gt": 0, "$lt": 2}}},
    {"inputs.a": {"$not": {"$elemMatch": {"$gt": 1}}}},
    {"inputs.a": {"$regex": "^a"}},
    {"inputs.a": {"$regex": "(?i)^A$"}},
    {"inputs.a": {"$regex": r"^run-\d+$"}},
    {"inputs.a": {"$regex": "[^a-z]"}},
    {"$or": [{"inputs.a": 1}, {"inputs.a": "a"}]},
    {"$and": [{"inputs.a": {"$gt": 0}}, {"inputs.a": {"$lt": 5}}]},
    {"$nor": [{"inputs.a": 1}, {"inputs.a.b": 1}]},
    {"$or": [{"flow_id": "flow-1"}, {"deployment_id": 2}]},
    {"$nor": [{"flow_id": "flow-1"}]},
    {"$or": [{"$and": [{"flow_id": None}, {"inputs.a": {"$ne": 1}}]}, {"inputs.a": 1}]},
    *({"flow_id": value} for value in (None, "flow-1", "flow-1 ", "FLOW-1", 1)),
    *({"flow_id": {"$ne": value}} for value in (None, "flow-1")),
    {"flow_id": {"$in": [None, "flow-1"]}},
    {"flow_id": {"$nin": [None, "flow-1"]}},
    {"flow_id": {"$gt": "flow-0", "$lt": "flow-1x"}},
    {"flow_id": {"$exists": True}},
    {"flow_id": {"$regex": "1$"}},
    *({"deployment_id": value} for value in (None, 1, 1.0, 2**40, "1", True)),
    {"deployment_id": {"$gt": 0}},
    {"deployment_id": {"$lte": 1.5}},
    {"deployment_id": {"$ne": 1}},
    {"date_modified": {"$gte": "2026-01-01T00:00:10"}},
    {"result_type": {"$in": ["Generic", "none"]}},
    {"result_type": {"$gt": 5}},
    {"project_name": "contract"},
    {"unique_on": "inputs"},
    {"_id": {"$gt": "8"}},
]

#: Queries that every method refuses.
REFUSED: Final[list[dict[str, Any]]] = [
    {"$where": "1"},
    {"$expr": {"$eq": ["$a", 1]}},
    {"inputs.a": {"$function": {}}},
    {"inputs.a": {"$type": 1}},
    {"$or": [{"$jsonSchema": {}}]},
    {"inputs.a": {"$elemMatch": {"$where": "1"}}},
    {"inputs.a": {"$not": {"$mod": [2, 0]}}},
    {"inputs.a": {"$in": [{"$gt": 1}]}},
    {"$comment": "x"},
]

#: Orders over fields of one and of many types.
SORTS: Final[list[list[tuple[str, int]]]] = [
    [("date_modified", 1)],
    [("date_modified", -1)],
    [("flow_id", 1), ("deployment_id", -1)],
    [("deployment_id", 1)],
    [("deployment_id", -1), ("date_modified", -1)],
    [("_id", -1)],
    [("outputs.n", 1)],
    [("outputs.half", -1), ("outputs.n", 1)],
    [("outputs.mixed", 1)],
    [("outputs.mixed", -1)],
]


def make_document(
    project_name: str = "contract",
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    blobs: Mapping[str, bytes] | None = None,
    **header: Any,
) -> Encoded:
    """Return a stored document as :func:`prefect_lume.results.to_document` makes it.

    Args:
        project_name: Its project.
        inputs: A tree of plain values.
        outputs: The same.
        blobs: sha256 → bytes.
        **header: Other fields, in stored form.
    """
    tree = {
        "result_type": "Generic",
        "project_name": project_name,
        "flow_id": None,
        "flow_run_id": None,
        "deployment_id": None,
        "inputs": dict(inputs or {}),
        "outputs": dict(outputs or {}),
        "date_modified": "2026-01-01T00:00:00.000000Z",
        "unique_on": ["inputs", "outputs"],
        "format": 1,
        **header,
    }
    tree.setdefault("_id", digest(repr(tree).encode()))
    return Encoded(tree, dict(blobs or {}))


def digest(data: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def corpus() -> list[Encoded]:
    """Return the documents of :data:`INPUTS`, with differing headers."""
    mixed = itertools.cycle([None, 3, 2.5, "b", "a", True, [4, 1], {"x": 1}, "é"])
    return [
        make_document(
            inputs=inputs,
            outputs={"n": n, "half": n // 2, "mixed": next(mixed)},
            flow_id=[None, "flow-1", "flow-2"][n % 3],
            deployment_id=[None, 1, 2, 10][n % 4],
            date_modified=f"2026-01-01T00:00:{n // 2:02}.000000Z",
        )
        for n, inputs in enumerate(INPUTS)
    ]
