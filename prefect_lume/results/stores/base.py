"""The interface of a results database, and what every store does alike."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from prefect_lume.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from prefect_lume.results import query as language
from prefect_lume.results.stores.blobs import BlobInfo, BlobStore
from prefect_lume.results.stores.index_changes import IndexChanges
from prefect_lume.results.stores.indices import DeclaredIndex
from prefect_lume.results.stores.trees import blobs_of

if TYPE_CHECKING:
    from prefect_lume.results.codecs import Encoded
    from prefect_lume.results.documents import DocumentBase

#: Fields that every document has beside ``_id`` and that stores may promote to
#: columns. They are plain values, never an envelope.
HEADER = (
    "result_type",
    "project_name",
    "flow_id",
    "flow_run_id",
    "deployment_id",
    "date_modified",
    "unique_on",
    "format",
)

Tree = dict[str, Any]
Query = Mapping[str, Any] | None
SortPairs = Sequence[tuple[str, int]] | None
Outcome = bool | ConflictError | InvalidInputError | IntegrityError


class DBServiceConfig(BaseModel):
    """What every results database can be told; subclass it to add fields.

    Example:
        >>> class MyConfig(DBServiceConfig):
        ...     url: str
        >>> MyConfig(url="blah://my-connection-url").threshold
        65536
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: int = Field(
        default=1 << 16,
        ge=0,
        description="Bytes from which an array, table or text leaves the document "
        "and becomes a blob.",
    )


class DBService(BlobStore):
    """A results database: documents in collections, and blobs by their SHA-256.

    Subclass it to keep results in another database, and run
    :class:`prefect_lume.testing.DBServiceContract` over the subclass.

    A document is a *tree*: dicts with string keys, lists, strings, numbers, booleans
    and None. Its ``_id`` is its unique hash, unique within its collection. Trees come
    back exactly as they were given, but for the order of keys. Queries, sort orders
    and projections arrive in stored form (see :mod:`prefect_lume.results.query`);
    a store that translates none of them can use ``matches``, ``extreme_key`` and
    ``project`` from there. All methods may be called by many threads at once, and
    after a fork; connections are the service's own business.

    Every method raises a :class:`~prefect_lume.errors.StorageError` when the database
    cannot be reached or refuses.
    """

    config: DBServiceConfig = DBServiceConfig()
    #: How long a blob may wait for its document: a blob stored less than this ago is
    #: not removed together with the last document that held it. Zero where the
    #: database itself keeps documents and blobs together.
    blob_lease: ClassVar[timedelta] = timedelta(hours=1)

    #: How many batches :meth:`insert_many` takes in side by side to advantage.
    writers: ClassVar[int] = 1

    def __init__(self, config: DBServiceConfig | None = None) -> None:
        """Keep the configuration.

        Args:
            config: None takes the defaults.
        """
        self.config = config or type(self).config

    @abstractmethod
    def prepare(self, docs: Iterable[type[DocumentBase]]) -> None:
        """Create or complete what documents of these types need.

        Called at least once before a document of a type is stored, perhaps by many
        processes at once: doing it again must change nothing. It creates the indices
        that the types declare, also for documents stored before.

        Args:
            docs: The document types.

        Raises:
            ConflictError: Stored documents contradict a new unique index.
            SchemaError: The database lacks its tables.
        """

    def compare_indices(self, docs: Iterable[type[DocumentBase]]) -> IndexChanges:
        """Return what :meth:`migrate_indices` would do.

        The default knows of no difference.

        Args:
            docs: The document types. Indices of others are left out.
        """
        del docs
        return IndexChanges()

    def migrate_indices(self, docs: Iterable[type[DocumentBase]]) -> IndexChanges:
        """Create what document types declare, and drop what else they have.

        :meth:`prepare` drops only what it replaces: another program may still declare
        the rest. The default does no more than that.

        Args:
            docs: The document types. Indices of others stay as they are.

        Returns:
            What was done; ``blocked`` are the unique indices that were not created,
            with the documents that stand in their way.
        """
        known = list(docs)
        changes = self.compare_indices(known)
        self.prepare(known)
        return changes

    def expiring_indices(self) -> Sequence[DeclaredIndex]:
        """Return the indices that say when documents expire; by default none."""
        return ()

    def delete_expired(self) -> int:
        """Remove the documents whose time is over and return how many they were.

        A server that does it by itself may do it later. Blobs stay.
        """
        total, now = 0, self.now()
        for index in self.expiring_indices():
            for collection in self.collections():
                total += self.delete(collection, index.expired(now))
        return total

    @abstractmethod
    def insert(self, collection: str, encoded: Encoded) -> bool:
        """Store a document, unless one of its key is there.

        The blobs are stored first, so that whoever sees the document can load it; those
        that are there already count as stored now (see :meth:`blobs_before`), also
        those that the document names without bringing them. When many insert one key
        at once, exactly one gets True.

        Args:
            collection: The project's name.
            encoded: The document's tree and its blobs.

        Returns:
            True if it was stored, False if its ``_id`` was there already: then the
            stored document has not changed.

        Raises:
            ConflictError: It violates a unique index other than its key.
            IntegrityError: It names a blob that it neither brings nor the database
                has; nothing was stored.
            InvalidInputError: The collection's name or a header field cannot be
                stored.
        """

    @abstractmethod
    def replace(self, collection: str, encoded: Encoded) -> None:
        """Store a document, in place of the one with its key if there is one.

        A reader sees the old document or the new one, nothing between.

        Args:
            collection: The project's name.
            encoded: The document's tree and its blobs.

        Raises:
            ConflictError: It violates a unique index other than its key.
            IntegrityError: As in :meth:`insert`.
            InvalidInputError: As in :meth:`insert`.
        """

    def insert_many(
        self, collection: str, encoded: Sequence[Encoded], *, replace: bool = False
    ) -> list[Outcome]:
        """Store several documents, each as :meth:`insert` or :meth:`replace` would.

        What is wrong with one of them does not keep the others from being stored.
        The default stores them one by one; a store overrides it to send them in few
        round trips. When it raises, some may have been stored: doing it again is safe.

        Args:
            collection: The project's name.
            encoded: The documents and their blobs.
            replace: Whether a document takes the place of the one with its key.

        Returns:
            For each document, in the same order: True if it was stored, False if its
            ``_id`` was there already and nothing changed, or the error that
            :meth:`insert` or :meth:`replace` would have raised for it.
        """
        outcomes: list[Outcome] = []
        for one in encoded:
            try:
                if replace:
                    self.replace(collection, one)
                outcomes.append(replace or self.insert(collection, one))
            except (ConflictError, InvalidInputError, IntegrityError) as error:
                outcomes.append(error)
        return outcomes

    @abstractmethod
    def get(self, collection: str, unique_hash: str) -> Tree:
        """Return the document of a key.

        Raises:
            NotFoundError: The collection has no such document.
        """

    @abstractmethod
    def find(
        self,
        collection: str,
        query: Query = None,
        sort: SortPairs = None,
        skip: int = 0,
        limit: int | None = None,
        projection: Sequence[str] | None = None,
    ) -> Iterator[Tree]:
        """Yield the documents that match a query, streaming.

        The memory it takes must not grow with the number of documents found. The
        collection may change while the caller iterates; documents stored or removed
        meanwhile may be seen or not, others are seen once.

        Args:
            collection: The project's name. One that has no documents yields none.
            query: In stored form; None matches every document.
            sort: Pairs of path and 1 or -1. None means by time. ``_id`` settles what
                is left open.
            skip: How many documents to leave out at the start.
            limit: The most documents to yield.
            projection: Paths to keep beside ``_id``. None keeps everything.

        Raises:
            QueryError: The query holds an operator outside the language.
        """

    def count(self, collection: str, query: Query = None) -> int:
        """Return how many documents match a query."""
        return sum(1 for _ in self.find(collection, query, projection=()))

    def distinct(self, collection: str, field: str, query: Query = None) -> list[Any]:
        """Return the distinct values of a field, in MongoDB's order.

        Args:
            collection: The project's name.
            field: A path in stored form. The elements of a list count each.
            query: Which documents to look at.
        """
        found: dict[tuple[Any, ...], Any] = {}
        for tree in self.find(collection, query, projection=[field]):
            for value in language.values(tree, field):
                found.setdefault(language.order_key(value), value)
        return [found[key] for key in sorted(found)]

    @abstractmethod
    def collections(self) -> list[str]:
        """Return the names of the collections that hold documents, sorted."""

    @abstractmethod
    def delete(self, collection: str, query: Query) -> int:
        """Remove the documents that match a query and return how many they were.

        Blobs stay: other documents may hold them. See :meth:`held_blobs` and
        :meth:`delete_unused_blobs`.
        """

    def held_blobs(self, collection: str, query: Query = None) -> Iterator[str]:
        """Yield the hashes of the blobs that matching documents hold.

        A hash may come more than once. The default reads the documents.

        Args:
            collection: The project's name.
            query: Which documents to look at; None means all.
        """
        for tree in self.find(collection, query, sort=[("_id", 1)]):
            yield from blobs_of(tree, self.get_blob)

    def unused_blobs(
        self, older_than: timedelta = timedelta(days=1), among: Iterable[str] = ()
    ) -> list[BlobInfo]:
        """Return the blobs that no document holds.

        The default reads every document.

        Args:
            older_than: Younger blobs are left out: their document may be about to be
                stored.
            among: Look at these blobs only. Empty means at all of them.
        """
        wanted = set(among)
        unused = {
            info.sha256: info
            for info in self.blobs_before(self.now() - older_than)
            if not wanted or info.sha256 in wanted
        }
        for collection in self.collections() if unused else ():
            for sha256 in self.held_blobs(collection):
                unused.pop(sha256, None)
        return [unused[sha256] for sha256 in sorted(unused)]

    def delete_unused_blobs(
        self, older_than: timedelta = timedelta(days=1), among: Iterable[str] = ()
    ) -> list[BlobInfo]:
        """Remove the blobs that no document holds, and return them.

        Args:
            older_than: Younger blobs stay: their document may be about to be stored.
                It must be longer than storing a result ever takes.
            among: Look at these blobs only. Empty means at all of them.
        """
        before = self.now() - older_than
        return [
            info
            for info in self.unused_blobs(older_than, among)
            if self.delete_blob(info.sha256, before)
        ]

    @property
    def where(self) -> str:
        """The database without any secret, for messages."""
        return type(self).__name__

    @abstractmethod
    def close(self) -> None:
        """Release what the service itself opened. It is not used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def missing(collection: str, unique_hash: str) -> NotFoundError:
    """Return the error of a key that a collection does not have."""
    return NotFoundError(
        "result", unique_hash, hint=f"(Looked in the project {collection!r}.)"
    )
