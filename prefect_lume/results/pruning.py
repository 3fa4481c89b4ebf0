"""Remove old results and what nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from prefect_lume.errors import InvalidInputError
from prefect_lume.results.finder import ResultType
from prefect_lume.results.query.operands import time_text
from prefect_lume.results.service import ResultsService
from prefect_lume.results.stores.base import DBService, Query
from prefect_lume.results.stores.blobs import BlobInfo
from prefect_lume.results.transfer.reading import (
    chosen_projects,
    pages,
    stored_query,
)

#: Nothing is older than a hundred years.
_LONGEST: Final = timedelta(days=36_525)


@dataclass(frozen=True)
class PrunedType:
    """What pruning did to the results of one type in one project.

    Attributes:
        project: The project.
        result_type: The document type.
        removed: How many results went, or would go.
        kept: How many stay.
    """

    project: str
    result_type: str
    removed: int
    kept: int


@dataclass(frozen=True)
class PruneReport:
    """What :func:`prune_results` removed, or would remove.

    Attributes:
        types: A row for each project and document type that was looked at.
        expired: Results whose time was up by an index that says so, of all projects.
        blobs: Blobs that no result holds (any more) and that are old enough to go.
        blob_bytes: Their size together.
        dry_run: Whether nothing was changed.
    """

    types: tuple[PrunedType, ...]
    expired: int
    blobs: int
    blob_bytes: int
    dry_run: bool

    @property
    def documents(self) -> int:
        """How many results went, or would go, because of their age or number."""
        return sum(row.removed for row in self.types)

    @property
    def projects(self) -> dict[str, int]:
        """Project → results that went, or would go."""
        found: dict[str, int] = {}
        for row in self.types:
            found[row.project] = found.get(row.project, 0) + row.removed
        return found


def prune_results(
    service: ResultsService,
    *,
    projects: Iterable[str] | None = None,
    older_than: timedelta | None = None,
    keep_last: int | None = None,
    result_type: ResultType | None = None,
    query: Query = None,
    dry_run: bool = False,
    blobs_older_than: timedelta = timedelta(days=1),
    progress: Callable[[int], None] | None = None,
) -> PruneReport:
    """Remove old results, results whose time is up, and blobs that none holds.

    A result goes if it is older than ``older_than`` *and* not among the ``keep_last``
    newest of its project and type; whichever is None does not count. With neither, only
    expired results and unused blobs go. What is stored or replaced meanwhile stays.

    Args:
        service: Where the results are.
        projects: Only results of these; None means all. Expired results and unused
            blobs are those of the whole database in any case.
        older_than: Results whose ``date_modified`` is older may go.
        keep_last: So many of the newest stay, of each project and type, counted among
            those that ``query`` selects.
        result_type: Only results of this type.
        query: Only results that match, in the language of ``find``.
        dry_run: Change nothing; say what would go.
        blobs_older_than: Younger blobs stay: their document may be about to be stored.
        progress: Called with the results that were removed, batch by batch.

    Returns:
        What went, or would go, and what stays.

    Raises:
        InvalidInputError: A number or time is out of range, or a query was given and
            nothing that says how many of what it finds may go.
        NotFoundError: A project has no results.
        QueryError: The query is outside the language.
    """
    _check(older_than, keep_last, blobs_older_than, restricted=bool(query))
    store = service.db_service
    prepared = stored_query(query, result_type)
    cutoff = None if older_than is None else store.now() - older_than
    chosen = chosen_projects(store, projects)
    doomed = list(_doomed(store, chosen, prepared, cutoff, keep_last))
    if dry_run:
        rows = [_outlook(store, item) for item in doomed]
        gone = _gone(store, doomed)
        expired = sum(store.count(name, part.expired) for name, part in gone.items())
        blobs = _unused_then(store, gone, blobs_older_than)
    else:
        rows = [_remove(store, item, progress) for item in doomed]
        expired = store.delete_expired()
        blobs = store.delete_unused_blobs(blobs_older_than)
    return PruneReport(
        types=tuple(rows),
        expired=expired,
        blobs=len(blobs),
        blob_bytes=sum(blob.size for blob in blobs),
        dry_run=dry_run,
    )


def _check(
    older_than: timedelta | None,
    keep_last: int | None,
    blobs_older_than: timedelta,
    *,
    restricted: bool,
) -> None:
    for name, period in (
        ("older_than", older_than),
        ("blobs_older_than", blobs_older_than),
    ):
        if period is None:
            continue
        given: object = period
        if not isinstance(given, timedelta) or not timedelta(0) <= given <= _LONGEST:
            raise InvalidInputError(
                f"{name} is a timedelta from 0 to {_LONGEST.days} days, not {given!r}."
            )
    if keep_last is not None and keep_last < 1:
        raise InvalidInputError(
            f"keep_last is 1 or more, not {keep_last}. To remove all results use "
            f"delete()."
        )
    if restricted and older_than is None and keep_last is None:
        raise InvalidInputError(
            "A query says among what to choose: say older_than, keep_last or both. To "
            "remove all that it finds use delete()."
        )


@dataclass(frozen=True)
class _Doomed:
    """Results of one project and type, and the condition under which they go.

    Attributes:
        project: The project.
        result_type: The document type.
        selected: The query that selects the results to choose from.
        query: The one that selects those that go; None if none does.
    """

    project: str
    result_type: str
    selected: dict[str, Any]
    query: dict[str, Any] | None


def _doomed(
    store: DBService,
    projects: Iterable[str],
    query: Mapping[str, Any],
    cutoff: datetime | None,
    keep_last: int | None,
) -> Iterator[_Doomed]:
    if cutoff is None and keep_last is None:
        return
    for project in projects:
        for name in store.distinct(project, "result_type", query or None):
            selected = _all({"result_type": {"$eq": name}}, query)
            clauses: list[Mapping[str, Any] | None] = [selected]
            if cutoff is not None:
                clauses.append({"date_modified": {"$lt": time_text(cutoff)}})
            if keep_last is not None:
                clauses.append(_before_newest(store, project, selected, keep_last))
            kept = None in clauses
            found = None if kept else _all(*(clause or {} for clause in clauses))
            yield _Doomed(project, name, selected, found)


def _all(*clauses: Mapping[str, Any]) -> dict[str, Any]:
    return {"$and": [dict(clause) for clause in clauses if clause]}


def _before_newest(
    store: DBService, project: str, query: dict[str, Any], keep_last: int
) -> dict[str, Any] | None:
    """Return the condition of all but the newest; None if there are no others.

    What is stored from now on is newer, and what is replaced becomes newer: neither
    meets the condition.
    """
    newest = store.find(
        project,
        query,
        sort=[("date_modified", -1), ("_id", -1)],
        skip=keep_last - 1,
        limit=1,
        projection=["date_modified"],
    )
    for last in newest:
        time = last["date_modified"]
        return {
            "$or": [
                {"date_modified": {"$lt": time}},
                {"date_modified": {"$eq": time}, "_id": {"$lt": last["_id"]}},
            ]
        }
    return None


def _outlook(store: DBService, item: _Doomed) -> PrunedType:
    count = store.count(item.project, item.selected)
    gone = 0 if item.query is None else store.count(item.project, item.query)
    return PrunedType(item.project, item.result_type, gone, count - gone)


def _remove(
    store: DBService, item: _Doomed, progress: Callable[[int], None] | None
) -> PrunedType:
    gone = 0
    if item.query is not None:
        for page in pages(store, item.project, item.query, projection=[]):
            keys = [document.tree["_id"] for document in page]
            # Again with the condition: one may have been replaced since it was found.
            again = _all({"_id": {"$in": keys}}, item.query)
            removed = store.delete(item.project, again)
            gone += removed
            if progress is not None:
                progress(removed)
    kept = store.count(item.project, item.selected)
    return PrunedType(item.project, item.result_type, gone, kept)


@dataclass(frozen=True)
class _Gone:
    """What a dry run would remove from one project.

    Attributes:
        expired: The query of what goes only because its time is up.
        all: The query of everything that goes.
    """

    expired: dict[str, Any]
    all: dict[str, Any]


#: Matches nothing: every document has a key.
_NONE: Final[Mapping[str, Any]] = {"_id": {"$exists": False}}


def _gone(store: DBService, doomed: Iterable[_Doomed]) -> dict[str, _Gone]:
    now = store.now()
    expired = [index.expired(now) for index in store.expiring_indices()]
    by_project: dict[str, list[dict[str, Any]]] = {}
    for item in doomed:
        if item.query is not None:
            by_project.setdefault(item.project, []).append(item.query)
    found = {}
    for project in store.collections():
        queries = by_project.get(project, [])
        if not expired and not queries:
            continue
        only = {"$or": expired} if expired else dict(_NONE)
        if expired and queries:
            only = {"$and": [only, {"$nor": queries}]}
        found[project] = _Gone(only, {"$or": [*queries, *expired]})
    return found


def _unused_then(
    store: DBService, gone: Mapping[str, _Gone], older_than: timedelta
) -> list[BlobInfo]:
    """Return the blobs that no result would hold without those that go."""
    unused = {info.sha256: info for info in store.unused_blobs(older_than)}
    freed = {
        sha256
        for project, part in gone.items()
        for sha256 in store.held_blobs(project, part.all)
    }
    for project in store.collections() if freed else ():
        stay = {"$nor": [gone[project].all]} if project in gone else None
        freed.difference_update(store.held_blobs(project, stay))
    old = store.blobs_before(store.now() - older_than) if freed else []
    unused |= {info.sha256: info for info in old if info.sha256 in freed}
    return list(unused.values())
