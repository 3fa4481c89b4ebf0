"""One transaction, repeated when the database asks for it. The only such place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Engine, exc
from sqlalchemy.orm import Session

from prefect_lume.storage.repeat import is_transient, is_unique_violation, repeated
from prefect_lume.storage.sql import read_only, translated

_T = TypeVar("_T")

_SECONDS: Final = 20.0


def read(engine: Engine, work: Callable[[Session], _T]) -> _T:
    """Run ``work`` in a transaction that writes nothing, and return what it returns.

    Raises:
        StorageError: The database could not answer.
    """
    with translated(engine), Session(read_only(engine)) as session:
        return work(session)


def write(engine: Engine, work: Callable[[Session], _T]) -> _T:
    """Run ``work`` in one transaction, commit, and return what it returned.

    After a deadlock the whole of ``work`` runs again, at most ten times and for 20
    seconds, with growing random pauses. It also runs again after a unique violation:
    then another writer stored the same thing between our look and our write, and the
    next look finds it. So ``work`` looks before it writes, and keeps no state outside
    the session.

    Raises:
        StorageError: The database could not do it.
        ConflictError: A constraint was violated, also at the last attempt.
    """

    def run() -> _T:
        with Session(engine) as session, session.begin():
            return work(session)

    with translated(engine):
        return repeated(run, _is_worth_repeating, seconds=_SECONDS)


def _is_worth_repeating(error: exc.DBAPIError) -> bool:
    return is_transient(error) or is_unique_violation(error)
