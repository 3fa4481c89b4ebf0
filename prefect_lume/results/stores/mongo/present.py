"""Which indices of document types a MongoDB collection has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymongo.collection import Collection

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.results.index import EXPIRES_FROM, Clause
from prefect_lume.results.query.match import is_operators
from prefect_lume.results.stores.indices import DeclaredIndex
from prefect_lume.results.stores.trees import to_json

#: The hidden field by which the server removes documents: their own dates are text.
EXPIRES: Final = "_expires"
_PREFIX: Final = "lume_"
_SCALARS: Final = "_scalars"


def stored_name(index: DeclaredIndex) -> str:
    """Return the name that an index has in its collection."""
    name = f"{_PREFIX}{index.name[:40]}"
    if index.expire_after is None:
        return name
    # All that the server keeps of the time is in the documents.
    return f"{name}_{index.expire_after:.0f}"


def scalars_name(index: DeclaredIndex) -> str:
    """Return the name of the index beside an index; see ``mongo_numbers``.

    Two that differ in nothing else than uniqueness share it.
    """
    content = [index.result_type, list(index.fields), [list(c) for c in index.clauses]]
    return f"{_PREFIX}{sha256_bytes(to_json(content).encode())[:40]}{_SCALARS}"


def present(collection: Collection[dict[str, Any]]) -> dict[str, DeclaredIndex]:
    """Return the indices of document types in a collection, by their stored names.

    The one beside an index is not among them: the two are made and dropped together.
    Raises pymongo's exceptions.
    """
    found = {}
    for name, described in collection.index_information().items():
        if name.startswith(_PREFIX) and not name.endswith(_SCALARS):
            index = _read(name, described)
            if index is not None:
                found[name] = index
    return found


def _read(name: str, described: Mapping[str, Any]) -> DeclaredIndex | None:
    clauses = list(_clauses(described.get("partialFilterExpression", {})))
    types = [value for path, _, value in clauses if path == "result_type"]
    if len(types) != 1 or not isinstance(types[0], str):
        return None
    fields = tuple(path for path, _ in described["key"])
    after = None
    if fields == (EXPIRES,):
        fields, after = (EXPIRES_FROM,), float(name.rpartition("_")[2])
    existing: set[Clause] = {(field, "$exists", True) for field in fields}
    others = tuple(clause for clause in clauses if clause[0] != "result_type")
    sparse = existing <= set(others)
    where = tuple(c for c in others if not (sparse and c in existing))
    unique = bool(described.get("unique"))
    return DeclaredIndex(types[0], fields, unique, sparse, where, after)


def _clauses(query: Mapping[str, Any]) -> Iterator[Clause]:
    for name, operand in query.items():
        if name == "$and":
            for inner in operand:
                yield from _clauses(inner)
        else:
            operators = operand if is_operators(operand) else {"$eq": operand}
            yield from ((name, key, value) for key, value in operators.items())
