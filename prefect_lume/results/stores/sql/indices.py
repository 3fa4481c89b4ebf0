"""Create, compare and drop, in SQL, the indices that document types declare."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, delete, exists, insert, select, text, update

from prefect_lume.errors import ConflictError, InvalidInputError
from prefect_lume.results.stores.base import Tree
from prefect_lume.results.stores.index_changes import (
    SHOWN_GROUPS,
    DuplicateGroup,
    DuplicatesError,
    IndexChange,
    IndexChanges,
    duplicates,
    superfluous,
)
from prefect_lume.results.stores.indices import declared
from prefect_lume.results.stores.sql import index as sql_index
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.index import IndexDefinition
from prefect_lume.results.stores.sql.transactions import Transactions

if TYPE_CHECKING:
    from prefect_lume.results.documents import DocumentBase

_RESULT: Final = sql_tables.result
_DEFINITIONS: Final = sql_tables.result_index
_KEYS: Final = sql_tables.result_index_key
#: Documents whose keys are stored in one transaction.
_AT_ONCE: Final = 250
#: How often an index is begun again that another process gave up meanwhile.
_ATTEMPTS: Final = 5

Docs = Iterable["type[DocumentBase]"]


class SQLIndices:
    """Builds the indices of document types, also for documents stored before.

    Args:
        transactions: The database.
        find: The store's own ``find``.
        where: Returns the database, for messages.
    """

    def __init__(
        self,
        transactions: Transactions,
        find: Callable[..., Iterator[Tree]],
        where: Callable[[], str],
    ) -> None:
        self._transactions = transactions
        self._find = find
        self._where = where

    def prepare(self, docs: Docs) -> None:
        """Create what document types declare, and drop what that replaces.

        Raises:
            DuplicatesError: Documents stand in the way of a unique index. The others
                were created.
        """
        done = self._apply(docs, obsolete=False)
        for change in done.blocked:
            raise DuplicatesError(self._where(), change)

    def migrate(self, docs: Docs) -> IndexChanges:
        """Create what document types declare, drop what else they have."""
        return self._apply(docs, obsolete=True)

    def compare(self, docs: Docs) -> IndexChanges:
        """Return what :meth:`migrate` would do."""
        create, drop = self._changes(list(docs))
        possible, blocked = [], []
        for change in create:
            found = self._blocked(IndexDefinition.of(change.index))
            if found.total:
                blocked.append(found)
            else:
                possible.append(change)
        return IndexChanges(tuple(possible), tuple(drop), tuple(blocked))

    def expiring(self) -> list[IndexDefinition]:
        """Return the indices that say when documents expire."""
        statement = select(_DEFINITIONS).where(_DEFINITIONS.c.ready.is_(True))
        rows = self._transactions.read(lambda c: c.execute(statement).all())
        found = [IndexDefinition.from_row(row) for row in rows]
        return [index for index in found if index.expire_after is not None]

    def _changes(
        self, docs: Sequence[type[DocumentBase]]
    ) -> tuple[list[IndexChange], list[IndexChange]]:
        wanted = [index for doc in docs for index in declared(doc)]
        rows = self._transactions.read(lambda c: c.execute(select(_DEFINITIONS)).all())
        ready = {row.name: bool(row.ready) for row in rows}
        create = [
            IndexChange(index, "unfinished" if index.name in ready else "missing")
            for index in wanted
            if not ready.get(index.name)
        ]
        present = [IndexDefinition.from_row(row) for row in rows]
        types = {doc.result_type for doc in docs}
        drop = [
            IndexChange(index, reason)
            for index, reason in superfluous(wanted, present, types)
        ]
        return create, drop

    def _apply(self, docs: Docs, *, obsolete: bool) -> IndexChanges:
        create, drop = self._changes(list(docs))
        created, blocked = [], []
        for change in create:
            try:
                self.build(IndexDefinition.of(change.index))
                created.append(change)
            except DuplicatesError as error:
                blocked.append(error.change)
        stuck = {change.index.purpose for change in blocked}
        dropped = [
            change
            for change in drop
            if (obsolete or change.reason == "replaced")
            and change.index.purpose not in stuck
        ]
        for change in dropped:
            self._drop(change.index.name)
        return IndexChanges(tuple(created), tuple(dropped), tuple(blocked))

    def build(self, index: IndexDefinition) -> None:
        """Build one index; another process may be building it too.

        Raises:
            DuplicatesError: Documents stand in its way. Nothing of it is left.
            InvalidInputError: A document has too many values in it. Nothing is left.
        """
        for _ in range(_ATTEMPTS):
            self._define(index)
            # From here on every writer adds the keys of what it stores.
            self._await_writers()
            try:
                if self._fill(index) and self._finish(index):
                    return
            except InvalidInputError:
                self._drop(index.name)
                raise
            found = self._blocked(index)
            if found.total:
                self._drop(index.name)
                raise DuplicatesError(self._where(), found)
            # Another process dropped it, or deleted what stood in the way.
        raise ConflictError(
            f"{self._where()}: the {index} could not be built: other processes keep "
            f"dropping it. Prepare the document type again when they are done."
        )

    def _define(self, index: IndexDefinition) -> None:
        known = select(_DEFINITIONS.c.name).where(_DEFINITIONS.c.name == index.name)
        try:
            self._transactions.write(
                lambda c: c.execute(insert(_DEFINITIONS), index.row())
            )
        except ConflictError:
            # If it is known but not ready, another process is building it, or died.
            if not self._transactions.read(lambda c: c.execute(known).first()):
                raise

    def _await_writers(self) -> None:
        """Wait until the writers are done that may not have seen a new index.

        On SQLite there is only one writer at a time, and on MySQL reading what is to
        be indexed waits for those that are writing it.
        """
        if self._transactions.engine.dialect.name == "postgresql":
            lock = text(f"LOCK TABLE {_RESULT.name} IN SHARE MODE")
            self._transactions.write(lambda c: c.execute(lock))

    def _fill(self, index: IndexDefinition) -> bool:
        """Add the keys that are missing; False if one is taken."""
        if index.expire_after is not None:
            return True
        return all(self._fill_collection(name, index) for name in self._collections())

    def _fill_collection(self, collection: str, index: IndexDefinition) -> bool:
        last: str | None = ""
        again = False
        while last is not None:
            try:
                last = self._fill_page(collection, last, index)
                again = False
            except ConflictError:
                if again:
                    return False
                # Perhaps another process has just added the same keys, or a key was
                # left behind by a document that is gone.
                self._remove_orphans(collection, index)
                again = True
        return True

    def _fill_page(
        self, collection: str, after: str, index: IndexDefinition
    ) -> str | None:
        """Add the keys of some documents; return the last hash, None at the end."""
        page = (
            select(_RESULT.c.unique_hash, _RESULT.c.document)
            .where(
                _RESULT.c.collection == collection,
                _RESULT.c.unique_hash > after,
                _RESULT.c.result_type == index.result_type,
            )
            .order_by(_RESULT.c.unique_hash)
            .limit(_AT_ONCE)
            # Nobody deletes or replaces a document while its keys are added.
            .with_for_update(read=True)
        )

        def write(connection: Connection) -> str | None:
            rows = connection.execute(page).all()
            hashes = [row.unique_hash for row in rows]
            # A document's keys are stored in one transaction: one of them, or all.
            done = select(_KEYS.c.unique_hash).where(
                _KEYS.c.collection == collection,
                _KEYS.c.name == index.name,
                _KEYS.c.unique_hash.in_(hashes),
            )
            there = set(connection.execute(done).scalars())
            keys: list[dict[str, Any]] = []
            for row in rows:
                if row.unique_hash not in there:
                    tree = json.loads(row.document)
                    keys += sql_index.key_rows(collection, tree, [index])
            if keys:
                connection.execute(insert(_KEYS), keys)
            return hashes[-1] if len(rows) == _AT_ONCE else None

        return self._transactions.write(write)

    def _remove_orphans(self, collection: str, index: IndexDefinition) -> None:
        held = exists().where(
            _RESULT.c.collection == _KEYS.c.collection,
            _RESULT.c.unique_hash == _KEYS.c.unique_hash,
        )
        orphans = delete(_KEYS).where(
            _KEYS.c.collection == collection, _KEYS.c.name == index.name, ~held
        )
        self._transactions.write(lambda c: c.execute(orphans))

    def _finish(self, index: IndexDefinition) -> bool:
        """Let the index answer queries; False if it was dropped meanwhile."""
        name = _DEFINITIONS.c.name == index.name
        ready = update(_DEFINITIONS).where(name).values(ready=True)

        def write(connection: Connection) -> bool:
            # Not the rows changed: MySQL does not count what another process changed.
            connection.execute(ready)
            known = select(_DEFINITIONS.c.name).where(name)
            return connection.execute(known).first() is not None

        return self._transactions.write(write)

    def _drop(self, name: str) -> None:
        """Remove a definition; its keys go with it."""
        gone = delete(_DEFINITIONS).where(_DEFINITIONS.c.name == name)
        self._transactions.write(lambda c: c.execute(gone))

    def _blocked(self, index: IndexDefinition) -> IndexChange:
        """Return the documents that stand in the way of an index."""
        groups: list[DuplicateGroup] = []
        total, among = 0, []
        for collection in self._collections() if index.unique else ():

            def documents(collection: str = collection) -> Iterator[Tree]:
                return self._find(collection, index.query(), sort=[("_id", 1)])

            found, count = duplicates(index, collection, documents, index.keys)
            groups += found
            total += count
            among += [collection] if count else []
        return IndexChange(
            index, "blocked", tuple(among), tuple(groups[:SHOWN_GROUPS]), total
        )

    def _collections(self) -> list[str]:
        names = select(_RESULT.c.collection).distinct()
        return sorted(
            self._transactions.read(lambda c: c.execute(names).scalars().all())
        )
