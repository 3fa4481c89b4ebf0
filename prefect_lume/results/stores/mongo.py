"""Results in MongoDB, or any server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64
from pymongo import errors as driver
from pymongo.collection import Collection
from pymongo.database import Database

from prefect_lume.errors import ConflictError, QueryError
from prefect_lume.results import query as language
from prefect_lume.results.query.operands import sort_keys
from prefect_lume.results.stores.base import (
    DBService,
    DBServiceConfig,
    Query,
    SortPairs,
    Tree,
    missing,
)
from prefect_lume.results.stores.blobs import BlobInfo, Data, verified
from prefect_lume.results.stores.checks import (
    RESERVED,
    check_collection,
    check_document,
)
from prefect_lume.results.stores.mongo_blobs import MongoBlobs
from prefect_lume.results.stores.mongo_indices import MongoIndices
from prefect_lume.storage import mongo

if TYPE_CHECKING:
    from prefect_lume.results.codecs import Encoded
    from prefect_lume.results.documents import DocumentBase

Documents = Collection[dict[str, Any]]


class _PlainInt(TypeDecoder):
    """Reads 64-bit integers as ``int``, not as pymongo's subclass of it."""

    bson_type = Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


_CODEC: Final = CodecOptions[dict[str, Any]](
    type_registry=TypeRegistry([_PlainInt()]), tz_aware=True
)


class MongoDBService(DBService):
    """Results in a MongoDB database: one collection per project, blobs in GridFS.

    A document's ``_id`` is its unique hash: the server itself keeps it unique.

    Example:
        >>> from prefect_lume.storage.mongo import get_client
        >>> client = get_client("mongodb://localhost:27017")
        >>> service = MongoDBService(client["results"])
        >>> service.where
        'mongodb://localhost:27017/results'
    """

    def __init__(
        self,
        database: Database[dict[str, Any]] | Callable[[], Database[dict[str, Any]]],
        config: DBServiceConfig | None = None,
    ) -> None:
        """Keep a database; nothing is connected yet.

        Args:
            database: The database of a client from
                :func:`prefect_lume.storage.mongo.get_client`, or a function that
                returns it: a client is not to be used after a fork, and the function
                is called for each operation. :meth:`close` does not close the client.
            config: None takes the defaults.
        """
        super().__init__(config)
        self._database: Callable[[], Database[dict[str, Any]]] = (
            (lambda: database) if isinstance(database, Database) else database
        )
        self._blobs = MongoBlobs(self._database)
        self._indices = MongoIndices(lambda: self.where)

    @property
    def where(self) -> str:
        """The server and database without any secret, for messages."""
        database = self._database()
        return mongo.describe(database.client, database.name)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except driver.PyMongoError as error:
            raise mongo.translate(error, self.where) from error

    def _collection(self, name: str) -> Documents:
        return self._database().get_collection(
            check_collection(name), codec_options=_CODEC
        )

    def prepare(self, docs: Iterable[type[DocumentBase]]) -> None:
        """Create the indices that document types declare; see the base class.

        Collections that do not exist yet get theirs with their first document.
        """
        self._indices.declare(docs)
        for name in self._names():
            self._ensure_indices(name)

    def _ensure_indices(self, name: str) -> None:
        with self._translated():
            self._indices.ensure(self._collection(name))

    def insert(self, collection: str, encoded: Encoded) -> bool:
        """Store a document, unless one of its key is there; see the base class."""
        check_document(collection, encoded.tree)
        documents, tree = self._collection(collection), sort_keys(encoded.tree)
        with self._translated():
            if documents.find_one({"_id": tree["_id"]}, {"_id": 1}) is not None:
                return False
        self._ensure_indices(collection)
        self._put_blobs(encoded)
        with self._translated():
            try:
                return self._insert(documents, tree, again=False)
            except driver.AutoReconnect:
                # Whether it was stored before the connection was lost is not known.
                return self._insert(documents, tree, again=True)

    def _insert(self, documents: Documents, tree: Tree, *, again: bool) -> bool:
        try:
            documents.insert_one(dict(tree))
        except driver.DuplicateKeyError as error:
            stored = documents.find_one({"_id": tree["_id"]})
            if stored is None:
                raise self._not_unique(tree) from error
            return again and stored == tree
        return True

    def _not_unique(self, tree: Tree) -> ConflictError:
        names = self._indices.unique_fields(tree["result_type"])
        return ConflictError(
            f"{self.where}: another result of type {tree['result_type']!r} has the "
            f"same values in a unique index (on {names or 'the server'})."
        )

    def replace(self, collection: str, encoded: Encoded) -> None:
        """Store a document in place of the one with its key; see the base class."""
        check_document(collection, encoded.tree)
        documents, tree = self._collection(collection), sort_keys(encoded.tree)
        self._ensure_indices(collection)
        self._put_blobs(encoded)
        with self._translated():
            try:
                self._replace(documents, tree)
            except (driver.AutoReconnect, driver.DuplicateKeyError):
                # Concurrent upserts of one key may collide: then it is there now.
                try:
                    self._replace(documents, tree)
                except driver.DuplicateKeyError as error:
                    raise self._not_unique(tree) from error

    @staticmethod
    def _replace(documents: Documents, tree: Tree) -> None:
        documents.replace_one({"_id": tree["_id"]}, dict(tree), upsert=True)

    def _put_blobs(self, encoded: Encoded) -> None:
        for sha256, data in encoded.blobs.items():
            self.put_blob(sha256, data)

    def get(self, collection: str, unique_hash: str) -> Tree:
        """Return the document of a key; see the base class."""
        with self._translated():
            tree = self._collection(collection).find_one({"_id": unique_hash})
        if tree is None:
            raise missing(collection, unique_hash)
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
        """Yield the documents that match a query; see the base class."""
        if skip < 0 or (limit is not None and limit < 0):
            raise QueryError(f"skip ({skip}) and limit ({limit}) are 0 or more.")
        checked = language.validate(query)
        pairs = language.prepare_sort(None if sort is None else list(sort), stored=True)
        paths = language.prepare_projection(projection, stored=True)
        documents = self._collection(collection)
        if limit == 0:
            return iter(())
        return self._stream(documents, checked, pairs, skip, limit or 0, paths)

    def _stream(
        self,
        documents: Documents,
        query: Mapping[str, Any],
        pairs: list[tuple[str, int]],
        skip: int,
        limit: int,
        paths: list[str] | None,
    ) -> Iterator[Tree]:
        kept = None if paths is None else dict.fromkeys(["_id", *paths], 1)
        with self._translated():
            cursor = documents.find(
                query, kept, sort=pairs, skip=skip, limit=limit, allow_disk_use=True
            )
            with cursor:
                yield from cursor

    def count(self, collection: str, query: Query = None) -> int:
        """Return how many documents match a query; see the base class."""
        checked = language.validate(query)
        with self._translated():
            return self._collection(collection).count_documents(checked)

    def collections(self) -> list[str]:
        """Return the names of the collections that hold documents, sorted."""
        with self._translated():
            return [
                name
                for name in self._names()
                if self._database()[name].find_one({}, {"_id": 1}) is not None
            ]

    def _names(self) -> list[str]:
        with self._translated():
            names = self._database().list_collection_names()
        return sorted(n for n in names if not n.startswith((RESERVED, "system.")))

    def delete(self, collection: str, query: Query) -> int:
        """Remove the documents that match a query; see the base class."""
        checked = language.validate(query)
        with self._translated():
            return self._collection(collection).delete_many(checked).deleted_count

    def write_blob(self, sha256: str, size: int, pieces: Iterable[Data]) -> None:
        """Store a blob piece by piece, unless it is there; see the base class."""
        data = b"".join(verified(sha256, size, pieces))
        with self._translated():
            try:
                self._blobs.put(sha256, data)
            except driver.AutoReconnect:
                self._blobs.put(sha256, data)

    def read_blob(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's content piece by piece; see the base class."""
        with self._translated():
            yield from self._blobs.read(sha256)

    def blobs_before(self, moment: datetime) -> list[BlobInfo]:
        """Return the blobs last stored before a moment; see the base class."""
        with self._translated():
            return self._blobs.older_than(moment)

    def delete_blob(self, sha256: str, before: datetime) -> bool:
        """Remove a blob that was not stored since; see the base class."""
        with self._translated():
            return self._blobs.delete(sha256, before)

    def close(self) -> None:
        """Do nothing: the client belongs to who made it."""
