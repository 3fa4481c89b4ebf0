"""Results in MongoDB, or any server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64
from pymongo.database import Database

from prefect_lume.errors import IntegrityError, InvalidInputError
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
from prefect_lume.results.stores.checks import RESERVED_PREFIXES, check_collection
from prefect_lume.results.stores.index_changes import DuplicatesError, IndexChanges
from prefect_lume.results.stores.indices import DeclaredIndex
from prefect_lume.results.stores.mongo.blobs import MongoBlobs
from prefect_lume.results.stores.mongo.held import (
    BLOBS,
    BlobIndex,
    Documents,
    drop_held,
    shown,
)
from prefect_lume.results.stores.mongo.indices import MongoIndices
from prefect_lume.results.stores.mongo.uploads import Source
from prefect_lume.results.stores.mongo.writer import Draft, MongoWriter
from prefect_lume.storage import mongo

if TYPE_CHECKING:
    from prefect_lume.results.codecs import Encoded
    from prefect_lume.results.documents import DocumentBase


class _PlainInt(TypeDecoder):
    """Reads 64-bit integers as ``int``, not as pymongo's subclass of it."""

    bson_type = Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


#: A server would send 16 MB at once: small documents take ten times that in memory.
_FOUND_AT_ONCE: Final = 1000

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

    writers = 2

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
        self._known: dict[str, Documents] = {}
        self._indices = MongoIndices(lambda: self.where)
        self._held = BlobIndex(self.get_blob)
        self._writer = MongoWriter(
            self._blobs,
            self._indices,
            self.get_blob,
            self.blob_lease,
            lambda: self.where,
        )

    @property
    def where(self) -> str:
        """The server and database without any secret, for messages."""
        database = self._database()
        return mongo.describe(database.client, database.name)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except mongo.FAULTS as error:
            raise mongo.translate(error, self.where) from error

    def _collection(self, name: str) -> Documents:
        database = self._database()
        known = self._known.get(name)
        # Making one takes a tenth of what storing a document does.
        if known is None or known.database.client is not database.client:
            known = database.get_collection(
                check_collection(name), codec_options=_CODEC
            )
            self._known[name] = known
        return known

    def prepare(self, docs: Iterable[type[DocumentBase]]) -> None:
        """Create the indices that document types declare; see the base class.

        Collections that do not exist yet get theirs with their first document.
        """
        self._indices.declare(docs)
        failures = []
        for name in self._names():
            try:
                self._ready(name)
            except DuplicatesError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def compare_indices(self, docs: Iterable[type[DocumentBase]]) -> IndexChanges:
        """Return what :meth:`migrate_indices` would do; see the base class."""
        collections = [self._collection(name) for name in self._names()]
        with self._translated():
            return self._indices.compare(collections, docs)

    def migrate_indices(self, docs: Iterable[type[DocumentBase]]) -> IndexChanges:
        """Create what is declared, drop what else there is; see the base class."""
        collections = [self._collection(name) for name in self._names()]
        with self._translated():
            return self._indices.migrate(collections, docs)

    def expiring_indices(self) -> Sequence[DeclaredIndex]:
        """Return the indices that say when documents expire; see the base class."""
        collections = [self._collection(name) for name in self._names()]
        with self._translated():
            return self._indices.expiring(collections)

    def _ready(self, name: str) -> Documents:
        """Return a collection that has its indices."""
        documents = self._collection(name)
        with self._translated():
            self._indices.ensure(documents)
            self._held.ensure(documents)
        return documents

    def insert(self, collection: str, encoded: Encoded) -> bool:
        """Store a document, unless one of its key is there; see the base class."""
        draft, documents = (
            self._writer.draft(collection, encoded),
            self._ready(collection),
        )
        with self._translated():
            return self._writer.insert(documents, draft)

    def replace(self, collection: str, encoded: Encoded) -> None:
        """Store a document in place of the one with its key; see the base class."""
        draft, documents = (
            self._writer.draft(collection, encoded),
            self._ready(collection),
        )
        with self._translated():
            self._writer.replace(documents, draft)

    def insert_many(
        self, collection: str, encoded: Sequence[Encoded], *, replace: bool = False
    ) -> list[Outcome]:
        """Store documents in one request per thousand; see the base class.

        When the connection is lost meanwhile it is repeated: then True also stands
        for a document that another stored, if it is the same in every value.
        """
        outcomes: dict[int, Outcome] = {}
        drafts: dict[int, Draft] = {}
        places: dict[str, list[int]] = {}
        for place, one in enumerate(encoded):
            try:
                drafts[place] = self._writer.draft(collection, one)
            except (InvalidInputError, IntegrityError) as error:
                outcomes[place] = error
            else:
                places.setdefault(drafts[place].key, []).append(place)
        # Of several with one key only the first can be inserted; when each replaces
        # the one before, they go one by one.
        groups = places.values()
        chosen = [drafts[g[0]] for g in groups if len(g) == 1 or not replace]
        documents = self._ready(collection)
        with self._translated():
            answers = self._writer.write_many(documents, chosen, replace=replace)
        for key, group in places.items():
            answer = answers.get(key)
            if answer is None or (len(group) > 1 and not isinstance(answer, bool)):
                same = [encoded[place] for place in group]
                each = super().insert_many(collection, same, replace=replace)
            else:
                each = [answer, *[False] * (len(group) - 1)]
            outcomes.update(zip(group, each, strict=True))
        return [outcomes[place] for place in range(len(encoded))]

    def get(self, collection: str, unique_hash: str) -> Tree:
        """Return the document of a key; see the base class."""
        with self._translated():
            tree = self._collection(collection).find_one({"_id": unique_hash})
        if tree is None:
            raise missing(collection, unique_hash)
        return shown(tree)

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
        language.check_page(skip, limit)
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
            narrow = self._indices.narrow(documents, query)
            cursor = documents.find(
                narrow,
                kept,
                sort=pairs,
                skip=skip,
                limit=limit,
                batch_size=_FOUND_AT_ONCE,
                allow_disk_use=True,
            )
            with cursor:
                yield from map(shown, cursor)

    def count(self, collection: str, query: Query = None) -> int:
        """Return how many documents match a query; see the base class."""
        checked, documents = language.validate(query), self._collection(collection)
        with self._translated():
            narrow = self._indices.narrow(documents, checked)
            return documents.count_documents(narrow)

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
        return sorted(n for n in names if not n.startswith(RESERVED_PREFIXES))

    def delete(self, collection: str, query: Query) -> int:
        """Remove the documents that match a query; see the base class."""
        checked = language.validate(query)
        with self._translated():
            return self._collection(collection).delete_many(checked).deleted_count

    def held_blobs(self, collection: str, query: Query = None) -> Iterator[str]:
        """Yield the hashes of the blobs that documents hold; see the base class."""
        checked = {"$and": [language.validate(query), {BLOBS: {"$exists": True}}]}
        documents = self._held_told(collection)
        with self._translated(), documents.find(checked, {BLOBS: 1}) as cursor:
            for tree in cursor:
                yield from tree[BLOBS]

    def _held_told(self, name: str) -> Documents:
        documents = self._collection(name)
        with self._translated():
            self._held.ensure(documents)
        return documents

    def unused_blobs(
        self, older_than: timedelta = timedelta(days=1), among: Iterable[str] = ()
    ) -> list[BlobInfo]:
        """Return the blobs that no document holds; see the base class."""
        batches = self._unused(self.now() - older_than, set(among))
        return sorted({info for batch in batches for info in batch.values()})

    def delete_unused_blobs(
        self, older_than: timedelta = timedelta(days=1), among: Iterable[str] = ()
    ) -> list[BlobInfo]:
        """Remove the blobs that no document holds; see the base class.

        Without ``among`` it also removes what writers that were killed have left; for
        ten minutes they count as alive, unless ``older_than`` is zero or less.
        """
        before, wanted = self.now() - older_than, set(among)
        removed: set[BlobInfo] = set()
        for batch in self._unused(before, wanted):
            with self._translated():
                gone = self._blobs.delete(batch.keys(), before)
            removed |= {batch[sha256] for sha256 in gone}
        if not wanted:
            with self._translated():
                self._blobs.collect_uploads(older_than)
        return sorted(removed)

    def _unused(
        self, before: datetime, among: set[str]
    ) -> Iterator[dict[str, BlobInfo]]:
        with self._translated():
            collections = [self._held_told(name) for name in self._names()]
            for batch in self._blobs.before(before, among):
                for documents in collections:
                    drop_held(documents, batch)
                if batch:
                    yield batch

    def write_blob(self, sha256: str, size: int, pieces: Iterable[Data]) -> None:
        """Store a blob piece by piece, unless it is there; see the base class."""
        with self._translated():
            if not self._blobs.touch([sha256]):
                self._blobs.upload([Source(sha256, size, pieces)])

    def read_blob(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's content piece by piece; see the base class."""
        with self._translated():
            yield from self._blobs.read(sha256)

    def blobs_before(self, moment: datetime) -> list[BlobInfo]:
        """Return the blobs last stored before a moment; see the base class."""
        with self._translated():
            batches = self._blobs.before(moment)
            return sorted({info for batch in batches for info in batch.values()})

    def delete_blob(self, sha256: str, before: datetime) -> bool:
        """Remove a blob that was not stored since; see the base class."""
        with self._translated():
            return bool(self._blobs.delete([sha256], before))

    def now(self) -> datetime:
        """Return the server's clock."""
        with self._translated():
            return self._blobs.now()

    def close(self) -> None:
        """Do nothing: the client belongs to who made it."""
