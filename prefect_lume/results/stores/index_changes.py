"""What has to change so that a database has the indices that are declared."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Final, Literal

from prefect_lume.errors import ConflictError, clip
from prefect_lume.results.query import values
from prefect_lume.results.stores.indices import DeclaredIndex
from prefect_lume.results.stores.trees import to_json

#: So many groups of documents, and hashes of each, are named.
SHOWN_GROUPS: Final = 5
SHOWN_HASHES: Final = 5
_VALUE_TEXT: Final = 60
#: So many are kept in memory: eight bytes of two keys may agree by chance.
_KEPT_GROUPS: Final = 1000

Reason = Literal["missing", "unfinished", "replaced", "obsolete", "blocked"]


@dataclass(frozen=True)
class DuplicateGroup:
    """Documents that share what a unique index lets only one of them have.

    Attributes:
        collection: Their project.
        values: What they share, as text, cut where it is long.
        unique_hashes: Some of them, five at most.
        count: How many they are.
    """

    collection: str
    values: str
    unique_hashes: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        more = self.count - len(self.unique_hashes)
        rest = f" and {more} more" if more > 0 else ""
        return (
            f"{self.values} in {self.collection!r}: "
            f"{', '.join(self.unique_hashes)}{rest}"
        )


@dataclass(frozen=True)
class IndexChange:
    """One index that is to be created or dropped.

    Attributes:
        index: The index.
        reason: ``missing`` or ``unfinished`` (to be created), ``replaced`` (the type
            declares another on the same fields), ``obsolete`` (it declares none on
            them), or ``blocked`` (cannot be created).
        collections: Where, if not in the whole database.
        groups: The documents that stand in the way; five groups at most.
        total: How many groups there are.
    """

    index: DeclaredIndex
    reason: Reason
    collections: tuple[str, ...] = ()
    groups: tuple[DuplicateGroup, ...] = ()
    total: int = 0


@dataclass(frozen=True)
class IndexChanges:
    """How the indices of a database differ from what document types declare.

    Attributes:
        create: Indices that are declared and are not there.
        drop: Indices that are there and are not declared by their type any more.
        blocked: Unique indices that documents stand in the way of.
    """

    create: tuple[IndexChange, ...] = ()
    drop: tuple[IndexChange, ...] = ()
    blocked: tuple[IndexChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.create or self.drop or self.blocked)


class DuplicatesError(ConflictError):
    """Stored documents stand in the way of a unique index.

    Attributes:
        change: The index and the documents.
    """

    def __init__(self, where: str, change: IndexChange) -> None:
        self.change = change
        shown = [str(group) for group in change.groups]
        if change.total > len(shown):
            shown.append(f"and {change.total - len(shown)} more groups")
        noun = "group" if change.total == 1 else "groups"
        # A database may not be able to name them.
        many = f"{change.total} {noun} of results" if change.total else "results"
        head = (
            f"{where}: the {change.index} cannot be built: {many} have the same "
            f"values. Delete all but one of each group, or declare the index without "
            f"unique."
        )
        super().__init__("\n  - ".join([head, *shown]))


def superfluous(
    wanted: Iterable[DeclaredIndex],
    present: Iterable[DeclaredIndex],
    result_types: Iterable[str],
) -> Iterator[tuple[DeclaredIndex, Reason]]:
    """Yield what is there of some document types and is not declared any more."""
    names, purposes = set(), set()
    for index in wanted:
        names.add(index.name)
        purposes.add(index.purpose)
    types = set(result_types)
    for index in present:
        if index.result_type in types and index.name not in names:
            yield index, "replaced" if index.purpose in purposes else "obsolete"


def merged(found: Iterable[IndexChanges]) -> IndexChanges:
    """Return the changes of several collections, each index once for all of them."""
    parts = list(found)
    return IndexChanges(
        _by_index(chain.from_iterable(changes.create for changes in parts)),
        _by_index(chain.from_iterable(changes.drop for changes in parts)),
        _by_index(chain.from_iterable(changes.blocked for changes in parts)),
    )


def _by_index(changes: Iterable[IndexChange]) -> tuple[IndexChange, ...]:
    found: dict[tuple[str, str], IndexChange] = {}
    for change in changes:
        key = (change.index.name, change.reason)
        before = found.get(key, IndexChange(change.index, change.reason))
        found[key] = IndexChange(
            change.index,
            change.reason,
            (*before.collections, *change.collections),
            (*before.groups, *change.groups)[:SHOWN_GROUPS],
            before.total + change.total,
        )
    return tuple(found.values())


def values_text(shared: Mapping[str, Any]) -> str:
    """Return the values of fields as text, cut where it is long.

    Example:
        >>> values_text({"a.b": 1, "c": None})
        'a.b = 1, c = null'
    """
    return ", ".join(
        f"{field} = {clip(to_json(value), _VALUE_TEXT)}"
        for field, value in shared.items()
    )


def _shared_values(tree: Mapping[str, Any], fields: Sequence[str]) -> str:
    shared = {field: values(tree, field) for field in fields}
    return values_text(
        {f: v[0] if len(v) == 1 else v or None for f, v in shared.items()}
    )


def duplicates(
    index: DeclaredIndex,
    collection: str,
    documents: Callable[[], Iterable[Mapping[str, Any]]],
    keys: Callable[[Mapping[str, Any]], Iterable[str]],
) -> tuple[list[DuplicateGroup], int]:
    """Find the documents of a collection that share a key, in little memory.

    Args:
        index: The index.
        collection: The collection.
        documents: Returns the documents; called a second time if some share a key.
        keys: Returns the keys of a document, hexadecimal digests, each once.

    Returns:
        The first groups, and how many there are.
    """
    # Eight bytes a key. Two keys that agree in them are told apart in the second pass.
    digests = array("Q")
    for tree in documents():
        digests.extend(int(key[:16], 16) for key in keys(tree))
    ordered = sorted(digests)
    twice = {a for a, b in pairwise(ordered) if a == b}
    del digests, ordered
    counts: Counter[str] = Counter()
    shown: dict[str, tuple[str, list[str]]] = {}
    for tree in documents() if twice else ():
        for key in keys(tree):
            if int(key[:16], 16) not in twice:
                continue
            counts[key] += 1
            if key not in shown and len(shown) < _KEPT_GROUPS:
                shown[key] = (_shared_values(tree, index.fields), [])
            if key in shown and len(shown[key][1]) < SHOWN_HASHES:
                shown[key][1].append(tree["_id"])
    groups = [
        DuplicateGroup(collection, text, tuple(hashes), counts[key])
        for key, (text, hashes) in shown.items()
        if counts[key] > 1
    ]
    return groups[:SHOWN_GROUPS], sum(1 for count in counts.values() if count > 1)
