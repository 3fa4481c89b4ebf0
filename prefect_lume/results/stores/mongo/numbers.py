"""Let a MongoDB server find a number by an index, also one stored as a numpy scalar.

A query for a number asks for it as it is or as a numpy scalar holds it; servers do not
take two indices for the two halves of that question (or not all of them do). So each
half is asked by itself, for keys only, and the query is put to those documents.
Beside each index of a document type there is one for the scalars in its first field,
which holds nothing but documents with such scalars.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pymongo.collection import Collection

from prefect_lume.results.index import Clause
from prefect_lume.results.query.operands import SCALAR, SCALAR_MARK, SCALAR_VALUE
from prefect_lume.results.stores.implied import equalities, implied
from prefect_lume.results.stores.indices import DeclaredIndex, conjunction

#: More documents than these are not looked for by their keys.
MOST: Final = 1000


def scalar_clauses(field: str) -> tuple[Clause, ...]:
    """Return the condition that a field holds a numpy scalar."""
    return ((f"{field}.{SCALAR_MARK}", "$eq", SCALAR),)


def scalar_fields(index: DeclaredIndex) -> list[str]:
    """Return the fields of the index beside an index."""
    return [f"{index.fields[0]}.{SCALAR_VALUE}", *index.fields[1:]]


def narrowed(
    collection: Collection[dict[str, Any]],
    query: Mapping[str, Any],
    indices: Iterable[DeclaredIndex],
) -> Mapping[str, Any]:
    """Return a query for the same documents that names them, if an index finds few.

    Args:
        collection: The documents; raises pymongo's exceptions.
        query: In stored form.
        indices: What the collection has.
    """
    fixed, plain = equalities(query), equalities(query, scalars=False)
    both = fixed.keys() - plain.keys()
    if not both or "result_type" not in plain:
        return query
    usable = [
        index
        for index in indices
        if index.result_type == plain["result_type"]
        and index.expire_after is None
        and both.intersection(_leading(index, fixed))
        and implied(index, query)
    ]
    if not usable:
        return query
    best = max(usable, key=lambda index: len(_leading(index, fixed)))
    found: set[str] = set()
    for clauses in _branches(best, fixed, both):
        branch = {"$and": [best.query(), conjunction(clauses)]}
        for tree in collection.find(branch, {"_id": 1}).limit(MOST + 1):
            found.add(tree["_id"])
        if len(found) > MOST:
            return query
    return {"$and": [{"_id": {"$in": sorted(found)}}, query]}


def _leading(index: DeclaredIndex, fixed: Mapping[str, Any]) -> Sequence[str]:
    """Return the first fields of an index, as far as a query fixes them."""
    return list(itertools.takewhile(lambda field: field in fixed, index.fields))


def _branches(
    index: DeclaredIndex, fixed: Mapping[str, Any], both: Iterable[str]
) -> Iterator[list[Clause]]:
    """Yield the ways in which documents may hold the values, plain or as scalars."""
    wanted = set(both)
    ways: list[list[tuple[Clause, ...]]] = []
    for field in _leading(index, fixed):
        value = fixed[field]
        ways.append([((field, "$eq", value),)])
        if field in wanted:
            inner: Clause = (f"{field}.{SCALAR_VALUE}", "$eq", value)
            ways[-1].append((inner, *scalar_clauses(field)))
    for chosen in itertools.product(*ways):
        yield list(itertools.chain.from_iterable(chosen))
