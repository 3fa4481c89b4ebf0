"""What documents in MongoDB hold beside what readers see: hidden fields, and why.

``_blobs`` lists the blobs that a document needs, also those inside a part of it that is
a blob itself. An index on it (``lume_blobs``) answers which blobs are in use without
reading documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.collection import Collection

from prefect_lume.results.stores.base import Tree
from prefect_lume.results.stores.trees import blobs_of

Documents = Collection[dict[str, Any]]
GetBlob = Callable[[str], bytes | bytearray]

BLOBS: Final = "_blobs"
#: The top-level fields that no reader sees.
_HIDDEN: Final = (BLOBS, "_expires")
_INDEX: Final = "lume_blobs"
#: How many documents are completed in one request.
_BATCH: Final = 200
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def shown(tree: Tree) -> Tree:
    """Remove the hidden fields from a stored document, and return it."""
    for name in _HIDDEN:
        tree.pop(name, None)
    return tree


def held_by(tree: Tree, get_blob: GetBlob) -> dict[str, list[str]]:
    """Return the hidden field that tells which blobs a document needs, or nothing."""
    held = sorted(blobs_of(tree, get_blob))
    return {BLOBS: held} if held else {}


def sorted_tree(tree: Mapping[str, Any]) -> tuple[Tree, bool]:
    """Copy a document with all keys inside sorted, and tell whether it may need blobs.

    A MongoDB server compares objects in the order of their keys: stored and compared
    sorted, that order does not matter any more. Nothing compares whole documents.
    """
    found: list[bool] = []
    copy = {
        name: value if type(value) in _PLAIN else _sorted(value, found)
        for name, value in tree.items()
    }
    return copy, bool(found)


def _sorted(item: Any, found: list[bool]) -> Any:
    if type(item) is dict or isinstance(item, Mapping):
        if "blob" in item:
            found.append(True)
        # Most values are no containers: a call for each would double the time.
        return {
            name: value
            if type(value := item[name]) in _PLAIN
            else _sorted(value, found)
            for name in sorted(item)
        }
    if isinstance(item, list):
        return [
            value if type(value) in _PLAIN else _sorted(value, found) for value in item
        ]
    return item


class BlobIndex:
    """Sees to it that every document of a collection tells which blobs it needs.

    Args:
        get_blob: Loads a part of a document that is a blob.
    """

    def __init__(self, get_blob: GetBlob) -> None:
        self._get_blob = get_blob
        self._known: set[str] = set()

    def ensure(self, documents: Documents) -> None:
        """Complete documents of earlier versions, and create the index, once.

        Raises pymongo's exceptions. The index comes last: where it is, all documents
        are complete. Doing it twice at the same time does no harm.
        """
        if documents.name in self._known:
            return
        if _INDEX not in documents.index_information():
            self._complete(documents)
            documents.create_index([(BLOBS, 1)], name=_INDEX, sparse=True)
        self._known.add(documents.name)

    def _complete(self, documents: Documents) -> None:
        updates: list[UpdateOne] = []
        with documents.find({BLOBS: {"$exists": False}}) as cursor:
            for tree in cursor:
                field = held_by(tree, self._get_blob)
                if field:
                    # Should it be replaced meanwhile, the new one tells by itself.
                    same = {"_id": tree["_id"], "date_modified": tree["date_modified"]}
                    updates.append(UpdateOne(same, {"$set": field}))
                if len(updates) == _BATCH:
                    documents.bulk_write(updates, ordered=False)
                    updates.clear()
        if updates:
            documents.bulk_write(updates, ordered=False)


def drop_held(documents: Documents, blobs: dict[str, Any]) -> None:
    """Remove from a mapping the blobs that a collection's documents hold."""
    while blobs:
        # Each page tells of at least one, so that a blob which a million documents
        # share is asked for once.
        query = {BLOBS: {"$in": list(blobs)}}
        page = list(documents.find(query, {BLOBS: 1, "_id": 0}).limit(len(blobs)))
        for tree in page:
            for sha256 in tree[BLOBS]:
                blobs.pop(sha256, None)
        if not page:
            return
