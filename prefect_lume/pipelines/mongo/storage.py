"""Pipeline results in MongoDB, or any server that speaks its protocol."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Self, TypeVar

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from prefect_lume.errors import ConfigurationError, StorageError
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.digest import PipelineDigest
from prefect_lume.pipelines.filters import check_time, check_where
from prefect_lume.pipelines.jsonable import is_storable
from prefect_lume.pipelines.mongo import indices, turns
from prefect_lume.pipelines.mongo.digest import read_digest, read_tally
from prefect_lume.pipelines.mongo.documents import (
    ORDER,
    PLACE,
    WHEN,
    Document,
    condition,
    document_to_change,
    document_to_row,
    from_ticks,
    to_ticks,
)
from prefect_lume.pipelines.mongo.objects import (
    MongoPipelineExecution,
    MongoPipelineResult,
    MongoTaskExecution,
    MongoTaskResult,
)
from prefect_lume.pipelines.mongo.session import MongoSession
from prefect_lume.pipelines.mongo.turns import Unit
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.session import PipelineSession
from prefect_lume.pipelines.tally import Tally
from prefect_lume.storage import mongo

T = TypeVar("T")
Source = Database[Document] | Callable[[], Database[Document]]

#: So often a unit of work is begun, before somebody is told that it cannot be done.
_ATTEMPTS: Final = 100


class MongoPipelineResultsStorage(PipelineStorage):
    """Keeps executions and results in a MongoDB database.

    It needs no transactions, so a single server without replicas will do. The
    collections' names begin with ``lume_pipelines.``; the database may hold others.

    Example:
        >>> storage = MongoPipelineResultsStorage(uri="mongodb://localhost/lume")
        >>> storage.where
        'mongodb://localhost:27017/lume'
    """

    execution_class = MongoPipelineExecution
    result_class = MongoPipelineResult
    task_execution_class = MongoTaskExecution
    task_result_class = MongoTaskResult

    def __init__(
        self,
        database: Source | str | None = None,
        *,
        uri: str | None = None,
    ) -> None:
        """Keep a database; nothing is connected yet.

        Args:
            database: The database of a client, or a function that returns it: a client
                is not to be used after a fork, and the function is called for each
                operation. With ``uri``, the database's name.
            uri: ``mongodb://`` or ``mongodb+srv://``, in place of a database. If
                neither it nor ``database`` names a database, ``lume`` is used.

        Raises:
            ConfigurationError: Neither a database nor a URI is given, or both, or the
                URI cannot be read.
        """
        self._database = _source(database, uri)
        self._ready: int | None = None
        self._lock = threading.Lock()

    @classmethod
    def for_context(cls, context: Any, **kwargs: Any) -> Self:
        """Return the storage in the MongoDB database of a context's results.

        Args:
            context: A :class:`prefect_lume.config.Context`.
            **kwargs: ``uri`` and ``database``, if it is to be another database.

        Raises:
            ConfigurationError: The context keeps its results elsewhere.
        """
        if kwargs:
            return cls(**kwargs)
        credentials = context.services.results_mongodb
        if credentials is None:
            raise ConfigurationError(
                "The LumeServices Block names no MongoDB database: set its field "
                "'results_mongodb', or give the storage an 'uri' of its own."
            )
        return cls(credentials.get_database)

    @property
    def where(self) -> str:
        """The server and database without any secret, for messages."""
        database = self._database()
        return mongo.describe(database.client, database.name)

    def _prepared(self) -> Database[Document]:
        """Return the database, with indices, and with nothing half written."""
        database = self._database()
        if self._ready != os.getpid():
            with self._lock:
                if self._ready != os.getpid():
                    indices.ensure(database)
                    turns.complete_all(database)
                    self._ready = os.getpid()
        return database

    # Units of work ------------------------------------------------------------------

    def transaction(self, work: Callable[[PipelineSession], T]) -> T:
        """Run ``work``, and again from the start while others are in the way.

        Raises:
            StorageError: The database could not do it. If it was lost while it wrote,
                the work may have been done.
        """
        with mongo.translated(self.where):
            unit = Unit(self._prepared())
            try:
                return self._until_done(unit, work)
            finally:
                unit.release()

    def _until_done(self, unit: Unit, work: Callable[[PipelineSession], T]) -> T:
        for _ in range(_ATTEMPTS):
            unit.begin()
            session = MongoSession(unit)
            try:
                done = work(session)
            except mongo.FAULTS:
                raise
            except Exception:
                if unit.is_current():
                    raise
                # What it read was not of one moment: perhaps that was all.
                continue
            if session.commit():
                return done
        raise self._busy()

    def _busy(self) -> StorageError:
        return StorageError(
            f"{self.where}: others changed the same runs {_ATTEMPTS} times meanwhile. "
            f"Try again, with fewer recorders for one run.",
            self.where,
        )

    def remove(self, run_ids: Sequence[str]) -> None:
        """Remove runs with all that belongs to them."""
        if not run_ids:
            return
        with mongo.translated(self.where):
            unit = Unit(self._prepared())
            try:
                for _ in range(_ATTEMPTS):
                    unit.begin()
                    unit.lock(run_ids)
                    if unit.remove(sorted(set(run_ids))):
                        return
            finally:
                unit.release()
            raise self._busy()

    # Reading ------------------------------------------------------------------------

    def find(
        self,
        kind: Kind,
        where: Mapping[str, Any] | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
        limit: int | None = None,
        skip: int = 0,
        newest_first: bool = False,
    ) -> list[Row]:
        """Return the rows of a kind that match."""
        query = _query(kind, where, since, before)
        if limit == 0:
            return []  # For the server it means all.
        order = [(ORDER, -1 if newest_first else 1), (PLACE, 1), ("_id", 1)]
        with mongo.translated(self.where):
            found = indices.documents(self._prepared(), kind)
            rows = mongo.repeated(
                lambda: list(found.find(query, sort=order, skip=skip, limit=limit or 0))
            )
        return [document_to_row(kind, row) for row in rows]

    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        """Return the changes reported of each of these objects, the oldest first."""
        query = condition("target", list(targets))
        order = [("timestamp", 1), ("_id", 1)]
        history: dict[str, list[StateChange]] = {}
        with mongo.translated(self.where):
            states = indices.documents(self._prepared(), indices.STATES)
            found = mongo.repeated(lambda: list(states.find(query, sort=order)))
        for document in found:
            change = document_to_change(document)
            history.setdefault(change.target, []).append(change)
        return history

    def count_states(self, run_id: str | None = None) -> int:
        """Return how many changes are kept, of one run or of all."""
        query = {} if run_id is None else condition("run_id", [run_id])
        with mongo.translated(self.where):
            states = indices.documents(self._prepared(), indices.STATES)
            return mongo.repeated(lambda: states.count_documents(query))

    def get_pipeline_digest(self) -> PipelineDigest:
        """Return how each pipeline did, by its id, in the order of the ids."""
        with mongo.translated(self.where):
            return read_digest(indices.documents(self._prepared(), Kind.RESULT))

    def tally(
        self,
        kind: Kind,
        where: Mapping[str, Any] | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[Tally]:
        """Count the rows that match, by parent, status and whether superseded."""
        query = _query(kind, where, since, before)
        with mongo.translated(self.where):
            return read_tally(indices.documents(self._prepared(), kind), query)

    def find_run_ids(self, prefix: str, limit: int = 2) -> list[str]:
        """Return ids of runs that begin so, at most ``limit`` of them."""
        if limit <= 0 or not is_storable(prefix):
            return []  # For the server no limit means all; such text is no id.
        query = {"_id": {"$gte": prefix, "$lt": prefix + "\U0010ffff"}}
        with mongo.translated(self.where):
            found = indices.documents(self._prepared(), Kind.EXECUTION)
            runs = mongo.repeated(
                lambda: list(
                    found.find(query, {"_id": 1}, sort=[("_id", 1)], limit=limit)
                )
            )
        return [run["_id"] for run in runs]

    # Positions ----------------------------------------------------------------------

    def get_position(self, source: str) -> datetime | None:
        """Return up to when a source of changes has been read, if it ever was."""
        with mongo.translated(self.where):
            positions = indices.documents(self._prepared(), indices.POSITIONS)
            found = mongo.repeated(lambda: positions.find_one({"_id": {"$eq": source}}))
        return None if found is None else from_ticks(found["position"])

    def set_position(self, source: str, position: datetime) -> None:
        """Keep up to when a source has been read; a position only moves forward."""
        check_time("position", position)
        change = {"$max": {"position": to_ticks(position)}}
        with mongo.translated(self.where):
            positions = indices.documents(self._prepared(), indices.POSITIONS)
            # Of two that make it at once, one may be told that it is there.
            for _ in range(2):
                try:
                    mongo.repeated(
                        lambda: positions.update_one(
                            {"_id": source}, change, upsert=True
                        )
                    )
                except DuplicateKeyError:
                    continue
                return


def _query(
    kind: Kind,
    where: Mapping[str, Any] | None,
    since: datetime | None,
    before: datetime | None,
) -> Document:
    query: Document = {}
    for name, values in check_where(kind, where).items():
        query |= condition(name, values)
    check_time("since", since)
    check_time("before", before)
    if since is not None:
        query[WHEN] = {"$gte": to_ticks(since)}
    if before is not None:
        query.setdefault(WHEN, {})["$lt"] = to_ticks(before)
    return query


def _source(
    database: Source | str | None, uri: str | None
) -> Callable[[], Database[Document]]:
    if uri is not None and (database is None or isinstance(database, str)):
        name = database or mongo.database_of(uri) or "lume"
        return lambda: mongo.get_client(uri)[name]
    if uri is None and isinstance(database, Database):
        return lambda: database
    if uri is None and callable(database):
        return database
    raise ConfigurationError(
        "A storage of pipeline results in MongoDB takes either a database of pymongo "
        "(or a function that returns one), or 'uri' and, if the URI does not name it, "
        "the name of the 'database'."
    )
