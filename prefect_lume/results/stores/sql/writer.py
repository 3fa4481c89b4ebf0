"""Store documents in SQL: one by one, or many in a constant number of statements.

A document, its keys in the custom indices and the names of the blobs that it holds are
stored in one transaction. Its blobs are stored before, in transactions of their own;
if a clean-up took one of them meanwhile, the database refuses the document, and both
are stored again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, delete, exc, insert, select, update

from prefect_lume.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from prefect_lume.results.stores.base import Outcome, Tree
from prefect_lume.results.stores.checks import check_document
from prefect_lume.results.stores.sql import index as sql_index
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.blobs import SQLBlobs
from prefect_lume.results.stores.sql.transactions import (
    RepeatedConflictError,
    Transactions,
)
from prefect_lume.results.stores.trees import blobs_of
from prefect_lume.storage.repeat import is_reference_violation, pause

if TYPE_CHECKING:
    from prefect_lume.results.codecs import Encoded

_RESULT, _LINK = sql_tables.result, sql_tables.result_blob

#: Documents stored in one transaction, and about how many characters of them.
_AT_ONCE: Final = 500
_TEXT_AT_ONCE: Final = 4 << 20
_ATTEMPTS: Final = 20
_BATCH_ATTEMPTS: Final = 3


@dataclass(frozen=True, eq=False)
class _Item:
    """A document that is to be stored."""

    tree: Tree
    row: dict[str, Any]
    blobs: Mapping[str, Any]
    held: frozenset[str]

    @property
    def key(self) -> str:
        return str(self.row["unique_hash"])


class SQLWriter:
    """Stores documents in an SQL database.

    Args:
        transactions: The database.
        blobs: Its blobs.
        get_blob: Loads a blob, verified.
        where: Returns the database, for messages.
    """

    def __init__(
        self,
        transactions: Transactions,
        blobs: SQLBlobs,
        get_blob: Callable[[str], bytearray],
        where: Callable[[], str],
    ) -> None:
        self._transactions = transactions
        self._blobs = blobs
        self._get_blob = get_blob
        self._where = where

    def insert(self, collection: str, encoded: Encoded) -> bool:
        """Store a document, unless one of its key is there."""
        item = self._item(collection, encoded)
        if item.held or item.blobs:
            if self._stored(collection, [item.key]):
                return False
            self._provide([item])
        return self._insert(collection, item)

    def replace(self, collection: str, encoded: Encoded) -> None:
        """Store a document, in place of the one with its key if there is one."""
        item = self._item(collection, encoded)
        self._provide([item])
        self._replace(collection, item)

    def insert_many(
        self, collection: str, encoded: Sequence[Encoded], *, replace: bool
    ) -> list[Outcome]:
        """Store several documents, each with an outcome of its own."""
        outcomes: dict[int, Outcome] = {}
        batch: dict[int, _Item] = {}
        keys: set[str] = set()
        size = 0
        for place, one in enumerate(encoded):
            try:
                item = self._item(collection, one)
            except (InvalidInputError, IntegrityError) as error:
                outcomes[place] = error
                continue
            # A key that comes again is stored after the first, as if it came later.
            if len(batch) == _AT_ONCE or size > _TEXT_AT_ONCE or item.key in keys:
                outcomes |= self._store(collection, batch, replace)
                batch, keys, size = {}, set(), 0
            batch[place] = item
            keys.add(item.key)
            size += len(item.row["document"])
        outcomes |= self._store(collection, batch, replace)
        return [outcomes[place] for place in range(len(encoded))]

    def _item(self, collection: str, encoded: Encoded) -> _Item:
        tree: Tree = encoded.tree
        check_document(collection, tree)
        row = _row(collection, encoded)
        held: frozenset[str] = frozenset()
        # Looked for in the text first: most documents hold no blob.
        if '"blob":"' in row["document"]:
            held = frozenset(blobs_of(tree, lambda name: self._part(encoded, name)))
        return _Item(tree, row, encoded.blobs, held)

    def _part(self, encoded: Encoded, sha256: str) -> bytes | bytearray:
        """Return a part of a document that left it."""
        if sha256 in encoded.blobs:
            return bytes(encoded.blobs[sha256])
        try:
            return self._get_blob(sha256)
        except NotFoundError as error:
            raise self._blob_missing(encoded.tree["_id"], sha256) from error

    def _blob_missing(self, unique_hash: str, sha256: str) -> IntegrityError:
        where = self._where()
        return IntegrityError(
            f"{where}: the result {unique_hash} holds the blob {sha256}, which is "
            f"neither stored nor given with it. Nothing of it was stored.",
            where,
        )

    # --- one document ----------------------------------------------------------

    def _insert(self, collection: str, item: _Item) -> bool:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._transactions.write(lambda c: _insert(c, collection, [item]))
            except ConflictError as error:
                stored = self._document(collection, item.key)
                if stored is not None:
                    # After a lost connection it may be what this very call stored.
                    again = isinstance(error, RepeatedConflictError)
                    return again and stored == item.row["document"]
                self._explain(item, error, attempt)
            else:
                return True
        raise self._given_up(item)

    def _replace(self, collection: str, item: _Item) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._transactions.write(lambda c: _replace(c, collection, item))
            except ConflictError as error:
                self._explain(item, error, attempt)
            else:
                return
        raise self._given_up(item)

    def _explain(self, item: _Item, error: ConflictError, attempt: int) -> None:
        """Return if the same is worth another attempt, else raise what is wrong."""
        if _lacks_reference(error):
            # A clean-up took a blob; the next one should not meet us again.
            pause(attempt)
            self._provide([item])
        elif attempt > 1:
            # Twice: at first another may have stored it, or deleted it, meanwhile.
            raise self._not_unique(item.tree, error) from error

    def _given_up(self, item: _Item) -> StorageError:
        where = self._where()
        return StorageError(
            f"{where}: the result {item.key} was not stored: a clean-up kept removing "
            f"its blobs before it could be. Run clean-ups less often.",
            where,
        )

    def _not_unique(self, tree: Tree, error: ConflictError) -> ConflictError:
        indices = self._transactions.read(
            lambda c: sql_index.definitions(c, tree["result_type"])
        )
        names = "; ".join(", ".join(i.fields) for i in indices if i.unique)
        if not names:
            return error
        return ConflictError(
            f"{self._where()}: another result of type {tree['result_type']!r} has the "
            f"same values in a unique index (on {names})."
        )

    # --- many documents --------------------------------------------------------

    def _store(
        self,
        collection: str,
        batch: Mapping[int, _Item],
        replace: bool,
        attempt: int = 1,
    ) -> dict[int, Outcome]:
        """Store documents of different keys in one transaction; halves if it fails."""
        outcomes: dict[int, Outcome] = {}
        if not replace:
            keys = [item.key for item in batch.values()]
            there = self._stored(collection, keys)
            outcomes = {p: False for p, item in batch.items() if item.key in there}
            batch = {p: i for p, i in batch.items() if p not in outcomes}
        if len(batch) < 2:
            return outcomes | {
                place: self._store_one(collection, item, replace)
                for place, item in batch.items()
            }
        items = list(batch.values())
        try:
            self._provide(items)
            self._transactions.write(
                lambda c: (_replace_all if replace else _insert)(c, collection, items)
            )
        except (ConflictError, InvalidInputError, IntegrityError) as error:
            if isinstance(error, RepeatedConflictError) and not replace:
                ours = self._ours(collection, batch)
                outcomes |= ours
                batch = {p: item for p, item in batch.items() if p not in ours}
            elif _lacks_reference(error) and attempt < _BATCH_ATTEMPTS:
                pause(attempt)
                again = self._store(collection, batch, replace, attempt + 1)
                return outcomes | again
            places = list(batch)
            for some in (places[: len(places) // 2], places[len(places) // 2 :]):
                half = {place: batch[place] for place in some}
                outcomes |= self._store(collection, half, replace)
            return outcomes
        return outcomes | dict.fromkeys(batch, True)

    def _store_one(self, collection: str, item: _Item, replace: bool) -> Outcome:
        try:
            self._provide([item])
            if replace:
                self._replace(collection, item)
            return replace or self._insert(collection, item)
        except (ConflictError, InvalidInputError, IntegrityError) as error:
            return error

    def _ours(self, collection: str, batch: Mapping[int, _Item]) -> dict[int, Outcome]:
        """Return the documents that this very call stored before a connection broke."""
        return {
            place: True
            for place, item in batch.items()
            if self._document(collection, item.key) == item.row["document"]
        }

    # --- what is there ---------------------------------------------------------

    def _provide(self, items: Sequence[_Item]) -> None:
        """Store what blobs are missing.

        Raises:
            IntegrityError: A document holds a blob that nobody has.
        """
        given = {name: data for item in items for name, data in item.blobs.items()}
        wanted = set(given).union(*(item.held for item in items))
        missing = self._blobs.missing(wanted) if wanted else set()
        for item in items:
            for sha256 in sorted((item.held & missing) - given.keys()):
                raise self._blob_missing(item.key, sha256)
        self._blobs.write_all({name: given[name] for name in missing})

    def _stored(self, collection: str, keys: Sequence[str]) -> set[str]:
        statement = select(_RESULT.c.unique_hash).where(
            _RESULT.c.collection == collection, _RESULT.c.unique_hash.in_(keys)
        )
        return set(
            self._transactions.read(lambda c: c.execute(statement).scalars().all())
        )

    def _document(self, collection: str, unique_hash: str) -> str | None:
        statement = select(_RESULT.c.document).where(*_key(collection, unique_hash))
        return self._transactions.read(lambda c: c.execute(statement).scalar())


def _lacks_reference(error: BaseException) -> bool:
    """Tell whether a conflict is about a blob, or an index, that is gone."""
    cause = error.__cause__
    return isinstance(cause, exc.DBAPIError) and is_reference_violation(cause)


def _insert(connection: Connection, collection: str, items: Sequence[_Item]) -> None:
    rows = [item.row for item in items]
    connection.execute(insert(_RESULT), rows if len(rows) > 1 else rows[0])
    _add(connection, collection, items)


def _replace_all(
    connection: Connection, collection: str, items: Sequence[_Item]
) -> None:
    keys = [item.key for item in items]
    sql_index.remove_keys(connection, collection, keys)
    connection.execute(
        delete(_RESULT).where(
            _RESULT.c.collection == collection, _RESULT.c.unique_hash.in_(keys)
        )
    )
    _insert(connection, collection, items)


def _replace(connection: Connection, collection: str, item: _Item) -> None:
    key = _key(collection, item.key)
    changed = connection.execute(update(_RESULT).where(*key).values(item.row))
    if changed.rowcount:
        sql_index.remove_keys(connection, collection, [item.key])
        connection.execute(
            delete(_LINK).where(
                _LINK.c.collection == collection, _LINK.c.unique_hash == item.key
            )
        )
    else:
        connection.execute(insert(_RESULT), item.row)
    _add(connection, collection, [item])


def _add(connection: Connection, collection: str, items: Sequence[_Item]) -> None:
    """Insert the keys of documents, and which blobs they hold."""
    # After the documents: who builds an index waits for them, or we see the index.
    indices = {
        result_type: sql_index.definitions(connection, result_type)
        for result_type in sorted({item.row["result_type"] for item in items})
    }
    sql_index.insert_keys(connection, list(_keys(collection, items, indices)))
    links = [
        {"collection": collection, "unique_hash": item.key, "sha256": sha256}
        for item in items
        for sha256 in sorted(item.held)
    ]
    if links:
        connection.execute(insert(_LINK), links)


def _keys(
    collection: str,
    items: Sequence[_Item],
    indices: Mapping[str, Sequence[sql_index.IndexDefinition]],
) -> Iterator[dict[str, Any]]:
    for item in items:
        found = indices[item.row["result_type"]]
        if found:
            yield from sql_index.key_rows(collection, item.tree, found)


def _key(collection: str, unique_hash: str) -> tuple[Any, Any]:
    return (_RESULT.c.collection == collection, _RESULT.c.unique_hash == unique_hash)


def _row(collection: str, encoded: Encoded) -> dict[str, Any]:
    tree = encoded.tree
    return {
        "collection": collection,
        "unique_hash": tree["_id"],
        "result_type": tree["result_type"],
        "flow_id": tree["flow_id"],
        "flow_run_id": tree["flow_run_id"],
        "deployment_id": tree["deployment_id"],
        "date_modified": tree["date_modified"],
        "document": encoded.json(),
    }
