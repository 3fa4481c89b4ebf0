"""The indices of a MongoDB database: those of every collection, and document types'."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from pymongo import errors as driver
from pymongo.collection import Collection

from prefect_lume.errors import ConflictError
from prefect_lume.results.stores.indices import (
    HEADER_INDICES,
    DeclaredIndex,
    declared,
)

if TYPE_CHECKING:
    from prefect_lume.results.documents import DocumentBase

Documents = Collection[dict[str, Any]]

#: The server's code for a duplicate key.
_DUPLICATE: Final = 11000


class MongoIndices:
    """Knows what is declared, and creates it in collections.

    Args:
        where: Returns the server and database, for messages.
    """

    def __init__(self, where: Callable[[], str]) -> None:
        self._where = where
        self._indices: dict[str, DeclaredIndex] = {}
        self._indexed: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def declare(self, docs: Iterable[type[DocumentBase]]) -> None:
        """Remember the indices of document types."""
        with self._lock:
            for doc in docs:
                self._indices.update({index.name: index for index in declared(doc)})

    def unique_fields(self, result_type: str) -> str:
        """Return the fields of a type's unique indices, for a message."""
        return "; ".join(
            ", ".join(index.fields)
            for index in self._indices.values()
            if index.unique and index.result_type == result_type
        )

    def ensure(self, collection: Documents) -> None:
        """Create what a collection lacks; raises pymongo's exceptions.

        Raises:
            ConflictError: Stored documents contradict a unique index.
        """
        name = collection.name
        with self._lock:
            wanted = dict(self._indices)
            if self._indexed.get(name) == frozenset(wanted):
                return
        there = set(collection.index_information())
        for fields in HEADER_INDICES:
            # The name that MongoDB itself would give.
            if "_".join(f"{field}_1" for field in fields) not in there:
                collection.create_index([(field, 1) for field in fields])
        for index in wanted.values():
            if _index_name(index) not in there:
                self._create(collection, index)
        with self._lock:
            self._indexed[name] = frozenset(wanted)

    def _create(self, collection: Documents, index: DeclaredIndex) -> None:
        # The index is the type's own: other types in the project do not count.
        try:
            collection.create_index(
                [(field, 1) for field in index.fields],
                name=_index_name(index),
                unique=index.unique,
                partialFilterExpression={"result_type": index.result_type},
            )
        except driver.OperationFailure as error:
            # DocumentDB does not say 11000 here, but which constraint it violates.
            if error.code == _DUPLICATE or "constraint" in str(error):
                raise self._not_buildable(collection.name, index) from error
            raise

    def _not_buildable(self, name: str, index: DeclaredIndex) -> ConflictError:
        return ConflictError(
            f"{self._where()}: the unique index on {', '.join(index.fields)} of "
            f"{index.result_type!r} cannot be built: results of {name!r} have the "
            f"same values. Delete all but one of them, or declare the index without "
            f"unique."
        )


def _index_name(index: DeclaredIndex) -> str:
    return f"lume_{index.name[:40]}"
