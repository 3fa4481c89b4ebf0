"""MongoDB clients: one per process and configuration, errors translated once."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from bson.errors import BSONError
from pymongo import MongoClient, uri_parser
from pymongo import errors as driver
from pymongo.driver_info import DriverInfo

from prefect_lume.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    LumeError,
    PermissionDeniedError,
    StorageError,
    TLSError,
    clip,
)

Client = MongoClient[dict[str, Any]]
T = TypeVar("T")

#: What pymongo raises.
FAULTS: Final = (driver.PyMongoError, BSONError)

_CODES: Final[dict[int, tuple[type[StorageError], str]]] = {
    13: (PermissionDeniedError, "The user may not do this (or is not logged in)."),
    18: (
        AuthenticationError,
        "The server refused the user, password or authentication source.",
    ),
    8000: (AuthenticationError, "The server refused the user name or the password."),
    10107: (ConnectionFailedError, "The server is no longer the primary."),
    14031: (StorageError, "The server's disk is full."),
}
#: What documents may cause: too large, or a list where an index allows none.
_DOCUMENT_CODES: Final = frozenset({171, 10334, 17280, 17419, 17420})
_WRITE_CONFLICT: Final = 112
_DEADLOCK = re.compile("deadlock detected|could not serialize")
_TOO_LARGE = re.compile(r"larger than MaxDocumentSize|exceeds maxBsonObjectSize")
# Servers that keep their data in another database pass its words on.
_WORDS: Final[tuple[tuple[str, type[StorageError], str], ...]] = (
    ("no space left", StorageError, "The server's disk is full."),
    ("could not extend file", StorageError, "The server's disk is full."),
    (
        "too many clients|connection slots|too many connections",
        StorageError,
        "The server has no free connection. Use fewer clients, or raise its limit.",
    ),
    (
        (
            "database system|terminating conn|failed to connect|connection re"
            "|conn closed|unexpected eof|broken pipe"
        ),
        ConnectionFailedError,
        "The server lost its database, or is starting or stopping. Try again.",
    ),
    (
        "read-only|not authorized|permission denied",
        PermissionDeniedError,
        "The user may not do this (or is not logged in).",
    ),
)
# Up to the last "@": a password that was not percent-encoded may hold "/" or "@".
_PASSWORD = re.compile(r"//.*@")
_UNKNOWN_HOST = re.compile(
    r"name or service not known|name resolution|nodename nor servname|no address assoc"
)
_clients: dict[tuple[int, str], Client] = {}
_lock = threading.Lock()


def safe_uri(uri: str) -> str:
    """Return a MongoDB URI without user, password and options, to be shown.

    Example:
        >>> safe_uri("mongodb://lume:secret@db:27017/results?authSource=admin")
        'mongodb://db:27017/results'
    """
    return _PASSWORD.sub("//", uri).partition("?")[0]


def get_client(uri: str, **options: Any) -> Client:
    """Return the client of a MongoDB server: pooled, thread-safe, new after a fork.

    One client is kept per process and configuration. All are closed when the
    interpreter ends. Dates are returned with their zone (UTC).

    Args:
        uri: ``mongodb://`` or ``mongodb+srv://``; special characters of the user name
            and password percent-encoded.
        **options: Arguments for :class:`pymongo.MongoClient`. The time to find a
            server is 10 s unless ``serverSelectionTimeoutMS`` says otherwise.

    Returns:
        The client. Nothing is connected yet, except that ``mongodb+srv`` asks the DNS.

    Raises:
        ConfigurationError: The URI or an option cannot be read.
        ConnectionFailedError: ``mongodb+srv`` found no server in the DNS.

    Example:
        >>> uri = "mongodb://localhost:27017"
        >>> get_client(uri) is get_client(uri)
        True
    """
    arguments: dict[str, Any] = {
        "serverSelectionTimeoutMS": 10_000,
        "connectTimeoutMS": 10_000,
        "tz_aware": True,
        "appname": "prefect-lume",
        **options,
    }
    shown = repr((uri, sorted(arguments.items(), key=lambda item: item[0])))
    key = (os.getpid(), hashlib.sha256(shown.encode()).hexdigest())
    with _lock:
        client = _clients.get(key)
        if client is None:
            client = _create(uri, arguments)
            _clients[key] = client
    return client


def _create(uri: str, arguments: dict[str, Any]) -> Client:
    where = safe_uri(uri)
    try:
        return MongoClient(uri, driver=DriverInfo("prefect-lume"), **arguments)
    except driver.ConfigurationError as error:
        if "DNS" in str(error) or "SRV" in str(error).upper().split():
            raise ConnectionFailedError(
                f"{where}: the DNS names no MongoDB servers for this host. Check the "
                f"name, or use mongodb:// with the servers' own names.",
                where,
            ) from error
        raise _unreadable(where, error) from None
    except (driver.InvalidURI, ValueError, TypeError) as error:
        raise _unreadable(where, error) from None


def _unreadable(where: str, error: Exception) -> ConfigurationError:
    # The cause is left out of the chain: it may quote the URI, password and all.
    what = clip(_PASSWORD.sub("//", str(error)), 160)
    if isinstance(error, driver.InvalidURI) and "escaped" in what:
        what = "the user name and password must be percent-encoded"
    return ConfigurationError(f"The MongoDB settings cannot be used ({where}): {what}.")


def database_of(uri: str) -> str:
    """Return the database that a URI names, or ``""``.

    Example:
        >>> database_of("mongodb://localhost/results")
        'results'
    """
    if uri.startswith("mongodb+srv://"):
        # Parsed by hand: pymongo's parser would ask the DNS.
        path = uri.removeprefix("mongodb+srv://").partition("/")[2]
        return path.partition("?")[0]
    try:
        return uri_parser.parse_uri(uri)["database"] or ""
    except (driver.PyMongoError, ValueError) as error:
        raise _unreadable(safe_uri(uri), error) from None


def repeated(action: Callable[[], T]) -> T:
    """Do something on a server, and again if the connection was lost meanwhile.

    It is also done again if another's work was in the way. At the fourth time the
    error is raised.

    Args:
        action: It must do no harm if it was done already: that is not known.

    Returns:
        What it returned.
    """
    for _ in range(3):
        try:
            return action()
        except driver.PyMongoError as error:
            if not is_transient(error):
                raise
    return action()


def is_transient(error: driver.PyMongoError | BSONError) -> bool:
    """Tell whether a request is worth being repeated; it may have been carried out.

    When no server was found, or no connection became free, the driver has waited for
    it already.
    """
    if isinstance(error, driver.OperationFailure):
        return error.code == _WRITE_CONFLICT or bool(_DEADLOCK.search(str(error)))
    return isinstance(error, driver.AutoReconnect) and not isinstance(
        error, driver.ServerSelectionTimeoutError | driver.WaitQueueTimeoutError
    )


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn pymongo's exceptions into :mod:`prefect_lume.errors`.

    Args:
        where: The server and database, for the message, without any secret.

    Raises:
        StorageError: Or the member of it that fits.
        ConflictError: A unique index was violated.
    """
    try:
        yield
    except LumeError:
        raise
    except FAULTS as error:
        raise translate(error, where) from error


def translate(error: driver.PyMongoError | BSONError, where: str) -> LumeError:
    """Return the error of ours that says what an exception of pymongo means."""
    if isinstance(error, driver.DuplicateKeyError):
        return ConflictError(f"{where}: a document of that key exists already.")
    if isinstance(error, BSONError):
        return InvalidInputError(f"{where}: {clip(error)}")
    if isinstance(error, driver.OperationFailure):
        return _refused(error, where)
    if isinstance(error, driver.WaitQueueTimeoutError):
        return ConnectionFailedError(
            f"{where}: all connections of this process were in use for too long. Use "
            f"fewer threads, or raise maxPoolSize or waitQueueTimeoutMS.",
            where,
        )
    if isinstance(error, driver.ConnectionFailure):
        return _unreachable(str(error), where)
    if isinstance(error, driver.ConfigurationError):
        return ConfigurationError(f"{where}: {clip(_PASSWORD.sub('//', str(error)))}")
    return StorageError(f"{where}: {clip(error)}", where)


def _refused(error: driver.OperationFailure, where: str) -> LumeError:
    if error.code == 11000:
        return ConflictError(f"{where}: a document of that key exists already.")
    if error.code in _CODES:
        kind, remedy = _CODES[error.code]
        return kind(f"{where}: {remedy}", where)
    if error.code in _DOCUMENT_CODES or _TOO_LARGE.search(str(error)):
        return InvalidInputError(f"{where}: {clip(error)}")
    for words, kind, remedy in _WORDS:
        if re.search(words, str(error), re.IGNORECASE):
            return kind(f"{where}: {remedy} ({clip(error, 120)})", where)
    return StorageError(f"{where}: {clip(error)} (code {error.code})", where)


def _unreachable(text: str, where: str) -> StorageError:
    lower = text.lower()
    if "ssl" in lower or "certificate" in lower or "tls" in lower:
        return TLSError(
            f"{where}: the encrypted connection failed: {clip(text, 160)} Check the "
            f"TLS fields and the server's certificate.",
            where,
        )
    if _UNKNOWN_HOST.search(lower):
        why = "unknown host. Check the host's name and the network."
    elif "refused" in lower:
        why = "connection refused. Is the server running on that port?"
    elif "timed out" in lower or "timeout" in lower:
        why = "no answer in time."
    else:
        why = f"no server can be used: {clip(text, 160)}"
    return ConnectionFailedError(f"{where}: {why}", where)


def check(client: Client, database: str) -> str:
    """Connect, log in, look into one database, and return the server's version.

    Raises:
        StorageError: The member of it that says what is wrong.
    """
    where = describe(client, database)
    with translated(where):
        version = str(client.server_info()["version"])
        # `buildInfo` needs no login: listing does.
        client[database].list_collection_names()
    return version


def describe(client: Client, database: str = "") -> str:
    """Return a client's seeds and database as text without any secret."""
    hosts = ",".join(f"{host}:{port}" for host, port in _seeds(client))
    return f"mongodb://{hosts}/{database}"


def _seeds(client: Client) -> list[tuple[str, int]]:
    description = client.topology_description
    return sorted(
        (str(host), int(port or 0)) for host, port in description.server_descriptions()
    )


def close_all() -> None:
    """Close every client of this process."""
    with _lock:
        own = [key for key in _clients if key[0] == os.getpid()]
        clients = [_clients.pop(key) for key in own]
    for client in clients:
        client.close()


def _forget_after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it during the fork.
    _lock = threading.Lock()
    # Not closed: the sockets are the parent's. pymongo must not be used after a fork.
    _clients.clear()


atexit.register(close_all)
os.register_at_fork(after_in_child=_forget_after_fork)
