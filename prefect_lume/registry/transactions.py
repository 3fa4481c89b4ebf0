"""One transaction, repeated when the database asks for it. The only such place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, exc

from prefect_lume.errors import LumeError
from prefect_lume.registry.ledger import Transaction, has_happened
from prefect_lume.registry.records import RegistryEvent
from prefect_lume.storage.repeat import (
    is_lost_connection,
    is_reference_violation,
    is_transient,
    is_unique_violation,
    is_unreachable,
    repeated,
)
from prefect_lume.storage.sql import translated

_T = TypeVar("_T")

#: So long, in seconds, and so often a transaction is begun again: time enough for a
#: server to restart.
_SECONDS: Final = 30.0
_ATTEMPTS: Final = 100
#: So often after a row that is referred to was not there, or did stay.
_REFERENCES: Final = 5


class _Patience:
    """Judges which exceptions are worth another attempt."""

    def __init__(self) -> None:
        self.was_lost = False
        self._references = 0

    def __call__(self, error: exc.DBAPIError) -> bool:
        if is_lost_connection(error):
            self.was_lost = True
            return True
        # A server that was there a moment ago is restarting; another one is not there.
        return self.was_lost and is_unreachable(error)

    def with_references(self, error: exc.DBAPIError) -> bool:
        """Judge the violation of a reference.

        A row that was there at the look was removed since: the next look says so. But
        another program's table may refer to a row of ours, which no repetition helps.
        """
        self._references += is_reference_violation(error)
        return is_reference_violation(error) and self._references <= _REFERENCES


def read(engine: Engine, work: Callable[[Connection], _T]) -> _T:
    """Run ``work`` in a transaction that writes nothing, and return what it returns.

    When the connection is lost it runs again, on a new one, for as long as a server
    takes to restart.

    Args:
        engine: The database; on SQLite, as :func:`storage.sql.read_only` gives it, it
            takes no lock.
        work: What to ask.

    Raises:
        StorageError: The database could not answer.
    """
    try:
        with engine.connect() as connection:
            return work(connection)
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        failed = [error]

    def again() -> _T:
        if failed:
            raise failed.pop()
        with engine.connect() as connection:
            return work(connection)

    with translated(engine):
        return repeated(again, _Patience(), seconds=_SECONDS, attempts=_ATTEMPTS)


def write(
    engine: Engine,
    work: Callable[[Transaction], _T],
    *,
    actor: str,
    reason: str = "",
    preview: bool = False,
) -> tuple[_T, tuple[RegistryEvent, ...]]:
    """Run ``work`` in one transaction, commit, and return what it returned.

    After a deadlock the whole of ``work`` runs again, with growing random pauses. It
    also runs again after a unique violation: then another writer stored the same thing
    between our look and our write, and the next look finds it; likewise, a few times,
    when a row that is referred to was removed in between. And it runs again when
    the connection was lost, unless the events of the lost attempt are in the database:
    then it did happen, and what it had returned is returned. So ``work`` looks before
    it writes, and keeps no state outside the transaction.

    Args:
        engine: The database.
        work: What to do.
        actor: Who does it, for the history.
        reason: Why, likewise.
        preview: Whether to take everything back instead of committing it.

    Returns:
        What ``work`` returned, and the events that it wrote.

    Raises:
        StorageError: The database could not do it.
        ConflictError: A constraint was violated, also at the last attempt.
    """
    lost: list[tuple[_T, Transaction]] = []
    patience = _Patience()

    def did_happen(connection: Connection) -> bool:
        return bool(lost) and has_happened(connection, lost[-1][1].change_id)

    def run() -> tuple[_T, Transaction]:
        transaction: Transaction
        with engine.connect() as connection, connection.begin() as unit:
            transaction = Transaction(connection, actor, reason)
            if did_happen(connection):
                return lost[-1]
            try:
                result = work(transaction)
            except LumeError:
                # By now no other session holds the locks: what was on its way is there.
                if not did_happen(connection):
                    raise
                unit.rollback()
                return lost[-1]
            if did_happen(connection):
                unit.rollback()
                return lost[-1]
            transaction.flush()
            if preview:
                unit.rollback()
                return result, transaction
            lost[:] = [(result, transaction)] if transaction.events else []
        return result, transaction

    def is_worth_repeating(error: exc.DBAPIError) -> bool:
        again = is_transient(error) or is_unique_violation(error)
        return again or patience(error) or patience.with_references(error)

    with translated(engine):
        result, transaction = repeated(
            run, is_worth_repeating, seconds=_SECONDS, attempts=_ATTEMPTS
        )
    return result, tuple(transaction.events)
