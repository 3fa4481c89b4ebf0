"""Read documents out of a results database: in pages, with the blobs they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from prefect_lume.errors import IntegrityError, NotFoundError, clip
from prefect_lume.results import query as language
from prefect_lume.results.finder import ResultType, with_type
from prefect_lume.results.stores.base import DBService, Query, Tree
from prefect_lume.results.stores.trees import to_json

#: Documents that are asked for at once. A server forgets a cursor that rests for long,
#: and a document's blobs may take minutes.
PAGE: Final = 500
#: Characters of documents after which a page ends early.
PAGE_TEXT: Final = 4 << 20


def chosen_projects(service: DBService, projects: Iterable[str] | None) -> list[str]:
    """Return the projects to work on, sorted.

    Args:
        service: The results database.
        projects: Their names; None means every project that has results.

    Raises:
        NotFoundError: One of them has no results; the message names those that have.
    """
    known = service.collections()
    if projects is None:
        return known
    wanted = sorted({projects} if isinstance(projects, str) else set(projects))
    for name in wanted:
        if name not in known:
            raise NotFoundError("project with results named", name, known)
    return wanted


def stored_query(query: Query, result_type: ResultType | None) -> dict[str, Any]:
    """Return a user's query in stored form, for one document type unless None.

    Raises:
        QueryError: It is outside the language.
    """
    return with_type(language.prepare(query), result_type)


class Document(NamedTuple):
    """A document that was read.

    Attributes:
        tree: The document.
        text: The same as JSON, always in the same form.
    """

    tree: Tree
    text: str


def pages(
    service: DBService,
    collection: str,
    query: Mapping[str, Any],
    projection: list[str] | None = None,
) -> Iterator[list[Document]]:
    """Yield the documents that match a query by their key, a page at a time.

    Args:
        service: The results database.
        collection: The project's name.
        query: In stored form.
        projection: Paths to keep beside ``_id``; None keeps everything.
    """
    last, more = "", True
    while more:
        beyond = {"_id": {"$gt": last}} if last else {}
        clauses = [clause for clause in (query, beyond) if clause]
        page: list[Document] = []
        size = 0
        for tree in service.find(
            collection,
            {"$and": clauses} if clauses else None,
            sort=[("_id", 1)],
            limit=PAGE,
            projection=projection,
        ):
            text = to_json(tree)
            page.append(Document(tree, text))
            size += len(text)
            if size >= PAGE_TEXT:
                break
        if page:
            last = page[-1].tree["_id"]
            yield page
        more = len(page) == PAGE or size >= PAGE_TEXT


def changed(
    service: DBService, collection: str, document: Document, lacking: str
) -> Document | None:
    """Return a document as it is by now, or None if it is gone.

    Args:
        service: The results database.
        collection: The project's name.
        document: The document as it was read.
        lacking: The hash of a blob of it that was not found.

    Raises:
        IntegrityError: It has not changed: its blob is missing.
    """
    key = document.tree["_id"]
    try:
        tree = service.get(collection, key)
    except NotFoundError:
        return None
    text = to_json(tree)
    if text != document.text:
        return Document(tree, text)
    raise IntegrityError(
        f"The result {key} of the project {clip(repr(collection), 80)} refers to the "
        f"blob {lacking}, which is not in the database. Restore it from a backup, or "
        f"delete the result and run the model again.",
        service.where,
    )
