"""Run a piece of work in one SQL transaction; again, when that is the remedy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, exc
from sqlalchemy.pool import StaticPool

from prefect_lume.errors import ConflictError
from prefect_lume.storage import sql
from prefect_lume.storage.repeat import is_transient, pause

T = TypeVar("T")

_ATTEMPTS: Final = 6


class RepeatedConflictError(ConflictError):
    """A conflict of work that ran again after its connection was lost.

    It may be a conflict with itself: the first run may have been committed.
    """


class Transactions:
    """Runs work on an engine: translated errors, deadlocks and losses repeated.

    Args:
        engine: The database. A SQLite database in memory has a single connection,
            which its threads then use in turn.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reader = sql.read_only(engine)
        single = isinstance(engine.pool, StaticPool)
        self._turn: Any = threading.RLock() if single else nullcontext()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run work in a transaction, commit it, and return what it returned.

        Raises:
            ConflictError: A constraint was violated.
            StorageError: The database refused, or could not be reached.
        """
        return self._run(self.engine, work)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads."""
        return self._run(self._reader, work)

    def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        lost = False
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._turn, engine.begin() as connection:
                    return work(connection)
            except exc.DBAPIError as error:
                if lost and isinstance(error, exc.IntegrityError):
                    raise RepeatedConflictError(str(error.orig)) from error
                if attempt == _ATTEMPTS or not _worth_repeating(error, again=lost):
                    with sql.translated(engine):
                        raise
                lost = lost or bool(error.connection_invalidated)
                pause(attempt)
            except exc.SQLAlchemyError:
                with sql.translated(engine):
                    raise
        raise AssertionError("unreachable")


def _worth_repeating(error: exc.DBAPIError, *, again: bool) -> bool:
    if error.connection_invalidated:
        # Once: a server that is gone stays gone for longer than a retry takes.
        return not again
    return is_transient(error)
