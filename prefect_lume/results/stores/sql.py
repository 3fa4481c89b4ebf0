"""Results in any SQL database, through SQLAlchemy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    delete,
    func,
    insert,
    select,
    update,
)

from prefect_lume.errors import ConflictError
from prefect_lume.results import query as language
from prefect_lume.results.stores import sql_index, sql_plan, sql_tables
from prefect_lume.results.stores.base import (
    DBService,
    DBServiceConfig,
    Query,
    SortPairs,
    Tree,
    missing,
)
from prefect_lume.results.stores.blobs import BlobInfo, Data, verified
from prefect_lume.results.stores.checks import check_collection, check_document
from prefect_lume.results.stores.sql_blobs import SQLBlobs
from prefect_lume.results.stores.sql_indices import SQLIndices
from prefect_lume.results.stores.sql_pages import Pages
from prefect_lume.results.stores.sql_transactions import (
    RepeatedConflictError,
    Transactions,
)
from prefect_lume.results.stores.trees import to_json
from prefect_lume.storage import sql

if TYPE_CHECKING:
    from prefect_lume.results.codecs import Encoded
    from prefect_lume.results.documents import DocumentBase

_RESULT = sql_tables.result
_DELETE_AT_ONCE: Final = 200


class SQLDBService(DBService):
    """Results in an SQL database: MySQL, MariaDB, PostgreSQL, SQLite.

    The tables are made by ``prefect-lume db upgrade``, or by :meth:`create_tables`.

    Example:
        >>> from prefect_lume.storage.sql import get_engine
        >>> service = SQLDBService(get_engine("sqlite://"))
        >>> service.create_tables()
        >>> service.count("injector")
        0
    """

    def __init__(self, engine: Engine, config: DBServiceConfig | None = None) -> None:
        """Keep an engine; nothing is connected yet.

        Args:
            engine: From :func:`prefect_lume.storage.sql.get_engine`. It is shared:
                :meth:`close` does not dispose of it.
            config: None takes the defaults.
        """
        super().__init__(config)
        self.engine = engine
        self._transactions = Transactions(engine)
        self._blobs = SQLBlobs(self._transactions)
        self._pages = Pages(self._transactions)
        self._indices = SQLIndices(self._transactions, self.find, lambda: self.where)

    @property
    def where(self) -> str:
        """The database without any secret, for messages."""
        return sql.safe_url(self.engine)

    def create_tables(self) -> None:
        """Create the tables that do not exist yet, without the migrations."""
        with sql.translated(self.engine):
            sql_tables.metadata.create_all(self.engine)

    def prepare(self, docs: Iterable[type[DocumentBase]]) -> None:
        """Create the indices that document types declare; see the base class."""
        self._indices.prepare(docs)

    def insert(self, collection: str, encoded: Encoded) -> bool:
        """Store a document, unless one of its key is there; see the base class."""
        tree = self._checked(collection, encoded)
        row = _row(collection, tree)

        def write(connection: Connection) -> None:
            indices = sql_index.definitions(connection, row["result_type"])
            connection.execute(insert(_RESULT), row)
            sql_index.add_keys(connection, collection, tree, indices)

        if self._exists(collection, row["unique_hash"]):
            return False
        self._put_blobs(encoded)
        try:
            self._transactions.write(write)
        except ConflictError as error:
            stored = self._document(collection, row["unique_hash"])
            if stored is None:
                raise self._not_unique(tree, error) from error
            # After a lost connection it may be what this very call stored before.
            again = isinstance(error, RepeatedConflictError)
            return again and stored == row["document"]
        return True

    def replace(self, collection: str, encoded: Encoded) -> None:
        """Store a document in place of the one with its key; see the base class."""
        tree = self._checked(collection, encoded)
        row = _row(collection, tree)
        key = _key(collection, row["unique_hash"])

        def write(connection: Connection) -> None:
            indices = sql_index.definitions(connection, row["result_type"])
            changed = connection.execute(update(_RESULT).where(*key).values(row))
            if changed.rowcount:
                sql_index.remove_keys(connection, collection, [row["unique_hash"]])
            else:
                connection.execute(insert(_RESULT), row)
            sql_index.add_keys(connection, collection, tree, indices)

        self._put_blobs(encoded)
        try:
            self._transactions.write(write)
        except ConflictError as error:
            if self._document(collection, row["unique_hash"]) is None:
                raise self._not_unique(tree, error) from error
            # Inserted by another since the update found nothing: now it finds it.
            try:
                self._transactions.write(write)
            except ConflictError as second:
                raise self._not_unique(tree, second) from second

    def _not_unique(self, tree: Tree, error: ConflictError) -> ConflictError:
        indices = self._transactions.read(
            lambda c: sql_index.definitions(c, tree["result_type"])
        )
        names = "; ".join(", ".join(i.fields) for i in indices if i.unique)
        if not names:
            return error
        return ConflictError(
            f"{self.where}: another result of type {tree['result_type']!r} has the "
            f"same values in a unique index (on {names})."
        )

    def _checked(self, collection: str, encoded: Encoded) -> Tree:
        check_document(collection, encoded.tree)
        tree: Tree = encoded.tree
        return tree

    def _put_blobs(self, encoded: Encoded) -> None:
        for sha256, data in encoded.blobs.items():
            self.put_blob(sha256, data)

    def _exists(self, collection: str, unique_hash: str) -> bool:
        statement = select(_RESULT.c.collection).where(*_key(collection, unique_hash))
        return (
            self._transactions.read(lambda c: c.execute(statement).first()) is not None
        )

    def _document(self, collection: str, unique_hash: str) -> str | None:
        statement = select(_RESULT.c.document).where(*_key(collection, unique_hash))
        return self._transactions.read(lambda c: c.execute(statement).scalar())

    def get(self, collection: str, unique_hash: str) -> Tree:
        """Return the document of a key; see the base class."""
        document = self._document(check_collection(collection), unique_hash)
        if document is None:
            raise missing(collection, unique_hash)
        tree: Tree = json.loads(document)
        return tree

    def find(
        self,
        collection: str,
        query: Query = None,
        sort: SortPairs = None,
        skip: int = 0,
        limit: int | None = None,
        projection: Sequence[str] | None = None,
    ) -> Iterator[Tree]:
        """Yield the documents that match a query; see the base class.

        Conditions on the header fields are answered by the server, and so is an order
        by them; another order keeps the sort keys (not the documents) in memory.
        """
        found = self._pages.find(
            check_collection(collection),
            language.validate(query),
            language.prepare_sort(None if sort is None else list(sort), stored=True),
            skip,
            limit,
        )
        paths = language.prepare_projection(projection, stored=True)
        if paths is None:
            return found
        return (language.project(tree, paths) for tree in found)

    def count(self, collection: str, query: Query = None) -> int:
        """Return how many documents match a query; see the base class."""
        checked = language.validate(query)
        conditions, rest = sql_plan.plan(checked)
        if rest:
            return super().count(collection, checked)
        statement = (
            select(func.count())
            .select_from(_RESULT)
            .where(_RESULT.c.collection == check_collection(collection), *conditions)
        )
        return int(self._transactions.read(lambda c: c.execute(statement).scalar_one()))

    def distinct(self, collection: str, field: str, query: Query = None) -> list[Any]:
        """Return the distinct values of a field; see the base class."""
        column = sql_plan.COLUMNS.get(field)
        checked = language.validate(query)
        conditions, rest = sql_plan.plan(checked)
        if rest or column is None:
            return super().distinct(collection, field, checked)
        statement = (
            select(column)
            .distinct()
            .where(_RESULT.c.collection == check_collection(collection), *conditions)
        )
        values = self._transactions.read(lambda c: c.execute(statement).scalars().all())
        return sorted(values, key=language.order_key)

    def collections(self) -> list[str]:
        """Return the names of the collections that hold documents, sorted."""
        statement = select(_RESULT.c.collection).distinct()
        return sorted(
            self._transactions.read(lambda c: c.execute(statement).scalars().all())
        )

    def delete(self, collection: str, query: Query) -> int:
        """Remove the documents that match a query; see the base class."""
        total = 0
        batch: list[str] = []
        for tree in self.find(collection, query, sort=[("_id", 1)], projection=()):
            batch.append(tree["_id"])
            if len(batch) == _DELETE_AT_ONCE:
                total += self._delete(collection, batch)
                batch = []
        return total + (self._delete(collection, batch) if batch else 0)

    def _delete(self, collection: str, hashes: Sequence[str]) -> int:
        def write(connection: Connection) -> int:
            sql_index.remove_keys(connection, collection, hashes)
            gone = connection.execute(
                delete(_RESULT).where(
                    _RESULT.c.collection == collection,
                    _RESULT.c.unique_hash.in_(hashes),
                )
            )
            return int(gone.rowcount)

        return self._transactions.write(write)

    def write_blob(self, sha256: str, size: int, pieces: Iterable[Data]) -> None:
        """Store a blob piece by piece, unless it is there; see the base class."""
        self._blobs.put(sha256, b"".join(verified(sha256, size, pieces)))

    def read_blob(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's content piece by piece; see the base class."""
        return self._blobs.read(sha256)

    def blobs_before(self, moment: datetime) -> list[BlobInfo]:
        """Return the blobs last stored before a moment; see the base class."""
        return self._blobs.older_than(moment)

    def delete_blob(self, sha256: str, before: datetime) -> bool:
        """Remove a blob that was not stored since; see the base class."""
        return self._blobs.delete(sha256, before)

    def close(self) -> None:
        """Do nothing: the engine belongs to who made it."""


def _key(collection: str, unique_hash: str) -> tuple[Any, Any]:
    return (_RESULT.c.collection == collection, _RESULT.c.unique_hash == unique_hash)


def _row(collection: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "collection": collection,
        "unique_hash": tree["_id"],
        "result_type": tree["result_type"],
        "flow_id": tree["flow_id"],
        "flow_run_id": tree["flow_run_id"],
        "deployment_id": tree["deployment_id"],
        "date_modified": tree["date_modified"],
        "document": to_json(tree),
    }
