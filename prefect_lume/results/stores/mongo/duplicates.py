"""Which documents of a MongoDB collection stand in the way of a unique index."""

from __future__ import annotations

from typing import Any

from pymongo.collection import Collection

from prefect_lume.results.stores.index_changes import (
    SHOWN_GROUPS,
    SHOWN_HASHES,
    DuplicateGroup,
    IndexChange,
    values_text,
)
from prefect_lume.results.stores.indices import DeclaredIndex

Documents = Collection[dict[str, Any]]


def blocked(collection: Documents, index: DeclaredIndex) -> IndexChange:
    """Return the groups of documents that share a key; raises pymongo's exceptions.

    The server finds them, on its disk if its memory does not do. It does not see the
    element of a list at a numbered place: of an index on one it names no documents.
    """
    shared = _shared(index)
    counted = list(collection.aggregate([*shared, {"$count": "n"}], allowDiskUse=True))
    total = counted[0]["n"] if counted else 0
    first = [*shared, {"$sort": {"_id": 1}}, {"$limit": SHOWN_GROUPS}]
    groups = [
        _group(collection, index, found)
        for found in (collection.aggregate(first, allowDiskUse=True) if total else ())
    ]
    return IndexChange(index, "blocked", (collection.name,), tuple(groups), total)


def _shared(index: DeclaredIndex) -> list[dict[str, Any]]:
    names = {f"k{n}": f"${field}" for n, field in enumerate(index.fields)}
    # A missing field counts as None, an element of a list as a value of its own.
    keys = {name: {"$ifNull": [f"${name}", None]} for name in names}
    unwound = [
        {"$unwind": {"path": f"${name}", "preserveNullAndEmptyArrays": True}}
        for name in names
    ]
    return [
        {"$match": index.query()},
        {"$project": names},
        *unwound,
        {"$group": {"_id": {"document": "$_id", **keys}}},
        {"$group": {"_id": {n: f"$_id.{n}" for n in names}, "n": {"$sum": 1}}},
        {"$match": {"n": {"$gt": 1}}},
    ]


def _group(
    collection: Documents, index: DeclaredIndex, found: dict[str, Any]
) -> DuplicateGroup:
    shared = {field: found["_id"].get(f"k{n}") for n, field in enumerate(index.fields)}
    same = [{field: {"$eq": value}} for field, value in shared.items()]
    trees = collection.find({"$and": [index.query(), *same]}, {"_id": 1})
    hashes = [tree["_id"] for tree in trees.sort("_id", 1).limit(SHOWN_HASHES)]
    return DuplicateGroup(
        collection.name, values_text(shared), tuple(hashes), found["n"]
    )
