"""The custom indices of document types in SQL: a table of keys that the store keeps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from sqlalchemy import Connection, ScalarSelect, Select, insert, select
from sqlalchemy.engine import Row

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.errors import InvalidInputError
from prefect_lume.results.query.compare import MISSING, order_key
from prefect_lume.results.query.operands import SCALAR, SCALAR_MARK, SCALAR_VALUE
from prefect_lume.results.query.paths import resolve
from prefect_lume.results.stores.implied import equalities, implied
from prefect_lume.results.stores.indices import DeclaredIndex
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.trees import to_json

#: Most keys of one document in one index; a list of more values is not to be indexed.
MAX_KEYS: Final = 10_000

_KEYS = sql_tables.result_index_key
_DEFINITIONS = sql_tables.result_index
_UNIQUE_GUARD: Final = "0" * 64


@dataclass(frozen=True)
class IndexDefinition(DeclaredIndex):
    """An index of one document type, as the SQL store keeps it."""

    @classmethod
    def of(cls, index: DeclaredIndex) -> Self:
        """Return the definition of a declared index."""
        return cls(**{field.name: getattr(index, field.name) for field in fields(cls)})

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Return the definition of a row of ``result_index``."""
        options = json.loads(row.options)
        return cls(
            row.result_type,
            tuple(json.loads(row.fields)),
            bool(row.is_unique),
            bool(options.get("sparse")),
            tuple(
                (path, name, value) for path, name, value in options.get("where", ())
            ),
            options.get("expire_after"),
        )

    def row(self) -> dict[str, Any]:
        """Return the row of ``result_index``, not ready."""
        return {
            "name": self.name,
            "result_type": self.result_type,
            "fields": to_json(list(self.fields)),
            "is_unique": self.unique,
            "options": to_json(self.options),
            "ready": False,
        }

    def keys(self, tree: Mapping[str, Any]) -> set[str]:
        """Return a document's keys: one for each combination of values.

        One that is not in the index has none. Nor has an index that only says when
        documents expire: the column of the dates serves it.

        Raises:
            InvalidInputError: Lists give more than 10,000 combinations.
        """
        if self.expire_after is not None or not self.covers(tree):
            return set()
        columns = [
            {_normal(order_key(value)) for value in _values(tree, field)}
            for field in self.fields
        ]
        total = 1
        for column in columns:
            total *= len(column)
        if total > MAX_KEYS:
            raise InvalidInputError(
                f"The index on {', '.join(self.fields)} of {self.result_type!r} would "
                f"hold {total} keys of one document; at most {MAX_KEYS} are allowed. "
                f"Do not index lists."
            )
        return {_digest(parts) for parts in itertools.product(*columns)}

    def key_of(self, operands: Sequence[Any]) -> str:
        """Return the key under which documents with these values are."""
        return _digest([_normal(order_key(value)) for value in operands])


def _values(tree: Mapping[str, Any], field: str) -> Iterator[Any]:
    found = list(resolve(tree, field.split("."), elements=True))
    for value in found or [MISSING]:
        if isinstance(value, Mapping) and value.get(SCALAR_MARK) == SCALAR:
            yield value.get(SCALAR_VALUE)
        else:
            yield None if value is MISSING else value


def _normal(key: Any) -> str:
    """Return an order key as text in which equal numbers are equal."""

    def plain(part: Any) -> Any:
        if isinstance(part, tuple):
            return [plain(inner) for inner in part]
        if isinstance(part, float) and part.is_integer():
            return int(part)
        return part

    return to_json(plain(key))


def _digest(parts: Iterable[str]) -> str:
    return sha256_bytes("\n".join(parts).encode())


def definitions(connection: Connection, result_type: str) -> list[IndexDefinition]:
    """Return the indices of a document type, those being built included.

    A writer asks after it has inserted the document: whoever defines an index and then
    waits for the writers at work sees the document, or the writer sees the index.
    """
    statement = select(_DEFINITIONS).where(_DEFINITIONS.c.result_type == result_type)
    if connection.dialect.name == "postgresql":
        # As the key's reference to it will: none is dropped before the commit.
        statement = statement.with_for_update(read=True, key_share=True)
    return [IndexDefinition.from_row(row) for row in connection.execute(statement)]


def key_rows(
    collection: str, tree: Mapping[str, Any], indices: Iterable[IndexDefinition]
) -> list[dict[str, Any]]:
    """Return the rows of ``result_index_key`` that a document has.

    Raises:
        InvalidInputError: An index would hold too many keys of it.
    """
    return [
        {
            "collection": collection,
            "name": index.name,
            "key_hash": key,
            "guard": _UNIQUE_GUARD if index.unique else tree["_id"],
            "unique_hash": tree["_id"],
        }
        for index in indices
        for key in sorted(index.keys(tree))
    ]


def insert_keys(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows. A duplicate in a unique index violates its key."""
    if rows:
        connection.execute(insert(_KEYS), rows)


def remove_keys(
    connection: Connection,
    collection: str,
    hashes: Sequence[str] | Select[Any] | ScalarSelect[Any],
) -> None:
    """Delete all keys of some documents."""
    connection.execute(
        _KEYS.delete().where(
            _KEYS.c.collection == collection, _KEYS.c.unique_hash.in_(hashes)
        )
    )


def candidates(
    connection: Connection, collection: str, query: Mapping[str, Any]
) -> Select[Any] | None:
    """Return a selection of the hashes that an index offers for a query, or None."""
    fixed = equalities(query)
    result_type = fixed.get("result_type")
    if not isinstance(result_type, str) or len(fixed) < 2:
        return None
    statement = select(_DEFINITIONS).where(
        _DEFINITIONS.c.result_type == result_type, _DEFINITIONS.c.ready.is_(True)
    )
    ready = [IndexDefinition.from_row(row) for row in connection.execute(statement)]
    usable = [
        index
        for index in ready
        if index.expire_after is None
        and set(index.fields) <= set(fixed)
        and implied(index, query)
    ]
    if not usable:
        return None
    best = max(usable, key=lambda index: (index.unique, len(index.fields)))
    key = best.key_of([fixed[field] for field in best.fields])
    return select(_KEYS.c.unique_hash).where(
        _KEYS.c.collection == collection,
        _KEYS.c.name == best.name,
        _KEYS.c.key_hash == key,
    )
