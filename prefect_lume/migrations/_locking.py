"""One migration at a time, whoever starts it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, text

from prefect_lume.errors import SchemaError
from prefect_lume.storage.sql import safe_url

#: How long a MySQL or MariaDB session waits for another one's migration, in seconds.
_SECONDS: Final = 300
#: PostgreSQL's advisory locks are numbers of 64 bits; this one spells "lumeschm".
_POSTGRESQL_KEY: Final = int.from_bytes(b"lumeschm")


@contextmanager
def exclusive(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction which no other migration runs beside.

    SQLite locks the file when the transaction begins, PostgreSQL takes an advisory
    lock that ends with the transaction, and MySQL and MariaDB a named lock, which they
    give back when the session ends, whatever happens to it.

    Raises:
        SchemaError: Another migration of this database did not end in time.
    """
    with engine.connect() as connection:
        name = connection.dialect.name
        if name in {"mysql", "mariadb"}:
            with _named_lock(connection), connection.begin():
                yield connection
        else:
            with connection.begin():
                if name == "postgresql":
                    connection.execute(
                        text("SELECT pg_advisory_xact_lock(:key)"),
                        {"key": _POSTGRESQL_KEY},
                    )
                yield connection


@contextmanager
def _named_lock(connection: Connection) -> Iterator[None]:
    # The server's locks are its own, not the database's, and their names are short.
    database = str(connection.engine.url.database or "")
    name = f"lume_schema_{hashlib.sha256(database.encode()).hexdigest()[:32]}"
    taken = connection.execute(
        text("SELECT GET_LOCK(:name, :seconds)"), {"name": name, "seconds": _SECONDS}
    ).scalar()
    connection.commit()
    if taken != 1:
        where = safe_url(connection.engine)
        raise SchemaError(
            f"{where}: another migration of this database has been running for more "
            f"than {_SECONDS} seconds. Wait for it to end, or end it.",
            where,
        )
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
            connection.commit()
