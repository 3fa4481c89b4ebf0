"""One transaction, repeated when the database asks for it. The only such place."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Engine, exc
from sqlalchemy.orm import Session

from prefect_lume.storage.sql import read_only, translated

_T = TypeVar("_T")

_ATTEMPTS: Final = 10
_SECONDS: Final = 20.0

#: MySQL and MariaDB: deadlock, lock wait timeout, row changed since it was read.
_MYSQL_TRANSIENT: Final = frozenset({1213, 1205, 1020})
#: MySQL and MariaDB: duplicate entry.
_MYSQL_UNIQUE: Final = frozenset({1062, 1586})
#: PostgreSQL: serialisation failure, deadlock, lock not available.
_POSTGRESQL_TRANSIENT: Final = frozenset({"40001", "40P01", "55P03"})
_POSTGRESQL_UNIQUE: Final = "23505"


def is_unique_violation(error: exc.DBAPIError) -> bool:
    """Tell whether an exception means that a unique key exists already."""
    original = error.orig
    if getattr(original, "sqlstate", None) == _POSTGRESQL_UNIQUE:
        return True
    if getattr(original, "sqlite_errorname", "") in {
        "SQLITE_CONSTRAINT_UNIQUE",
        "SQLITE_CONSTRAINT_PRIMARYKEY",
    }:
        return True
    return _number(error) in _MYSQL_UNIQUE


def is_transient(error: exc.DBAPIError) -> bool:
    """Tell whether an exception says that the same transaction may pass next time."""
    original = error.orig
    if getattr(original, "sqlstate", None) in _POSTGRESQL_TRANSIENT:
        return True
    if getattr(original, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
        return True
    return _number(error) in _MYSQL_TRANSIENT


def _number(error: exc.DBAPIError) -> object:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments else None


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
    deadline = time.monotonic() + _SECONDS
    with translated(engine):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with Session(engine) as session, session.begin():
                    return work(session)
            except exc.DBAPIError as error:
                again = is_transient(error) or is_unique_violation(error)
                if not again or attempt == _ATTEMPTS or time.monotonic() > deadline:
                    raise
            # Random, so that two writers that met do not meet again. No secret here.
            time.sleep(random.uniform(0, min(0.5, 0.01 * 2**attempt)))  # noqa: S311
    raise AssertionError("unreachable: the last attempt returns or raises")
