"""One transaction on pipeline results, repeated when the database asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, exc
from sqlalchemy.pool import StaticPool

from prefect_lume.storage.repeat import (
    is_reference_violation,
    is_transient,
    is_unique_violation,
    repeated,
)
from prefect_lume.storage.sql import prepared, read_only, translated

T = TypeVar("T")

_SECONDS: Final = 30.0


class Transactions:
    """Runs work on an engine.

    Args:
        engine: The database. A SQLite database in memory has a single connection,
            which its threads then use in turn.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = prepared(engine)
        if engine.dialect.name != "sqlite":
            # Whoever waited for a lock has to see what the other one stored.
            self.engine = engine.execution_options(isolation_level="READ COMMITTED")
        self._reader = read_only(self.engine)
        self._is_single = isinstance(engine.pool, StaticPool)
        self._turn: Any = threading.RLock() if self._is_single else nullcontext()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads, and return what it returned.

        Raises:
            StorageError: The database could not answer.
        """
        with translated(self.engine), self._turn, self._reader.connect() as connection:
            return work(connection)

    def stream(self, work: Callable[[Connection], Iterator[T]]) -> Iterator[T]:
        """Yield what work yields that only reads, on a connection of its own.

        Raises:
            StorageError: The database could not answer.
        """
        if self._is_single:
            yield from self.read(lambda connection: list(work(connection)))
            return
        with translated(self.engine), self._reader.connect() as connection:
            yield from work(connection)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run work in one transaction, commit, and return what it returned.

        All of it runs again after a deadlock, or when another writer came in between:
        so it keeps nothing outside the transaction.

        Raises:
            StorageError: The database could not do it.
            ConflictError: A constraint was violated, also at the last attempt.
        """

        def run() -> T:
            with self._turn, self.engine.begin() as connection:
                return work(connection)

        with translated(self.engine):
            return repeated(run, _is_worth_repeating, seconds=_SECONDS)


def _is_worth_repeating(error: exc.DBAPIError) -> bool:
    return (
        is_transient(error)
        or is_unique_violation(error)
        or is_reference_violation(error)
    )
