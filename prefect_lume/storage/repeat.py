"""Which SQL transactions are worth repeating, and how long to wait before."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import exc

T = TypeVar("T")

_ATTEMPTS: Final = 10

#: MySQL and MariaDB: deadlock, lock wait timeout, row changed since it was read.
_MYSQL_TRANSIENT: Final = frozenset({1213, 1205, 1020})
#: MySQL and MariaDB: duplicate entry.
_MYSQL_UNIQUE: Final = frozenset({1062, 1586})
#: PostgreSQL: serialisation failure, deadlock, lock not available.
_POSTGRESQL_TRANSIENT: Final = frozenset({"40001", "40P01", "55P03"})
_POSTGRESQL_UNIQUE: Final = "23505"
_SQLITE_UNIQUE: Final = frozenset(
    {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"}
)


#: MySQL and MariaDB: a row refers to none; a row is referred to.
_MYSQL_REFERENCE: Final = frozenset({1452, 1451, 1216, 1217})
_POSTGRESQL_REFERENCE: Final = frozenset({"23503", "23001"})
_SQLITE_REFERENCE: Final = "SQLITE_CONSTRAINT_FOREIGNKEY"


def is_unique_violation(error: exc.DBAPIError) -> bool:
    """Tell whether an exception means that a unique key exists already."""
    original = error.orig
    if getattr(original, "sqlstate", None) == _POSTGRESQL_UNIQUE:
        return True
    if getattr(original, "sqlite_errorname", "") in _SQLITE_UNIQUE:
        return True
    return _number(error) in _MYSQL_UNIQUE


def is_reference_violation(error: exc.DBAPIError) -> bool:
    """Tell whether an exception means that a row referred to is not there, or stays."""
    original = error.orig
    if getattr(original, "sqlstate", None) in _POSTGRESQL_REFERENCE:
        return True
    if getattr(original, "sqlite_errorname", "") == _SQLITE_REFERENCE:
        return True
    return _number(error) in _MYSQL_REFERENCE


def is_transient(error: exc.DBAPIError) -> bool:
    """Tell whether an exception says that the same transaction may pass next time."""
    original = error.orig
    if getattr(original, "sqlstate", None) in _POSTGRESQL_TRANSIENT:
        return True
    if getattr(original, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
        return True
    return _number(error) in _MYSQL_TRANSIENT


#: MySQL and MariaDB: the session or the server went away, or is on its way out.
_MYSQL_LOST: Final = frozenset({1053, 1927, 2006, 2013, 2055, 3169, 4031})
#: MySQL and MariaDB: nobody listens there (any more, or yet).
_MYSQL_UNREACHABLE: Final = frozenset({2002, 2003})
#: PostgreSQL: shutting down, crashed, starting up.
_POSTGRESQL_LOST: Final = frozenset({"57P01", "57P02", "57P03"})


def is_lost_connection(error: exc.DBAPIError) -> bool:
    """Tell whether the session ended under a transaction, or the server is not up.

    After that nobody knows whether a COMMIT that was on its way has happened.
    """
    if error.connection_invalidated or _number(error) in _MYSQL_LOST:
        return True
    state = getattr(error.orig, "sqlstate", None)
    return state in _POSTGRESQL_LOST or str(state or "").startswith("08")


def is_unreachable(error: exc.DBAPIError) -> bool:
    """Tell whether no connection could be made at all."""
    if _number(error) in _MYSQL_UNREACHABLE:
        return True
    without_state = getattr(error.orig, "sqlstate", "") is None
    return without_state and isinstance(error, exc.OperationalError)


def _number(error: exc.DBAPIError) -> object:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments else None


def pause(attempt: int) -> None:
    """Wait before the next attempt: randomly, and longer each time, to 0.5 s.

    Args:
        attempt: How many attempts there were, from 1.
    """
    # Random, so that two writers that met do not meet again. No secret here.
    time.sleep(random.uniform(0, min(0.5, 0.01 * 2**attempt)))  # noqa: S311


def repeated(
    run: Callable[[], T],
    is_worth_repeating: Callable[[exc.DBAPIError], bool],
    *,
    seconds: float,
    attempts: int = _ATTEMPTS,
) -> T:
    """Run a transaction, and again when it may pass, with pauses.

    Args:
        run: The whole transaction; it keeps nothing outside of it.
        is_worth_repeating: Tells whether to run it again after this exception.
        seconds: It is not begun again after so many.
        attempts: How often it is begun at most.

    Raises:
        sqlalchemy.exc.DBAPIError: It was of no use to go on.
    """
    deadline = time.monotonic() + seconds
    for attempt in range(1, attempts + 1):
        try:
            return run()
        except exc.DBAPIError as error:
            last = attempt == attempts or time.monotonic() > deadline
            if last or not is_worth_repeating(error):
                raise
        pause(attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")
