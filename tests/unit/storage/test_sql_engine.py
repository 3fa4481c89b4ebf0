"""Engines: shared, fork-safe, translated."""

import os
import sqlite3
import threading

import pytest
from sqlalchemy import text

from prefect_lume.errors import (
    ConfigurationError,
    ConflictError,
    MissingDependencyError,
    PermissionDeniedError,
    SchemaError,
    StorageError,
)
from prefect_lume.storage import sql


@pytest.fixture
def engine(tmp_path):
    """A SQLite file with one table."""
    engine = sql.get_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO t VALUES (1)"))
    return engine


def test_sqlite_files_are_safe_for_many_writers(engine):
    """A SQLite file gets WAL, foreign keys and a busy timeout."""
    with engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 30000}


def test_read_then_write_does_not_fail_between_writers(engine):
    """Transactions that read first and write later wait for each other."""

    def add():
        for _ in range(20):
            with engine.begin() as connection:
                top = connection.execute(text("SELECT max(a) FROM t")).scalar_one()
                connection.execute(text("INSERT INTO t VALUES (:a)"), {"a": top + 1})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar_one() == 81


def test_forked_child_gets_connections_of_its_own(engine):
    """After a fork the child opens its own connection and the parent keeps its."""
    with engine.connect() as connection:
        parent = connection.connection.dbapi_connection
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                with engine.connect() as mine:
                    found = mine.execute(text("SELECT a FROM t")).scalar_one()
                    fresh = mine.connection.dbapi_connection is not parent
                    os.write(writing, f"{found} {fresh}".encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reading, 100) == b"1 True"
        assert connection.execute(text("SELECT a FROM t")).scalar_one() == 1


def test_close_all_forgets_the_engines(tmp_path):
    """After `close_all` a new engine is made."""
    url = f"sqlite:///{tmp_path / 'y.db'}"
    before = sql.get_engine(url)
    sql.close_all()
    assert sql.get_engine(url) is not before


def test_unique_violation_becomes_a_conflict(engine):
    """A violated constraint is a ConflictError, with the cause chained."""
    with (
        pytest.raises(ConflictError) as caught,
        sql.translated(engine),
        engine.begin() as connection,
    ):
        connection.execute(text("INSERT INTO t VALUES (1)"))
    assert isinstance(caught.value.__cause__.orig, sqlite3.IntegrityError)


def test_missing_table_names_the_remedy(engine):
    """A missing table says which command makes it."""
    with (
        pytest.raises(SchemaError, match="db upgrade"),
        sql.translated(engine),
        engine.connect() as connection,
    ):
        connection.execute(text("SELECT * FROM absent"))


def test_read_only_file_is_permission_denied(tmp_path):
    """Writing to a read-only SQLite database is a permission error."""
    path = tmp_path / "z.db"
    sqlite3.connect(path).execute("CREATE TABLE t (a)").connection.close()
    engine = sql.get_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    with (
        pytest.raises(PermissionDeniedError),
        sql.translated(engine),
        sql.read_only(engine).connect() as connection,
    ):
        connection.execute(text("INSERT INTO t VALUES (1)"))


def test_file_that_is_no_database_is_named(tmp_path):
    """A file of something else is refused by name."""
    path = tmp_path / "text.db"
    path.write_text("this is not a database, but a text that is long enough" * 40)
    with pytest.raises(StorageError, match=r"text\.db.*not a SQLite database"):
        sql.check(sql.get_engine(f"sqlite:///{path}"))


@pytest.mark.parametrize("url", ["", "no url", "mysql+pymysql://u:hunter2@h:port/x"])
def test_unreadable_url_is_refused_without_showing_it(url):
    """A URL that cannot be read shows its form, not its password."""
    with pytest.raises(ConfigurationError) as caught:
        sql.get_engine(url)
    assert "hunter2" not in str(caught.value)


def test_missing_driver_names_the_extra(monkeypatch):
    """A driver whose package is missing says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises((MissingDependencyError, ConfigurationError)) as caught:
        sql.get_engine("postgresql+psycopg://h/x-missing-driver")
    assert "psycopg" in str(caught.value)
