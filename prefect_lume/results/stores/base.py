"""The interface of a results database, and what every store does alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.errors import IntegrityError, NotFoundError
from prefect_lume.results import query as language
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


class DBService(ABC):
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

    @abstractmethod
    def insert(self, collection: str, encoded: Encoded) -> bool:
        """Store a document, unless one of its key is there.

        The blobs are stored first, so that whoever sees the document can load it.
        When many insert one key at once, exactly one gets True.

        Args:
            collection: The project's name.
            encoded: The document's tree and its blobs.

        Returns:
            True if it was stored, False if its ``_id`` was there already: then the
            stored document has not changed.

        Raises:
            ConflictError: It violates a unique index other than its key.
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
            InvalidInputError: As in :meth:`insert`.
        """

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

        Blobs stay: other documents may hold them. See :meth:`delete_unused_blobs`.
        """

    @abstractmethod
    def put_blob(self, sha256: str, data: bytes | memoryview) -> None:
        """Store a blob, unless it is there. A reader never sees a part of it.

        Args:
            sha256: The SHA-256 of the data.
            data: The content.

        Raises:
            IntegrityError: The data has another hash.
        """

    @abstractmethod
    def read_blob(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's content piece by piece, not verified.

        Raises:
            NotFoundError: There is no such blob.
        """

    def get_blob(self, sha256: str) -> bytes:
        """Return a blob's content, verified against its hash.

        Raises:
            NotFoundError: There is no such blob.
            IntegrityError: What is stored is not what the hash says.
        """
        data = b"".join(self.read_blob(sha256))
        if sha256_bytes(data) != sha256:
            raise IntegrityError(
                f"The stored blob {sha256[:12]}… is damaged: {len(data)} bytes that do "
                f"not have its hash. Restore it from a backup, or run the model again.",
                self.where,
            )
        return data

    def blobs_before(self, moment: datetime) -> list[str]:
        """Return the hashes of the blobs that were last stored before a moment.

        The default returns none, so that nothing is ever cleaned up.
        """
        del moment
        return []

    def delete_blob(self, sha256: str, before: datetime) -> bool:
        """Remove a blob, unless it was stored again since a moment.

        Returns:
            Whether it was removed.
        """
        del sha256, before
        return False

    def delete_unused_blobs(self, older_than: timedelta = timedelta(days=1)) -> int:
        """Remove the blobs that no document holds, and return how many they were.

        Args:
            older_than: Younger blobs stay: their document may be about to be stored.
                It must be longer than storing a result ever takes.
        """
        before = datetime.now(UTC) - older_than
        unused = set(self.blobs_before(before))
        for collection in self.collections() if unused else ():
            for tree in self.find(collection, sort=[("_id", 1)]):
                unused.difference_update(blobs_of(tree, self.get_blob))
        return sum(self.delete_blob(sha256, before) for sha256 in sorted(unused))

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


def verified(sha256: str, data: bytes | memoryview) -> None:
    """Check data that is about to be stored under a hash.

    Raises:
        IntegrityError: The data has another hash.
    """
    if sha256_bytes(data) != sha256:
        raise IntegrityError(f"The data given as blob {sha256[:12]}… has another hash.")
