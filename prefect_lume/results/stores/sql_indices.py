"""Create, in SQL, the indices that document types declare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select, update

from prefect_lume.errors import ConflictError
from prefect_lume.results.stores import sql_index, sql_tables
from prefect_lume.results.stores.base import Tree
from prefect_lume.results.stores.indices import declared
from prefect_lume.results.stores.sql_index import IndexDefinition
from prefect_lume.results.stores.sql_transactions import Transactions

if TYPE_CHECKING:
    from prefect_lume.results.documents import DocumentBase

_RESULT = sql_tables.result


class SQLIndices:
    """Builds the indices of document types, also for documents stored before.

    Args:
        transactions: The database.
        find: The store's own ``find``.
        where: Returns the database, for messages.
    """

    def __init__(
        self,
        transactions: Transactions,
        find: Callable[..., Iterator[Tree]],
        where: Callable[[], str],
    ) -> None:
        self._transactions = transactions
        self._find = find
        self._where = where

    def prepare(self, docs: Iterable[type[DocumentBase]]) -> None:
        """Create the indices that document types declare."""
        wanted = [
            IndexDefinition(index.result_type, index.fields, index.unique)
            for doc in docs
            for index in declared(doc)
        ]
        table = sql_tables.result_index
        statement = select(table.c.name).where(table.c.ready.is_(True))
        ready = set(
            self._transactions.read(lambda c: c.execute(statement).scalars().all())
        )
        for index in wanted:
            if index.name not in ready:
                self.build(index)

    def build(self, index: IndexDefinition) -> None:
        """Build one index; another process may be building it too."""
        table = sql_tables.result_index
        # If it is known but not ready, another process is building it, or died.
        with suppress(ConflictError):
            self._transactions.write(lambda c: c.execute(insert(table), index.row()))
        # From here on every writer adds the keys of what it stores.
        names = select(_RESULT.c.collection).distinct()
        for collection in self._transactions.read(
            lambda c: c.execute(names).scalars().all()
        ):
            query = {"result_type": {"$eq": index.result_type}}
            for tree in self._find(collection, query, sort=[("_id", 1)]):
                self._add_missing_keys(collection, tree, index)
        ready = update(table).where(table.c.name == index.name).values(ready=True)
        self._transactions.write(lambda c: c.execute(ready))

    def _add_missing_keys(
        self, collection: str, tree: Tree, index: IndexDefinition
    ) -> None:
        keys = sql_tables.result_index_key
        present = select(keys.c.key_hash).where(
            keys.c.collection == collection,
            keys.c.name == index.name,
            keys.c.unique_hash == tree["_id"],
        )

        def write(connection: Connection) -> None:
            if not connection.execute(present.limit(1)).first():
                sql_index.add_keys(connection, collection, tree, [index])

        try:
            self._transactions.write(write)
        except ConflictError as error:
            if not self._transactions.read(lambda c: c.execute(present).first()):
                raise ConflictError(
                    f"{self._where()}: the unique index on {', '.join(index.fields)} "
                    f"of {index.result_type!r} cannot be built: the result "
                    f"{tree['_id']} of {collection!r} has the same values as another. "
                    f"Delete one of them, or declare the index without unique."
                ) from error
