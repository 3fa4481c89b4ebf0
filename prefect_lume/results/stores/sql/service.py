"""Results in any SQL database, through SQLAlchemy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy import (
    Connection,
    Engine,
    delete,
    select,
)

from prefect_lume.results import query as language
from prefect_lume.results.stores.base import (
    DBService,
    DBServiceConfig,
    Outcome,
    Query,
    SortPairs,
    Tree,
    missing,
)
from prefect_lume.results.stores.blobs import BlobInfo, Data
from prefect_lume.results.stores.checks import check_collection
from prefect_lume.results.stores.index_changes import IndexChanges
from prefect_lume.results.stores.indices import DeclaredIndex
from prefect_lume.results.stores.sql import index as sql_index
from prefect_lume.results.stores.sql import plan as sql_plan
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.blobs import SQLBlobs
from prefect_lume.results.stores.sql.collector import SQLCollector
from prefect_lume.results.stores.sql.indices import SQLIndices
from prefect_lume.results.stores.sql.pages import Pages
from prefect_lume.results.stores.sql.transactions import Transactions
from prefect_lume.results.stores.sql.writer import SQLWriter
from prefect_lume.storage import sql

if TYPE_CHECKING:
    from prefect_lume.results.codecs import Encoded
    from prefect_lume.results.documents import DocumentBase

_RESULT = sql_tables.result
_KEYS_AT_ONCE: Final = 200


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

    #: The database refuses a document whose blob is gone: no blob need wait.
    blob_lease: ClassVar[timedelta] = timedelta(0)

    def __init__(self, engine: Engine, config: DBServiceConfig | None = None) -> None:
        """Keep an engine; nothing is connected yet.

        Args:
            engine: From :func:`prefect_lume.storage.sql.get_engine`. It is shared:
                :meth:`close` does not dispose of it.
            config: None takes the defaults.
        """
        super().__init__(config)
        self.engine = sql.prepared(engine)
        self._transactions = Transactions(engine)
        self._blobs = SQLBlobs(self._transactions)
        self._collector = SQLCollector(self._transactions)
        self._writer = SQLWriter(
            self._transactions, self._blobs, self.get_blob, lambda: self.where
        )
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

    def compare_indices(self, docs: Iterable[type[DocumentBase]]) -> IndexChanges:
        """Return what :meth:`migrate_indices` would do; see the base class."""
        return self._indices.compare(docs)

    def migrate_indices(self, docs: Iterable[type[DocumentBase]]) -> IndexChanges:
        """Create what is declared, drop what else there is; see the base class."""
        return self._indices.migrate(docs)

    def expiring_indices(self) -> Sequence[DeclaredIndex]:
        """Return the indices that say when documents expire; see the base class."""
        return self._indices.expiring()

    def insert(self, collection: str, encoded: Encoded) -> bool:
        """Store a document, unless one of its key is there; see the base class."""
        return self._writer.insert(collection, encoded)

    def replace(self, collection: str, encoded: Encoded) -> None:
        """Store a document in place of the one with its key; see the base class."""
        self._writer.replace(collection, encoded)

    def insert_many(
        self, collection: str, encoded: Sequence[Encoded], *, replace: bool = False
    ) -> list[Outcome]:
        """Store several documents in few statements; see the base class."""
        return self._writer.insert_many(collection, encoded, replace=replace)

    def get(self, collection: str, unique_hash: str) -> Tree:
        """Return the document of a key; see the base class."""
        statement = select(_RESULT.c.document).where(
            _RESULT.c.collection == check_collection(collection),
            _RESULT.c.unique_hash == unique_hash,
        )
        document = self._transactions.read(lambda c: c.execute(statement).scalar())
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

        The server answers conditions on the header fields, an order by them, and most
        conditions on values inside the documents; another order keeps the sort keys
        (not the documents) in memory.
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
        return self._pages.count(check_collection(collection), language.validate(query))

    def distinct(self, collection: str, field: str, query: Query = None) -> list[Any]:
        """Return the distinct values of a field; see the base class."""
        return self._pages.distinct(
            check_collection(collection), field, language.validate(query)
        )

    def collections(self) -> list[str]:
        """Return the names of the collections that hold documents, sorted."""
        statement = select(_RESULT.c.collection).distinct()
        return sorted(
            self._transactions.read(lambda c: c.execute(statement).scalars().all())
        )

    def delete(self, collection: str, query: Query) -> int:
        """Remove the documents that match a query; see the base class."""
        conditions, _ = sql_plan.plan(language.validate(query))
        return sum(
            self._delete(collection, batch, conditions)
            for batch in self._keys_of(collection, query)
        )

    def _keys_of(self, collection: str, query: Query) -> Iterator[list[str]]:
        """Yield the keys of the documents that match a query, many at once."""
        found = self.find(collection, query, sort=[("_id", 1)], projection=())
        while batch := [tree["_id"] for tree in islice(found, _KEYS_AT_ONCE)]:
            yield batch

    def _delete(
        self,
        collection: str,
        found: Sequence[str],
        conditions: Sequence[sql_plan.Condition],
    ) -> int:
        # One may have been replaced since it was found, and meet them no more.
        still = (
            select(_RESULT.c.unique_hash)
            .where(
                _RESULT.c.collection == collection,
                _RESULT.c.unique_hash.in_(found),
                *conditions,
            )
            .order_by(_RESULT.c.unique_hash)
            .with_for_update()
        )

        def write(connection: Connection) -> int:
            hashes = connection.execute(still).scalars().all()
            # First the documents: then nobody who builds an index adds keys for them.
            gone = connection.execute(
                delete(_RESULT).where(
                    _RESULT.c.collection == collection,
                    _RESULT.c.unique_hash.in_(hashes),
                )
            )
            sql_index.remove_keys(connection, collection, hashes)
            return int(gone.rowcount)

        return self._transactions.write(write)

    def write_blob(self, sha256: str, size: int, pieces: Iterable[Data]) -> None:
        """Store a blob piece by piece, unless it is there; see the base class."""
        self._blobs.write(sha256, size, pieces)

    def read_blob(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's content piece by piece; see the base class."""
        return self._blobs.read(sha256)

    def now(self) -> datetime:
        """Return the time by the server's clock; see the base class."""
        return self._collector.now()

    def held_blobs(self, collection: str, query: Query = None) -> Iterator[str]:
        """Yield the hashes of the blobs that documents hold; see the base class."""
        if not query:
            yield from self._collector.held(check_collection(collection))
            return
        for batch in self._keys_of(collection, query):
            yield from self._collector.held_by(collection, batch)

    def unused_blobs(
        self, older_than: timedelta = timedelta(days=1), among: Iterable[str] = ()
    ) -> list[BlobInfo]:
        """Return the blobs that no document holds; see the base class."""
        return self._collector.unused(older_than, among)

    def delete_unused_blobs(
        self, older_than: timedelta = timedelta(days=1), among: Iterable[str] = ()
    ) -> list[BlobInfo]:
        """Remove the blobs that no document holds; see the base class.

        It may run beside any number of writers. It also removes what writers left
        behind that died while they stored a large blob: ten minutes after their last
        sign of life, or at once if ``older_than`` is negative.
        """
        return self._collector.delete_unused(older_than, among)

    def blobs_before(self, moment: datetime) -> list[BlobInfo]:
        """Return the blobs last stored before a moment; see the base class."""
        return self._collector.before(moment)

    def delete_blob(self, sha256: str, before: datetime) -> bool:
        """Remove a blob that no document holds; see the base class."""
        return self._collector.delete(sha256, before)

    def close(self) -> None:
        """Do nothing: the engine belongs to who made it."""
