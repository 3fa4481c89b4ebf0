"""One query on one collection: what the server answers of it, and what Python does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    cast,
    false,
    func,
    null,
    select,
    true,
    type_coerce,
)
from sqlalchemy.engine import Row
from sqlalchemy.sql.visitors import iterate

from prefect_lume.errors import StorageError
from prefect_lume.results import query as language
from prefect_lume.results.stores.sql import index as sql_index
from prefect_lume.results.stores.sql import plan as sql_plan
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql import verdicts as sql_json
from prefect_lume.results.stores.sql.dialects import values_of
from prefect_lume.results.stores.sql.plan import Condition
from prefect_lume.results.stores.sql.transactions import Transactions
from prefect_lume.results.stores.sql.values import Expression, Values

_RESULT = sql_tables.result
#: So many documents of a custom index are looked up by their keys; of more, the index
#: only restricts a search.
_FEW: Final = 1000
#: In a sum, documents that only Python can judge count so much. It is an integer of 32
#: bits, of which sums are fast.
_UNSURE: Final = 2**30
_BY_HASH_FIRST: Final = 50
_BY_HASH_MOST: Final = 500
_BATCH_TEXT: Final = 4 << 20

Build = Callable[["Search"], Select[Any]]
#: Databases in which a document made the server fail.
_DAMAGED: Final[WeakSet[Transactions]] = WeakSet()
#: Conditions on these may leave few documents of many.
_SELECTIVE: Final = frozenset(
    {"result_type", "flow_id", "flow_run_id", "deployment_id"}
)


class Search:
    """A query that is being answered.

    If the server fails at some document (it is nested too deep for it, or damaged), the
    search goes on with a slower reader that does not, and if there is none, without:
    Python reads every document then.

    Attributes:
        conditions: What the server answers by its columns, and the collection.
        rest: What it does not; ``{}`` if nothing is left.
        verdict: What it can say of the rest by looking into documents, or None.
        values: Reads documents in SQL, or None.
        narrowing: What else must hold for a document to be of interest, or None.
        hashes: The only documents in question, if a custom index left few.
    """

    def __init__(
        self, transactions: Transactions, collection: str, query: Mapping[str, Any]
    ) -> None:
        self._transactions = transactions
        self.collection = collection
        found, self.rest = sql_plan.plan(query)
        self.conditions: list[Condition] = [_RESULT.c.collection == collection, *found]
        self.test = language.compile_query(self.rest)
        self.verdict: Expression | None = None
        self.values: Values | None = None
        self.hashes: list[str] | None = None
        self.narrowing: Expression | None = None
        if self.rest:
            transactions.read(lambda connection: self._prepare(connection, query))

    def _prepare(self, connection: Connection, query: Mapping[str, Any]) -> None:
        self.values = self._values(connection)
        chosen = sql_index.candidates(connection, self.collection, query)
        if chosen is not None:
            hashes = connection.execute(chosen.limit(_FEW + 1)).scalars().all()
            if len(hashes) <= _FEW:
                self.hashes = list(hashes)
                return
            self.conditions.append(_RESULT.c.unique_hash.in_(chosen))
        if self.values is not None:
            self.verdict = sql_json.verdict(self.rest, self.values)

    @property
    def filters(self) -> list[Condition]:
        """What a document must not fail, as far as the server knows."""
        found = list(self.conditions)
        if self.verdict is not None:
            found.append(self.verdict.is_not(false()))
        if self.narrowing is not None:
            found.append(self.narrowing)
        return found

    @property
    def sure(self) -> Expression:
        """Whether a document that passed the filters matches; NULL: to be tested."""
        if self.verdict is not None:
            return self.verdict
        return null() if self.rest else true()

    @property
    def still(self) -> ColumnElement[Any]:
        """Whether a document of a known key matches, named ``sure``; NULL: untested.

        The header's conditions are no filters for known keys: for one of them, a
        planner would leave the primary key for a poor index.
        """
        certain = and_(true(), *self.conditions[1:], self.sure)
        return type_coerce(certain, Boolean).label("sure")

    def reader(self) -> Values | None:
        """Return what reads documents in SQL, whatever the query is, or None."""
        if not self.rest and self.values is None:
            self.values = self._transactions.read(self._values)
        return self.values

    def _values(self, connection: Connection) -> Values | None:
        found = values_of(connection.dialect)
        if found is not None and self._transactions in _DAMAGED:
            return found.careful() or found
        return found

    def narrow(self) -> None:
        """Note the keys of the documents in question, if the columns leave few.

        Asked for them in an order, a server may walk an index in that order from end
        to end rather than look up the few.
        """
        columns = {
            part.name
            for condition in self.conditions
            for part in iterate(condition)
            if isinstance(part, Column)
        }
        known = self.hashes is not None or "unique_hash" in columns
        if known or not columns & _SELECTIVE:
            return
        some = select(_RESULT.c.unique_hash).where(*self.conditions).limit(_FEW + 1)
        hashes = self._transactions.read(lambda c: c.execute(some).scalars().all())
        if len(hashes) <= _FEW:
            self.hashes = list(hashes)

    def read(self, build: Build) -> Sequence[Row[Any]]:
        """Run a statement, built anew if the server cannot look into documents."""
        while True:
            try:
                return self._run(build)
            except StorageError:
                if self.values is None:
                    raise
            # If the reason is another one, the same error comes again.
            self.values = self.values.careful()
            self.verdict = self.narrowing = None
            if self.values is not None:
                _DAMAGED.add(self._transactions)
                if self.rest:
                    self.verdict = sql_json.verdict(self.rest, self.values)

    def _run(self, build: Build) -> Sequence[Row[Any]]:
        statement = build(self)
        return self._transactions.read(lambda c: c.execute(statement).all())

    def count(self) -> int | None:
        """Return how many documents match by the server alone, or None.

        What only Python can judge is read and tested.
        """
        if self.hashes is not None or (self.rest and self.verdict is None):
            return None
        ((total,),) = self.read(_count)
        if self.rest and self.verdict is None:
            return None
        unsure, sure = divmod(int(total or 0), _UNSURE)
        return sure + (sum(1 for _ in self._unsure()) if unsure else 0)

    def _unsure(self) -> Iterator[dict[str, Any]]:
        """Yield what matches of the documents on which the server has no verdict."""
        verdict = self.verdict

        def keys(search: Search) -> Select[Any]:
            unknown = [] if verdict is None else [verdict.is_(None)]
            return select(_RESULT.c.unique_hash).where(*search.conditions, *unknown)

        hashes = [row.unique_hash for row in self._run(keys)]
        for text, _ in self.documents(hashes, verdict=False):
            tree = json.loads(text)
            if self.test(tree):
                yield tree

    def documents(
        self, hashes: Sequence[str], *, verdict: bool = True
    ) -> Iterator[tuple[str, bool]]:
        """Yield the documents of some keys in that order, in batches.

        Args:
            hashes: The documents' keys. One that is gone is left out.
            verdict: Apply the filters anew: a document may have been replaced since
                its key was found.

        Yields:
            The text of a document, and whether it is sure to match.
        """
        start, size = 0, _BY_HASH_FIRST
        while start < len(hashes):
            batch = hashes[start : start + size]

            def texts(search: Search, batch: Sequence[str] = batch) -> Select[Any]:
                sure = search.still if verdict else null().label("sure")
                return select(_RESULT.c.unique_hash, _RESULT.c.document, sure).where(
                    search.conditions[0], _RESULT.c.unique_hash.in_(batch)
                )

            found = {row.unique_hash: row for row in self.read(texts)}
            for unique_hash in batch:
                row = found.get(unique_hash)
                if row is not None and row.sure is not False:
                    yield row.document, row.sure is True
            start += len(batch)
            mean = sum(len(row.document) for row in found.values()) // len(batch) + 1
            size = max(1, min(_BY_HASH_MOST, size * 4, _BATCH_TEXT // mean))


def _count(search: Search) -> Select[Any]:
    if search.verdict is None:
        return select(func.count()).select_from(_RESULT).where(*search.conditions)
    known = cast(search.verdict, Integer)
    total = func.sum(func.coalesce(known, _UNSURE))
    return select(total).select_from(_RESULT).where(*search.conditions)
