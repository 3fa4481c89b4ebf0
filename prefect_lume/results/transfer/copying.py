"""Copy results from one results database to another, of any two kinds."""

from __future__ import annotations

from collections.abc import Iterable

from prefect_lume.errors import InvalidInputError, NotFoundError
from prefect_lume.results.finder import ResultType
from prefect_lume.results.stored import verify_document
from prefect_lume.results.stores.base import DBService, Query
from prefect_lume.results.stores.trees import blob_infos
from prefect_lume.results.transfer.reading import (
    Document,
    changed,
    chosen_projects,
    pages,
    stored_query,
)
from prefect_lume.results.transfer.reports import Progress, Tally, TransferReport
from prefect_lume.results.transfer.writing import (
    Writer,
    duplicate,
    present,
)
from prefect_lume.results.writer import OnDuplicate, check_on_duplicate


def copy_results(
    source: DBService,
    target: DBService,
    projects: Iterable[str] | None = None,
    query: Query = None,
    result_type: ResultType | None = None,
    on_duplicate: OnDuplicate = "return",
    *,
    model_docs: object = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Copy results, with their blobs, from one results database to another.

    Documents are copied as they are stored, without decoding them; each is verified
    first. Blobs are streamed, and go before the documents that hold them; those that
    the target has are not read. A copy that was interrupted can be run again, and one
    that is run again later copies what is new.

    Args:
        source: Where the results are.
        target: Where they go.
        projects: Only these; None means all.
        query: Only results that match, in the language of ``find``.
        result_type: Only results of this type.
        on_duplicate: What to do with a result that is there already: ``"return"``
            keeps it, ``"raise"`` copies nothing at all, ``"replace"`` replaces it.
        model_docs: Document types whose indices the target gets, beside the registered
            ones; as in ``ResultsService``.
        dry_run: Only say what would be copied. Blobs are not counted then.
        progress: Called with documents done, documents in all, and bytes done.

    Returns:
        What was copied.

    Raises:
        NotFoundError: A project has no results in the source.
        QueryError: The query is outside the language.
        IntegrityError: A document or blob of the source is damaged.
        ConflictError: A result is there already and ``on_duplicate`` is ``"raise"``,
            or some violate a unique index: all others were copied then.
        StorageError: One of the databases failed.
    """
    check_on_duplicate(on_duplicate)
    if source is target:
        raise InvalidInputError("The source and the target are one results database.")
    prepared = stored_query(query, result_type)
    chosen = chosen_projects(source, projects)
    total = sum(source.count(name, prepared) for name in chosen)
    if dry_run or on_duplicate == "raise":
        outlook = Tally(progress if dry_run else None, total)
        for name in chosen:
            _compare(source, target, name, prepared, on_duplicate, outlook)
        if dry_run:
            return outlook.report()
    tally = Tally(progress, total)
    writer = Writer(target, source.read_blob, on_duplicate, tally)
    if total:
        writer.prepare(model_docs)
    for name in chosen:
        writer.begin(name)
        for page in pages(source, name, prepared):
            for document in page:
                _copy(source, writer, name, document)
    writer.finish()
    tally.tell()
    return tally.report()


def _copy(source: DBService, writer: Writer, name: str, document: Document) -> None:
    current: Document | None = document
    while current is not None:
        verify_document(current.tree)
        try:
            for info in blob_infos(current.tree, source.get_blob):
                writer.blob(info)
        except NotFoundError as error:
            # It was replaced or removed since it was read, or is damaged.
            current = changed(source, name, current, str(error.name))
        else:
            writer.document(current.tree, len(current.text))
            return


def _compare(
    source: DBService,
    target: DBService,
    name: str,
    query: dict[str, object],
    on_duplicate: OnDuplicate,
    tally: Tally,
) -> None:
    """Count what the target has and what it lacks; raise if it must lack all."""
    for page in pages(source, name, query, projection=[]):
        there = present(target, name, [document.tree["_id"] for document in page])
        if there and on_duplicate == "raise":
            raise duplicate(name, there)
        kept = len(there) if on_duplicate == "return" else 0
        for document in page:
            tally.document(name, len(document.text))
        tally.present += kept
        tally.stored += len(page) - kept
        tally.tell()
