"""One attempt at a unit of work on a storage in MongoDB.

It collects what is to be written, and reads as if that had been written already. What
it read once it does not read again: if anybody changes it meanwhile, the attempt fails
as a whole (see ``turns``).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.mongo.below import NotWritten, add, summarise_stored
from prefect_lume.pipelines.mongo.documents import (
    VERSION,
    Document,
    change_to_document,
    document_to_change,
    document_to_row,
    row_to_document,
)
from prefect_lume.pipelines.mongo.indices import STATES, Documents, documents
from prefect_lume.pipelines.mongo.journal import Entry
from prefect_lume.pipelines.mongo.turns import Unit
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.rules import NOTHING_BELOW, Below, summarise
from prefect_lume.pipelines.session import PipelineSession
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.storage.mongo import repeated

_OPEN: Final = [PipelineTaskStatus.PENDING.value, PipelineTaskStatus.RUNNING.value]
#: How many ids are asked for in one request.
_TOGETHER: Final = 5000


class MongoSession(PipelineSession):
    """A session which keeps everything to itself until it is committed."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        # What is known of each id: its row, or that it has none.
        self._rows: dict[Kind, dict[str, Row | None]] = {kind: {} for kind in Kind}
        self._stored: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        self._written: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        self._below: dict[str, set[str]] = {}
        self._known: dict[str, list[StateChange]] = {}
        self._added: dict[str, StateChange] = {}
        self._added_to: dict[str, list[StateChange]] = {}

    def _collection(self, name: str) -> Documents:
        return documents(self._unit.database, name)

    def _find(self, name: str, query: Document, *fields: str) -> list[Document]:
        collection = self._collection(name)
        return repeated(lambda: list(collection.find(query, list(fields) or None)))

    def lock(self, run_ids: Sequence[str]) -> None:
        """Keep other sessions from changing these runs until this one ends."""
        self._unit.lock(run_ids)

    # Rows -------------------------------------------------------------------------

    def get(self, kind: Kind, ids: Collection[str]) -> dict[str, Row]:
        """Return the rows of these ids by id."""
        if kind is Kind.EXECUTION:
            self.lock(list(ids))
        known = self._rows[kind]
        for some in _together({id_ for id_ in ids if id_ not in known}):
            known.update(dict.fromkeys(some))
            for document in self._find(kind, {"_id": {"$in": some}}):
                self._take(kind, document)
        return {id_: copy.copy(row) for id_ in ids if (row := known[id_]) is not None}

    def _take(self, kind: Kind, document: Document) -> Row:
        """Return what is known of a stored row, which may be what is to be written."""
        known = self._rows[kind].get(document["_id"])
        self._stored[kind].add(document["_id"])
        if known is None:
            known = document_to_row(kind, document)
            self._rows[kind][known.id] = known
        return known

    def put(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Store rows as they are."""
        self.lock([row.run_id for row in rows])
        self.get(kind, [row.id for row in rows])
        for row in rows:
            self._rows[kind][row.id] = copy.copy(row)
            self._written[kind].add(row.id)
            if row.parent_id:
                self._below.setdefault(row.parent_id, set()).add(row.id)

    def get_below(self, kind: Kind, parent_id: str) -> list[Row]:
        """Return all rows of a kind directly below one object."""
        return self.get_all_below(kind, [parent_id])

    def get_all_below(self, kind: Kind, parent_ids: Collection[str]) -> list[Row]:
        """Return all rows of a kind directly below any of these objects."""
        found: dict[str, Row] = {}
        for some in _together(parent_ids):
            for document in self._find(kind, {"parent_id": {"$in": some}}):
                row = self._take(kind, document)
                if row.parent_id in parent_ids:
                    found[row.id] = row
        for id_ in parent_ids:
            found.update((row.id, row) for row in self._written_below(kind, id_))
        return [copy.copy(row) for row in found.values()]

    def _written_below(self, kind: Kind, parent_id: str) -> Iterator[Row]:
        for id_ in self._below.get(parent_id, ()):
            row = self._rows[kind].get(id_)
            if row is not None and row.parent_id == parent_id:
                yield row

    def get_open(self, run_id: str) -> dict[Kind, list[Row]]:
        """Return the rows of a run without a final status."""
        query = {"run_id": run_id, "status": {"$in": _OPEN}}
        found: dict[Kind, list[Row]] = {}
        for kind in tuple(Kind)[1:]:
            rows = [self._take(kind, document) for document in self._find(kind, query)]
            rows += [
                row for id_ in self._written[kind] if (row := self._rows[kind][id_])
            ]
            unique = {row.id: row for row in rows if row.run_id == run_id}
            found[kind] = [
                copy.copy(row) for row in unique.values() if not row.status.is_final
            ]
        return found

    def summarise(self, kind: Kind, parent_ids: Collection[str]) -> dict[str, Below]:
        """Return what lies directly below each of these objects."""
        written = {id_: list(self._written_below(kind, id_)) for id_ in parent_ids}
        found = {id_: summarise(rows) for id_, rows in written.items()}
        replaced = [
            row.id
            for rows in written.values()
            for row in rows
            if row.id in self._stored[kind]
        ]
        stored = NotWritten(self._collection(kind), replaced)
        for some in _together(parent_ids):
            for id_, below in summarise_stored(stored, some).items():
                found[id_] = add(found.get(id_, NOTHING_BELOW), below)
        return found

    # Changes ----------------------------------------------------------------------

    def add_history(self, changes: Sequence[StateChange]) -> int:
        """Store changes that are not known yet."""
        self.lock([change.run_id for change in changes])
        wanted = {change.id: change for change in reversed(changes)}
        stored: set[str] = set()
        for some in _together(wanted.keys() - self._added.keys()):
            found = self._find(STATES, {"_id": {"$in": some}}, "_id")
            stored.update(document["_id"] for document in found)
        new = 0
        for id_, change in wanted.items():
            if id_ in stored:
                new += id_ in self._unit.recorded
            elif id_ not in self._added:
                self._added[id_] = change
                self._added_to.setdefault(change.target, []).append(change)
                new += 1
        return new

    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        """Return the changes reported of each of these objects."""
        for some in _together({id_ for id_ in targets if id_ not in self._known}):
            self._known.update((id_, []) for id_ in some)
            for document in self._find(STATES, {"target": {"$in": some}}):
                change = document_to_change(document)
                self._known[change.target].append(change)
        return {
            id_: [*self._known[id_], *self._added_to.get(id_, ())] for id_ in targets
        }

    # Keeping it -------------------------------------------------------------------

    def commit(self) -> bool:
        """Write everything, unless somebody else was at one of the runs.

        Returns:
            Whether all was written. What was not has to be done again from the start.
        """
        version = self._unit.next_version()
        entries = self._entries(version)
        if not entries:
            return True
        won = self._unit.commit(entries, version)
        self._unit.recorded.update(
            change.id for change in self._added.values() if change.run_id in won
        )
        return len(won) == len(entries)

    def _entries(self, version: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}

        def add_to(run_id: str, name: str, document: Document, *, is_new: bool) -> None:
            document[VERSION] = version
            entry = entries.setdefault(run_id, Entry())
            entry.add(name, document, is_new=is_new)

        for change in self._added.values():
            document = change_to_document(change)
            add_to(change.run_id, STATES, document, is_new=True)
        for kind, ids in self._written.items():
            for id_ in ids:
                if (row := self._rows[kind][id_]) is not None:
                    is_new = id_ not in self._stored[kind]
                    document = row_to_document(kind, row)
                    add_to(row.run_id, kind, document, is_new=is_new)
        return entries


def _together(ids: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield ids in lists of a length that one request can take."""
    rest = iter(ids)
    while some := list(islice(rest, _TOGETHER)):
        yield some
