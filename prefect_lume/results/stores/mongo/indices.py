"""The indices of a MongoDB database: those of every collection, and document types'."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pymongo import UpdateOne
from pymongo import errors as driver
from pymongo.collection import Collection

from prefect_lume.results.index import EXPIRES_FROM
from prefect_lume.results.query.paths import outermost
from prefect_lume.results.stores.index_changes import (
    DuplicatesError,
    IndexChange,
    IndexChanges,
    merged,
    superfluous,
)
from prefect_lume.results.stores.indices import (
    HEADER_INDICES,
    DeclaredIndex,
    conjunction,
    declared,
)
from prefect_lume.results.stores.mongo.duplicates import blocked
from prefect_lume.results.stores.mongo.numbers import (
    narrowed,
    scalar_clauses,
    scalar_fields,
)
from prefect_lume.results.stores.mongo.present import (
    EXPIRES,
    present,
    scalars_name,
    stored_name,
)
from prefect_lume.storage.repeat import pause

if TYPE_CHECKING:
    from prefect_lume.results.documents import DocumentBase

Documents = Collection[dict[str, Any]]
Docs = Iterable["type[DocumentBase]"]
#: Document type → its indices.
Wanted = Mapping[str, tuple[DeclaredIndex, ...]]

#: The server's codes: duplicate key, no such index, an index that differs only in
#: what two of them may not differ in.
_DUPLICATE: Final = 11000
_NO_INDEX: Final = 27
_TOO_ALIKE: Final = frozenset({85, 86})
_CONFLICT: Final = 112
_UPDATES_AT_ONCE: Final = 1000
_ATTEMPTS: Final = 10


class MongoIndices:
    """Knows what is declared, and creates it in collections.

    Args:
        where: Returns the server and database, for messages.
    """

    def __init__(self, where: Callable[[], str]) -> None:
        self._where = where
        self._types: Wanted = {}
        self._indexed: dict[str, frozenset[str]] = {}
        self._stuck: set[str] = set()
        #: What collections have; that it may have changed only costs time.
        self._known: dict[str, tuple[DeclaredIndex, ...]] = {}
        self._lock = threading.Lock()

    def declare(self, docs: Docs) -> None:
        """Remember the indices of document types, in place of what they had before."""
        found = wanted_of(docs)
        with self._lock:
            self._types = {**self._types, **found}
            # What stood in the way may be gone.
            for name in self._stuck:
                self._indexed.pop(name, None)
            self._stuck.clear()

    def unique_fields(self, result_type: str) -> str:
        """Return the fields of a type's unique indices, for a message."""
        return "; ".join(
            ", ".join(index.fields)
            for index in self._types.get(result_type, ())
            if index.unique
        )

    def expiring(self, collections: Iterable[Documents]) -> list[DeclaredIndex]:
        """Return the indices that say when documents expire: declared, or present.

        Raises pymongo's exceptions.
        """
        wanted = self._types
        found = [index for indices in wanted.values() for index in indices]
        for collection in collections:
            there = present(collection).values()
            found += [index for index in there if index.result_type not in wanted]
        unique = {i.name: i for i in found if i.expire_after is not None}
        return list(unique.values())

    def hidden_fields(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return what is stored with a document beside what it holds.

        Args:
            tree: The document.

        Returns:
            ``_expires``, a date as the server itself understands it, if the
            document's type lets it expire; empty otherwise.
        """
        moments = []
        for index in self._types.get(tree["result_type"], ()):
            if index.expire_after is not None and index.covers(tree):
                made = datetime.fromisoformat(tree[EXPIRES_FROM])
                try:
                    moments.append(made + timedelta(seconds=index.expire_after))
                except OverflowError:
                    # Beyond the year 9999.
                    continue
        return {EXPIRES: min(moments)} if moments else {}

    def ensure(self, collection: Documents) -> None:
        """Create what a collection lacks; raises pymongo's exceptions.

        Raises:
            DuplicatesError: Documents stand in the way of a unique index. The others
                were created. It is said once after each :meth:`declare`.
        """
        wanted = self._types
        names = frozenset(index.name for found in wanted.values() for index in found)
        if self._indexed.get(collection.name) == names:
            return
        done = _patiently(self._complete, collection, wanted)
        with self._lock:
            self._indexed[collection.name] = names
            self._known.pop(collection.name, None)
            if done.blocked:
                self._stuck.add(collection.name)
        for change in done.blocked:
            raise DuplicatesError(self._where(), change)

    def _complete(self, collection: Documents, wanted: Wanted) -> IndexChanges:
        self._create_header(collection)
        return self._apply(collection, wanted, obsolete=False)

    def narrow(self, collection: Documents, query: Mapping[str, Any]) -> Any:
        """Return a query that finds the same, by an index where it asks for a number.

        Raises pymongo's exceptions.
        """
        known = self._known.get(collection.name)
        if known is None and "result_type" in str(query):
            known = tuple(present(collection).values())
            with self._lock:
                self._known[collection.name] = known
        return narrowed(collection, query, known) if known else query

    def migrate(self, collections: Iterable[Documents], docs: Docs) -> IndexChanges:
        """Create what document types declare, drop what else they have."""
        known = list(docs)
        self.declare(known)
        found = []
        for collection in collections:
            found.append(
                _patiently(self._apply, collection, wanted_of(known), obsolete=True)
            )
            # Said already: storing a document later does not say it again.
            with suppress(DuplicatesError):
                self.ensure(collection)
        return merged(found)

    def compare(self, collections: Iterable[Documents], docs: Docs) -> IndexChanges:
        """Return what :meth:`migrate` would do."""
        wanted = wanted_of(docs)
        found = []
        for collection in collections:
            create, drop = _changes(collection, wanted)
            stuck = [blocked(collection, index) for index in create if index.unique]
            stuck = [change for change in stuck if change.total]
            names = {change.index.name for change in stuck}
            possible = [
                IndexChange(index, "missing", (collection.name,))
                for index in create
                if index.name not in names
            ]
            found.append(IndexChanges(tuple(possible), tuple(drop), tuple(stuck)))
        return merged(found)

    @staticmethod
    def _create_header(collection: Documents) -> None:
        there = set(collection.index_information())
        for fields in HEADER_INDICES:
            # The name that MongoDB itself would give.
            if "_".join(f"{field}_1" for field in fields) not in there:
                collection.create_index([(field, 1) for field in fields])

    def _apply(
        self, collection: Documents, wanted: Wanted, *, obsolete: bool
    ) -> IndexChanges:
        create, drop = _changes(collection, wanted)
        done = [self._create(collection, index, drop) for index in create]
        created = [change for change in done if change.reason == "missing"]
        stuck = [change for change in done if change.reason == "blocked"]
        kept = {change.index.purpose for change in stuck}
        dropped = [
            change
            for change in drop
            if (obsolete or change.reason == "replaced")
            and change.index.purpose not in kept
        ]
        for change in dropped:
            _drop(collection, change.index)
        return IndexChanges(tuple(created), tuple(dropped), tuple(stuck))

    def _create(
        self, collection: Documents, index: DeclaredIndex, drop: list[IndexChange]
    ) -> IndexChange:
        if index.expire_after is not None:
            self._add_dates(collection, index)
        done = IndexChange(index, "missing", (collection.name,))
        try:
            _build(collection, index)
        except driver.OperationFailure as error:
            if error.code in _TOO_ALIKE:
                # The one that it replaces has to go first.
                found = blocked(collection, index) if index.unique else done
                if found.total:
                    return found
                for change in drop:
                    if change.index.purpose == index.purpose:
                        _drop(collection, change.index)
                _build(collection, index)
                return done
            # DocumentDB does not say 11000 here, but which constraint it violates.
            if error.code == _DUPLICATE or "constraint" in str(error):
                return blocked(collection, index)
            raise
        return done

    def _add_dates(self, collection: Documents, index: DeclaredIndex) -> None:
        """Give documents that were stored before the date on which they expire."""
        # The server removes nothing of the type before the index is there.
        paths = [path for path, _, _ in index.where]
        kept = outermost(["result_type", EXPIRES_FROM, *paths])
        updates = []
        for tree in collection.find(index.query(), dict.fromkeys(kept, 1)):
            same = {"_id": tree["_id"], EXPIRES_FROM: tree[EXPIRES_FROM]}
            hidden = self.hidden_fields(tree)
            if hidden:
                updates.append(UpdateOne(same, {"$set": hidden}))
            if len(updates) == _UPDATES_AT_ONCE:
                collection.bulk_write(updates, ordered=False)
                updates = []
        if updates:
            collection.bulk_write(updates, ordered=False)


def _patiently(
    work: Callable[..., IndexChanges], *arguments: Any, **options: Any
) -> IndexChanges:
    """Do work that may meet another process doing the same."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return work(*arguments, **options)
        except driver.OperationFailure as error:
            # DocumentDB has no code of its own for it, MongoDB calls it a conflict.
            if error.code != _CONFLICT and "deadlock" not in str(error):
                raise
            pause(attempt)
    return work(*arguments, **options)


def wanted_of(docs: Docs) -> Wanted:
    """Return what document types declare, by their names."""
    return {doc.result_type: tuple(declared(doc)) for doc in docs}


def _changes(
    collection: Documents, wanted: Wanted
) -> tuple[list[DeclaredIndex], list[IndexChange]]:
    there = present(collection)
    by_name = {stored_name(i): i for indices in wanted.values() for i in indices}
    create = [index for name, index in by_name.items() if name not in there]
    others = [index for name, index in there.items() if name not in by_name]
    drop = [
        IndexChange(index, reason, (collection.name,))
        for index, reason in superfluous(by_name.values(), others, wanted)
    ]
    return create, drop


def _build(collection: Documents, index: DeclaredIndex) -> None:
    # The index is the type's own: other types in the project do not count.
    own = {"result_type": index.result_type}
    options: dict[str, Any] = {
        "name": stored_name(index),
        "unique": index.unique,
        "partialFilterExpression": index.query() if index.clauses else own,
    }
    if index.expire_after is not None:
        collection.create_index([(EXPIRES, 1)], expireAfterSeconds=0, **options)
        return
    # Last the index itself: if it is there, so is the one beside it.
    beside = (("result_type", "$eq", index.result_type), *index.clauses)
    collection.create_index(
        [(field, 1) for field in scalar_fields(index)],
        name=scalars_name(index),
        partialFilterExpression=conjunction(
            (*beside, *scalar_clauses(index.fields[0]))
        ),
    )
    collection.create_index([(field, 1) for field in index.fields], **options)


def _drop(collection: Documents, index: DeclaredIndex) -> None:
    there = present(collection)
    kept = {scalars_name(other) for other in there.values() if other != index}
    for name in (name for name, other in there.items() if other == index):
        _drop_named(collection, name)
        if scalars_name(index) not in kept:
            _drop_named(collection, scalars_name(index))


def _drop_named(collection: Documents, name: str) -> None:
    try:
        collection.drop_index(name)
    except driver.OperationFailure as error:
        # It has none, or another process was faster.
        if error.code != _NO_INDEX:
            raise
