"""SQLAlchemy engines: one per process and configuration, errors translated once."""

from __future__ import annotations

import atexit
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, exc, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from prefect_lume._optional import EXTRAS
from prefect_lume.errors import (
    ConfigurationError,
    LumeError,
    MissingDependencyError,
    clip,
)
from prefect_lume.storage import _sql_errors

#: How long a SQLite writer waits for another one, in seconds.
SQLITE_BUSY_SECONDS: Final = 30.0
#: The page size of new SQLite files, in bytes.
SQLITE_PAGE_SIZE: Final = 16_384
#: Pages (64 MiB) that the write-ahead log takes before it is worked off: an array of a
#: few megabytes should not wait for that each time.
SQLITE_WAL_PAGES: Final = 4_096

_engines: dict[tuple[int, str], Engine] = {}
_lock = threading.Lock()


def safe_url(url: str | URL | Engine) -> str:
    """Return a database URL without its password and query, to be shown to people.

    Example:
        >>> safe_url("mysql+pymysql://lume:secret@db:3306/registry?ssl_ca=x")
        'mysql+pymysql://lume@db:3306/registry'
    """
    parsed = url.url if isinstance(url, Engine) else make_url(url)
    shown = URL.create(
        parsed.drivername, parsed.username, None, parsed.host, parsed.port
    )
    return shown.set(database=parsed.database).render_as_string()


def get_engine(
    url: str | URL,
    connect_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> Engine:
    """Return the engine of a database: pooled, pre-pinged and safe after a fork.

    One engine is kept per process and configuration, so that every Block, task and
    thread of a process shares one pool. A forked child gets a new one. All are closed
    when the interpreter ends.

    Args:
        url: An SQLAlchemy URL with any driver. A SQLite file's folder is made.
        connect_args: Arguments for the driver's ``connect``.
        **options: Arguments for :func:`sqlalchemy.create_engine`.

    Returns:
        The engine. Nothing is connected yet.

    Raises:
        ConfigurationError: The URL cannot be read or its driver is unknown.
        MissingDependencyError: The driver's package is not installed.

    Example:
        >>> get_engine("sqlite://") is get_engine("sqlite://")
        True
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        # The cause is left out: it may quote the URL, password and all.
        raise ConfigurationError(
            "The database URL cannot be read. It has the form "
            "driver://username:password@host:port/database, with special characters "
            "of the user name and password percent-encoded."
        ) from None
    arguments = dict(connect_args or {})
    key = (os.getpid(), _configuration_key(parsed, arguments, options))
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            engine = _create(parsed, arguments, options)
            _engines[key] = engine
    return engine


def _configuration_key(url: URL, *parts: Mapping[str, Any]) -> str:
    # Hashed, so that no password stays in a dictionary key that a debugger shows.
    # By field, not as text, which leaves out a password that has no user name.
    text = repr([getattr(url, field) for field in url._fields])
    shown = [text, *(repr(sorted(part.items(), key=lambda i: i[0])) for part in parts)]
    return hashlib.sha256("\0".join(shown).encode()).hexdigest()


def _create(url: URL, connect_args: dict[str, Any], options: dict[str, Any]) -> Engine:
    settings: dict[str, Any] = {"pool_pre_ping": True, **options}
    try:
        backend = url.get_backend_name()
    except exc.NoSuchModuleError as error:
        raise _unknown_driver(url) from error
    if backend == "sqlite":
        _prepare_sqlite(url, connect_args, settings)
    else:
        _prepare_server(url, connect_args, settings)
    try:
        engine = create_engine(url, connect_args=connect_args, **settings)
    except exc.NoSuchModuleError as error:
        raise _unknown_driver(url) from error
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in EXTRAS:
            raise MissingDependencyError(
                package, EXTRAS[package], f"The driver {url.drivername!r}"
            ) from error
        raise ConfigurationError(
            f"The driver {url.drivername!r} needs the package {package!r}, which is "
            f"not installed. Install it, or use mysql+pymysql, which comes with "
            f"prefect-lume."
        ) from error
    return prepared(engine)


def prepared(engine: Engine) -> Engine:
    """Let an engine's new connections keep what the stores rely on, and return it.

    Engines from :func:`get_engine` are prepared. For one that was made otherwise, call
    it before the first connection: without it SQLite checks no foreign key, and MySQL
    may cut what is too long.

    Args:
        engine: An engine. Doing it twice is doing it once.
    """
    if engine.dialect.name == "sqlite":
        _listen(engine, "connect", _on_sqlite_connect)
        _listen(engine, "begin", _on_sqlite_begin)
    elif engine.dialect.name in {"mysql", "mariadb"}:
        _listen(engine, "connect", _on_mysql_connect)
    return engine


def _listen(engine: Engine, name: str, listener: Callable[..., None]) -> None:
    if not event.contains(engine, name, listener):
        event.listen(engine, name, listener)


def _prepare_server(
    url: URL, connect_args: dict[str, Any], settings: dict[str, Any]
) -> None:
    settings.setdefault("pool_recycle", 1800)
    settings.setdefault("pool_size", 5)
    settings.setdefault("max_overflow", 20)
    backend = url.get_backend_name()
    if backend in {"mysql", "mariadb", "postgresql"}:
        connect_args.setdefault("connect_timeout", 10)
    if backend in {"mysql", "mariadb"}:
        connect_args.setdefault("charset", "utf8mb4")
        settings.setdefault("isolation_level", "READ COMMITTED")
        if url.get_driver_name() == "pymysql" and url.password:
            # PyMySQL would send text as Latin-1; the servers expect UTF-8.
            connect_args.setdefault("password", str(url.password).encode())


def _unknown_driver(url: URL) -> ConfigurationError:
    return ConfigurationError(
        f"SQLAlchemy knows no driver {clip(url.drivername, 60)!r}. Examples: "
        f"mysql+pymysql, postgresql+psycopg, sqlite."
    )


def _prepare_sqlite(
    url: URL, connect_args: dict[str, Any], settings: dict[str, Any]
) -> None:
    connect_args.setdefault("timeout", SQLITE_BUSY_SECONDS)
    connect_args.setdefault("check_same_thread", False)
    if url.database in {None, "", ":memory:"}:
        settings.setdefault("poolclass", StaticPool)
    elif url.database and not url.database.startswith("file:"):
        folder = Path(url.database).expanduser().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The folder {clip(folder)} of the SQLite file cannot be made: "
                f"{error.strerror}."
            ) from error


def _on_sqlite_connect(
    connection: sqlite3.Connection, _record: ConnectionPoolEntry
) -> None:
    # SQLAlchemy's recipe for real transactions: the driver must not begin its own.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={int(SQLITE_BUSY_SECONDS * 1000)}")
        cursor.execute("PRAGMA synchronous=NORMAL")
        # Counts in a new file only: blobs are written in half the time.
        cursor.execute(f"PRAGMA page_size={SQLITE_PAGE_SIZE}")
        cursor.execute(f"PRAGMA wal_autocheckpoint={SQLITE_WAL_PAGES}")
        mode = cursor.execute("PRAGMA journal_mode").fetchone()
        if mode and mode[0] != "wal":
            try:
                cursor.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                # A read-only file keeps the journal it has; reading works all the same.
                if "readonly" not in str(error):
                    raise
    finally:
        cursor.close()


def _on_sqlite_begin(connection: Any) -> None:
    # A transaction that reads first and writes later would fail at once, whatever the
    # busy timeout, when another writer came between: take the lock at the start.
    options = connection.get_execution_options()
    verb = "BEGIN" if options.get("lume_read_only") else "BEGIN IMMEDIATE"
    connection.exec_driver_sql(verb)


def _on_mysql_connect(
    connection: DBAPIConnection, _record: ConnectionPoolEntry
) -> None:
    cursor = connection.cursor()
    try:
        # Rejected instead of truncated, whatever the server's own default is.
        cursor.execute(
            "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), "
            "time_zone = '+00:00'"
        )
    finally:
        cursor.close()


@contextmanager
def translated(where: str | URL | Engine) -> Iterator[None]:
    """Turn drivers' and SQLAlchemy's exceptions into :mod:`prefect_lume.errors`.

    Args:
        where: The database, for the message. Its password is left out.

    Raises:
        StorageError: Or the member of it that fits.
        ConflictError: A unique or foreign key constraint was violated.
    """
    try:
        yield
    except LumeError:
        raise
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        shown = where if isinstance(where, str) and "://" not in where else None
        raise _sql_errors.translate(error, shown or safe_url(where)) from error


def read_only(engine: Engine) -> Engine:
    """Return the same engine for transactions that only read.

    On SQLite they do not take the write lock; elsewhere nothing differs.
    """
    return engine.execution_options(lume_read_only=True)


def check(engine: Engine) -> str:
    """Connect once, ask the simplest question, and return the server's version.

    Raises:
        StorageError: The member of it that says what is wrong.

    Example:
        >>> check(get_engine("sqlite://")).startswith("3.")
        True
    """
    with translated(engine), read_only(engine).connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        info = connection.dialect.server_version_info or ()
        if connection.dialect.name == "sqlite":
            return sqlite3.sqlite_version
        return ".".join(str(part) for part in info)


def close_all() -> None:
    """Close every pooled connection of this process."""
    with _lock:
        own = [key for key in _engines if key[0] == os.getpid()]
        engines = [_engines.pop(key) for key in own]
    for engine in engines:
        engine.dispose()


def _forget_after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it during the fork.
    _lock = threading.Lock()
    # Connections inherited through fork() are shared with the parent process: never
    # use them, and never close them (closing would end the parent's sessions).
    for engine in _engines.values():
        engine.dispose(close=False)
    _engines.clear()


atexit.register(close_all)
os.register_at_fork(after_in_child=_forget_after_fork)

__all__ = [
    "SQLITE_BUSY_SECONDS",
    "check",
    "close_all",
    "get_engine",
    "prepared",
    "read_only",
    "safe_url",
    "translated",
]
