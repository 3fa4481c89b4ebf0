"""Store results, one or many, and remove them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from prefect_lume.errors import (
    ConflictError,
    EncodingError,
    InvalidInputError,
    LumeError,
    QueryError,
    clip,
)
from prefect_lume.results import query as language
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.documents import DocumentBase, Result, to_document
from prefect_lume.results.finder import Query, ResultsFinder, ResultType, with_type
from prefect_lume.results.references import ResultReference
from prefect_lume.results.stores.base import DBService, Outcome

OnDuplicate = Literal["return", "raise", "replace"]
Status = Literal["stored", "present", "replaced", "failed"]

#: A batch is written once the blobs in it take so many bytes.
_BATCH_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class StoreOutcome:
    """What became of one result of :meth:`ResultsWriter.store_many`.

    Attributes:
        status: ``"stored"``; ``"present"`` when it was there already and nothing
            changed; ``"replaced"`` when it was stored in place of the one that was
            there, if there was one; or ``"failed"``.
        reference: Finds the result again; None when it failed.
        error: Why it failed.
    """

    status: Status
    reference: ResultReference | None = None
    error: LumeError | None = None


@dataclass
class _Batch:
    """Documents of one project that are written together.

    Attributes:
        project: The project.
        places: Where in the whole each of them is.
        results: The results.
        encoded: Their stored forms.
        size: The bytes of their blobs.
    """

    project: str
    places: list[int] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)
    size: int = 0

    def add(self, place: int, result: Result, encoded: Encoded) -> None:
        self.places.append(place)
        self.results.append(result)
        self.encoded.append(encoded)
        self.size += sum(memoryview(b).nbytes for b in encoded.blobs.values())


class _Given:
    """Results that somebody yields, up to the end or an error of theirs.

    Attributes:
        error: What ended them early.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        self._results = results
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Result]:
        try:
            yield from self._results
        except Exception as error:  # noqa: BLE001 - raised when the rest is stored.
            self.error = error


class _Writing(NamedTuple):
    """A batch on its way to the database.

    Attributes:
        keys: The hashes of its results.
        future: Their outcomes.
    """

    keys: set[str]
    future: Future[dict[int, StoreOutcome]]


class ResultsWriter(ResultsFinder):
    """Stores results and removes them; the half of the service that writes."""

    def __init__(
        self,
        db_service: DBService,
        model_docs: object = None,
        *,
        blob_threshold: int | None = None,
    ) -> None:
        """Keep a results database; nothing is connected yet.

        Args:
            db_service: The results database.
            model_docs: Document types beside the registered ones: a mapping of names
                to classes, a subclass of ``ModelDocs``, or an enum of classes.
            blob_threshold: Bytes past which a value leaves its document. None takes
                the database's own.
        """
        super().__init__(db_service, model_docs)
        own = db_service.config.threshold
        self._threshold = own if blob_threshold is None else blob_threshold
        self._prepared: set[type[DocumentBase]] = set()
        self._lock = threading.Lock()

    def store(
        self, result: Result, on_duplicate: OnDuplicate = "return"
    ) -> ResultReference:
        """Store a result. Doing it twice is doing it once, unless you say otherwise.

        Large values are written before the document that refers to them: whoever can
        see the result can load all of it, and a failure leaves nothing to be seen.

        Args:
            result: What is stored; its ``project_name`` names the collection.
            on_duplicate: What to do when a result of the same ``unique_hash`` is
                there: ``"return"`` the reference to it and change nothing,
                ``"raise"``, or ``"replace"`` it.

        Returns:
            The reference that finds the result again.

        Raises:
            ConflictError: It is there and ``on_duplicate`` is ``"raise"``, or it
                violates a unique index of its type.
            EncodingError: It holds a value that cannot be stored. Nothing was written.
            InvalidInputError: It is no result, or ``on_duplicate`` or the project's
                name is not allowed.
        """
        check_on_duplicate(on_duplicate)
        encoded = self._encode(result)
        self._prepare(type(result))
        project = result.project_name
        if on_duplicate == "replace":
            self.db_service.replace(project, encoded)
        elif not self.db_service.insert(project, encoded) and on_duplicate == "raise":
            raise _duplicate(result)
        return result.reference()

    def store_many(
        self,
        results: Iterable[Result],
        on_duplicate: OnDuplicate = "return",
        *,
        batch_size: int = 250,
        progress: Callable[[int], None] | None = None,
    ) -> list[StoreOutcome]:
        """Store many results, in few round trips to the database.

        Each is stored as :meth:`store` would; what is wrong with one of them is its
        own outcome and keeps no other from being stored. While batches are being
        written the next one is encoded.

        Args:
            results: What is stored. It may be a generator: no more than three batches
                are in memory at a time.
            on_duplicate: As in :meth:`store`, for each result on its own.
            batch_size: The most results of one batch. Large arrays make it smaller.
            progress: Called with the number of results that were written, after
                each batch.

        Returns:
            An outcome for each result, in the same order.

        Raises:
            InvalidInputError: ``on_duplicate`` or ``batch_size`` is not allowed.
            StorageError: The database failed. Batches before were stored; doing it
                all again is safe.
            Exception: What ``results`` raised while it was asked for the next one. All
                that came before are stored, or say in a note why they are not.

        Example:
            >>> from prefect_lume.results.stores import SQLDBService
            >>> from prefect_lume.storage.sql import get_engine
            >>> store = SQLDBService(get_engine("sqlite://"))
            >>> store.create_tables()
            >>> scan = [Result(project_name="scan", inputs={"k": k}) for k in range(3)]
            >>> [o.status for o in ResultsWriter(store).store_many(scan)]
            ['stored', 'stored', 'stored']
        """
        check_on_duplicate(on_duplicate)
        if batch_size < 1:
            raise InvalidInputError(f"batch_size is 1 or more, not {batch_size}.")
        outcomes: dict[int, StoreOutcome] = {}
        given = _Given(results)
        with ThreadPoolExecutor(self.db_service.writers, "prefect-lume-store") as pool:
            writing: deque[_Writing] = deque()
            for batch in self._batches(given, batch_size, outcomes):
                keys = {encoded.tree["_id"] for encoded in batch.encoded}
                # Which of two results of one key comes first is not left to chance.
                while len(writing) >= self.db_service.writers or any(
                    not keys.isdisjoint(other.keys) for other in writing
                ):
                    _collect(writing.popleft(), outcomes, progress)
                future = pool.submit(self._write, batch, on_duplicate)
                writing.append(_Writing(keys, future))
            while writing:
                _collect(writing.popleft(), outcomes, progress)
        if given.error is not None:
            failed = sum(outcome.status == "failed" for outcome in outcomes.values())
            given.error.add_note(
                f"It came after {len(outcomes)} results, of which "
                f"{len(outcomes) - failed} are stored."
            )
            raise given.error
        return [outcomes[place] for place in range(len(outcomes))]

    def _batches(
        self,
        results: Iterable[Result],
        batch_size: int,
        outcomes: dict[int, StoreOutcome],
    ) -> Iterator[_Batch]:
        open_batches: dict[str, _Batch] = {}
        for place, result in enumerate(results):
            try:
                encoded = self._encode(result)
            except (EncodingError, InvalidInputError) as error:
                outcomes[place] = StoreOutcome("failed", error=error)
                continue
            self._prepare(type(result))
            project = result.project_name
            batch = open_batches.setdefault(project, _Batch(project))
            batch.add(place, result, encoded)
            if len(batch.places) == batch_size or batch.size >= _BATCH_BYTES:
                yield open_batches.pop(project)
        yield from open_batches.values()

    def _encode(self, result: object) -> Encoded:
        if not isinstance(result, Result):
            raise InvalidInputError(
                f"What is stored is a Result, or of a class derived from it, not "
                f"{clip(repr(result), 80)}."
            )
        return to_document(result, self._threshold)

    def _write(
        self, batch: _Batch, on_duplicate: OnDuplicate
    ) -> dict[int, StoreOutcome]:
        written = self.db_service.insert_many(
            batch.project, batch.encoded, replace=on_duplicate == "replace"
        )
        return {
            place: _outcome(result, outcome, on_duplicate)
            for place, result, outcome in zip(
                batch.places, batch.results, written, strict=True
            )
        }

    def _prepare(self, document: type[DocumentBase]) -> None:
        if document in self._prepared:
            return
        known = set(self.model_docs.values()) | {document}
        with self._lock:
            new = known - self._prepared
        if new:
            self.db_service.prepare(new)
            with self._lock:
                self._prepared |= new

    def delete(
        self,
        project_name: str,
        query: Query,
        *,
        result_type: ResultType | None = None,
    ) -> int:
        """Remove the results that match a query, and return how many they were.

        Blobs that no other result holds go with them. Where the database itself does
        not keep documents and blobs together (MongoDB), blobs stored within the last
        hour stay until they are pruned: another result may be about to hold them.

        Args:
            project_name: The project.
            query: As in :meth:`find`. ``{}`` removes all of the project's results;
                None is refused, so that nothing is removed by oversight.
            result_type: Only results of this type.

        Raises:
            QueryError: The query is None or outside the language.
        """
        if query is None:
            raise QueryError("delete() needs a query; {} stands for every result.")
        prepared = with_type(language.prepare(query), result_type)
        held = set(self.db_service.held_blobs(project_name, prepared))
        removed = self.db_service.delete(project_name, prepared)
        if held:
            self.db_service.delete_unused_blobs(self.db_service.blob_lease, held)
        return removed

    def close(self) -> None:
        """Release what the results database holds open."""
        self.db_service.close()


def check_on_duplicate(on_duplicate: str) -> None:
    """Refuse what is none of the three ways to deal with a duplicate.

    Raises:
        InvalidInputError: It is another word.
    """
    if on_duplicate not in {"return", "raise", "replace"}:
        raise InvalidInputError(
            f"on_duplicate is 'return', 'raise' or 'replace', not "
            f"{clip(repr(on_duplicate), 60)}."
        )


def _duplicate(result: Result) -> ConflictError:
    return ConflictError(
        f"The project {result.project_name!r} has a {result.type_name} result with the "
        f"same {', '.join(result.unique_on)} already: {result.unique_hash}. "
        f"Pass on_duplicate='return' to use it or 'replace' to replace it."
    )


def _outcome(
    result: Result, outcome: Outcome, on_duplicate: OnDuplicate
) -> StoreOutcome:
    if isinstance(outcome, LumeError):
        return StoreOutcome("failed", error=outcome)
    if outcome:
        status: Status = "replaced" if on_duplicate == "replace" else "stored"
        return StoreOutcome(status, result.reference())
    if on_duplicate == "raise":
        return StoreOutcome("failed", error=_duplicate(result))
    return StoreOutcome("present", result.reference())


def _collect(
    writing: _Writing,
    outcomes: dict[int, StoreOutcome],
    progress: Callable[[int], None] | None,
) -> None:
    written = writing.future.result()
    outcomes.update(written)
    if progress is not None:
        progress(len(written))
