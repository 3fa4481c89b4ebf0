"""Write documents into a results database: blobs first, then batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prefect_lume.errors import ConflictError, LumeError, clip
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.model_docs import resolve_model_docs
from prefect_lume.results.stores.base import DBService, Tree
from prefect_lume.results.stores.blobs import BlobInfo
from prefect_lume.results.transfer.reports import Tally
from prefect_lume.results.writer import OnDuplicate

#: A batch is written when it has so many documents, or took so many bytes of blobs: the
#: blobs must not wait long for the documents that hold them.
_BATCH: Final = 1000
_BATCH_BYTES: Final = 64 << 20
_MOST_SHOWN: Final = 5

ReadBlob = Callable[[str], Iterator[bytes]]


class Writer:
    """Writes the documents of one collection after the other.

    A document that the target refuses keeps no other from being stored;
    :meth:`finish` raises in the end.

    Args:
        target: The results database.
        read_blob: Yields the content of a blob of the source. It is verified here.
        on_duplicate: What to do with a document whose key is there already.
        tally: Counts.
    """

    def __init__(
        self,
        target: DBService,
        read_blob: ReadBlob,
        on_duplicate: OnDuplicate,
        tally: Tally,
    ) -> None:
        self._target = target
        self._read_blob = read_blob
        self._on_duplicate = on_duplicate
        self._tally = tally
        self._collection = ""
        self._batch: list[Encoded] = []
        self._blobs: set[str] = set()
        self._waiting = 0
        self._refused: list[tuple[str, str, LumeError]] = []
        self._more_refused = 0

    def prepare(self, model_docs: object = None) -> None:
        """Create the indices of the document types that are known here."""
        self._target.prepare(set(resolve_model_docs(model_docs).values()))

    def blob(self, info: BlobInfo) -> None:
        """Write a blob, unless it is in the target. Its document comes next."""
        if info.sha256 in self._blobs:
            return
        began = False

        def pieces() -> Iterator[bytes]:
            nonlocal began
            began = True
            for piece in self._read_blob(info.sha256):
                yield piece
                self._tally.moved(len(piece))

        # One that is there is not read, but counts as stored now: no clean-up takes it.
        self._target.write_blob(info.sha256, info.size, pieces())
        self._blobs.add(info.sha256)
        if began:
            self._waiting += info.size
            self._tally.blob(info.size)

    def begin(self, collection: str) -> None:
        """Write what is left of the collection before, and turn to another."""
        self._flush()
        self._collection = collection

    def document(self, tree: Tree, size: int) -> None:
        """Write a document whose blobs were written.

        Args:
            tree: The document.
            size: How many bytes it takes as text.
        """
        self._batch.append(Encoded(tree, {}))
        self._waiting += size
        self._tally.document(self._collection, size)
        if len(self._batch) >= _BATCH or self._waiting >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        self._blobs, self._waiting = set(), 0
        if not batch:
            return
        outcomes = self._target.insert_many(
            self._collection, batch, replace=self._on_duplicate == "replace"
        )
        for one, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, LumeError):
                self._refuse(one.tree, outcome)
            elif outcome:
                self._tally.stored += 1
            elif self._on_duplicate == "raise":
                raise duplicate(self._collection, [one.tree["_id"]])
            else:
                self._tally.present += 1
        self._tally.tell()

    def _refuse(self, tree: Tree, error: LumeError) -> None:
        if len(self._refused) < _MOST_SHOWN:
            self._refused.append((self._collection, tree["_id"], error))
        else:
            self._more_refused += 1

    def finish(self) -> None:
        """Write what is left.

        Raises:
            ConflictError: The target refused documents. All others were stored.
        """
        self._flush()
        if not self._refused:
            return
        count = len(self._refused) + self._more_refused
        lines = [
            f"{key} of the project {project!r}: {clip(error)}"
            for project, key, error in self._refused
        ]
        if self._more_refused:
            lines.append(f"and {self._more_refused} more")
        head = (
            f"{self._target.where} refused {count} of {self._tally.documents} "
            f"documents; the others are stored. Settle these and do it again:"
        )
        raise ConflictError("\n  - ".join([head, *lines]))


def present(target: DBService, collection: str, keys: list[str]) -> list[str]:
    """Return those of some keys that a collection has documents of, sorted."""
    found = target.find(
        collection, {"_id": {"$in": keys}}, sort=[("_id", 1)], projection=()
    )
    return [tree["_id"] for tree in found]


def duplicate(collection: str, keys: Iterable[str]) -> ConflictError:
    """Return the error that documents are in the target already."""
    some = list(keys)
    return ConflictError(
        f"The project {collection!r} of the target has {some[0]}"
        f"{f' and {len(some) - 1} more' if len(some) > 1 else ''} already. Pass "
        f"on_duplicate='return' to keep what is there or 'replace' to replace it."
    )
