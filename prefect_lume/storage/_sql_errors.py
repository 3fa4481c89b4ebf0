"""What the SQL drivers' exceptions mean, dialect by dialect, at one place."""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from sqlalchemy import exc

from prefect_lume.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    DatabaseMissingError,
    InvalidInputError,
    LumeError,
    PermissionDeniedError,
    SchemaError,
    StorageError,
    TLSError,
    clip,
)

_FULL: Final = "The disk is full. Nothing of it was stored: make room, and try again."
_NO_CONNECTION: Final = (
    "The server has no connection left. Close some, or let it have more."
)

#: MySQL and MariaDB: error number → class and remedy.
_MYSQL: Final[dict[int, tuple[type[StorageError], str]]] = {
    1044: (
        PermissionDeniedError,
        "The user may not use this database. Grant it, or name another user.",
    ),
    1045: (
        AuthenticationError,
        "The server refused the user, the password or this host.",
    ),
    1049: (
        DatabaseMissingError,
        "The server has no such database. Create it, or correct its name.",
    ),
    1142: (PermissionDeniedError, "The user may not do this to the table."),
    1143: (PermissionDeniedError, "The user may not do this to the column."),
    1146: (SchemaError, "A table is missing. Run: prefect-lume db upgrade"),
    1290: (PermissionDeniedError, "The server runs read-only."),
    1698: (
        AuthenticationError,
        "The server does not let this user log in with a password.",
    ),
    1227: (PermissionDeniedError, "The user lacks a privilege."),
    1251: (AuthenticationError, "Server and driver share no authentication method."),
    1021: (StorageError, _FULL),
    1114: (StorageError, _FULL),
    1153: (StorageError, "The server's max_allowed_packet must be 16 MiB or more."),
    1792: (PermissionDeniedError, "The transaction or server is read-only."),
    1836: (PermissionDeniedError, "The server runs read-only."),
    1040: (ConnectionFailedError, _NO_CONNECTION),
    1203: (ConnectionFailedError, "The user has no connection left. Close some."),
    1226: (ConnectionFailedError, "The user has used up what the server allows."),
    1053: (ConnectionFailedError, "The server is shutting down."),
    2006: (ConnectionFailedError, "The server closed the connection."),
    2013: (ConnectionFailedError, "The connection was lost during the statement."),
    2055: (ConnectionFailedError, "The connection was lost."),
    2026: (TLSError, "The encrypted connection failed. Check the TLS fields."),
    3159: (TLSError, "The server asks for an encrypted connection: set TLS."),
}

#: PostgreSQL: SQLSTATE → class and remedy.
_POSTGRESQL: Final[dict[str, tuple[type[StorageError], str]]] = {
    "28000": (AuthenticationError, "The server refused the user."),
    "28P01": (AuthenticationError, "The server refused the password."),
    "3D000": (
        DatabaseMissingError,
        "The server has no such database. Create it, or correct its name.",
    ),
    "53100": (StorageError, _FULL),
    "53300": (ConnectionFailedError, _NO_CONNECTION),
    "57P01": (ConnectionFailedError, "The server is shutting down."),
    "57P03": (ConnectionFailedError, "The server is starting up. Try again."),
    "42501": (PermissionDeniedError, "The user may not do this."),
    "25006": (PermissionDeniedError, "The transaction or server is read-only."),
    "42P01": (SchemaError, "A table is missing. Run: prefect-lume db upgrade"),
}

_UNKNOWN_HOST = re.compile(
    r"name or service not known|nodename nor servname|getaddrinfo failed|"
    r"temporary failure in name resolution|no address associated|could not translate",
    re.IGNORECASE,
)
_LOST = re.compile(r"closed the connection|connection.*(lost|failed|reset)", re.I)
_REFUSED = re.compile(r"refused|errno 111|errno 61\b", re.IGNORECASE)
_TIMEOUT = re.compile(r"timed? ?out", re.IGNORECASE)
_TLS = re.compile(r"\bssl\b|\btls\b|certificate", re.IGNORECASE)
_PG_PASSWORD = re.compile(r"password authentication failed|no password", re.I)
_PG_DATABASE = re.compile(r'database "[^"]*" does not exist', re.IGNORECASE)
_NO_SPACE = re.compile(
    r"disk is full|no space left|(errcode|got error):? 28\b", re.IGNORECASE
)
_TOO_MANY = re.compile(
    r"too many (clients|connections)|remaining connection slots", re.IGNORECASE
)
_CAUSE = re.compile(r"\(([^()]*Errno[^()]*)\)")


def translate(error: BaseException, where: str) -> LumeError:
    """Return the error of ours that says what a driver's exception means.

    Args:
        error: An SQLAlchemy or DB-API exception.
        where: The database without any secret.
    """
    original = getattr(error, "orig", None) or error
    code, text = _code(original), str(original)
    if isinstance(error, exc.IntegrityError | sqlite3.IntegrityError):
        return ConflictError(f"{where}: a constraint was violated: {clip(text)}")
    if isinstance(code, int) and code in _MYSQL:
        kind, remedy = _MYSQL[code]
        return kind(f"{where}: {remedy} ({clip(_tail(original))})", where)
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str) and state in _POSTGRESQL:
        kind, remedy = _POSTGRESQL[state]
        return kind(f"{where}: {remedy}", where)
    # A plain StatementError is a value that SQLAlchemy itself could not bind.
    if isinstance(error, exc.DataError) or type(error) is exc.StatementError:
        return InvalidInputError(f"{where}: a value does not fit: {clip(text)}")
    return _by_text(error, text, where)


def _code(original: BaseException) -> object:
    return original.args[0] if original.args else None


def _tail(original: BaseException) -> str:
    return str(original.args[1]) if len(original.args) > 1 else str(original)


def _by_text(error: BaseException, text: str, where: str) -> LumeError:
    if isinstance(error, exc.TimeoutError):
        return ConnectionFailedError(
            f"{where}: all connections that this process may open are in use, and none "
            f"became free in time. Use fewer threads, or give get_engine a larger "
            f"pool_size.",
            where,
        )
    if _NO_SPACE.search(text):
        return StorageError(f"{where}: {_FULL}", where)
    if _TOO_MANY.search(text):
        return ConnectionFailedError(f"{where}: {_NO_CONNECTION}", where)
    if _TLS.search(text):
        return TLSError(
            f"{where}: the encrypted connection failed: {clip(text)} "
            f"Check the TLS fields and the server's certificate.",
            where,
        )
    if _UNKNOWN_HOST.search(text):
        return ConnectionFailedError(
            f"{where}: unknown host. Check the host's name and the network.", where
        )
    if _REFUSED.search(text):
        return ConnectionFailedError(
            f"{where}: connection refused. Is the server running on that port?", where
        )
    if _PG_PASSWORD.search(text):
        return AuthenticationError(
            f"{where}: the server refused the user name or the password.", where
        )
    if _PG_DATABASE.search(text):
        return DatabaseMissingError(
            f"{where}: the server has no such database. Create it, or correct its "
            f"name.",
            where,
        )
    if _TIMEOUT.search(text):
        return ConnectionFailedError(f"{where}: no answer in time.", where)
    return _sqlite_or_other(error, text, where)


def _sqlite_or_other(error: BaseException, text: str, where: str) -> LumeError:
    if "no such table" in text:
        return SchemaError(
            f"{where}: a table is missing. Run: prefect-lume db upgrade", where
        )
    if "readonly database" in text or "read-only" in text:
        return PermissionDeniedError(f"{where}: the database is read-only.", where)
    if "unable to open database file" in text:
        return ConnectionFailedError(
            f"{where}: the file cannot be opened. Check that its folder exists and "
            f"may be written.",
            where,
        )
    if "database is locked" in text:
        return StorageError(
            f"{where}: another process holds the file's lock for too long.", where
        )
    if "not a database" in text:
        return StorageError(f"{where}: the file is not a SQLite database.", where)
    lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    disconnected = isinstance(error, exc.InterfaceError | exc.DisconnectionError)
    if lost or disconnected or _LOST.search(text):
        cause = _CAUSE.search(text)
        why = cause.group(1) if cause else clip(text)
        return ConnectionFailedError(f"{where}: the connection was lost: {why}", where)
    return StorageError(f"{where}: {clip(text)}", where)
