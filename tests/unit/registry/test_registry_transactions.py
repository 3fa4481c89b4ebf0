"""Which failures are repeated, and how often."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg.errors
import pymysql.err
import pytest
from sqlalchemy import Engine, exc, text
from sqlalchemy.orm import Session

from prefect_lume.errors import LumeError, NotFoundError
from prefect_lume.registry import transactions
from prefect_lume.storage import repeat
from prefect_lume.storage.sql import get_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = get_engine(f"sqlite:///{tmp_path / 'log.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE log (n INTEGER PRIMARY KEY)"))
    yield engine
    engine.dispose()


def wrapped(original: Exception) -> exc.DBAPIError:
    return exc.OperationalError("UPDATE x", {}, original)


def sqlite_error(name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError("text")
    error.sqlite_errorname = name
    return error


TRANSIENT = [
    pymysql.err.OperationalError(1213, "Deadlock found"),
    pymysql.err.OperationalError(1205, "Lock wait timeout exceeded"),
    psycopg.errors.DeadlockDetected("deadlock"),
    psycopg.errors.SerializationFailure("could not serialize"),
    sqlite_error("SQLITE_BUSY"),
    sqlite_error("SQLITE_BUSY_SNAPSHOT"),
]
UNIQUE = [
    pymysql.err.IntegrityError(1062, "Duplicate entry"),
    psycopg.errors.UniqueViolation("duplicate key"),
    sqlite_error("SQLITE_CONSTRAINT_UNIQUE"),
    sqlite_error("SQLITE_CONSTRAINT_PRIMARYKEY"),
]
LASTING = [
    pymysql.err.IntegrityError(1452, "foreign key"),
    pymysql.err.OperationalError(1045, "access denied"),
    pymysql.err.OperationalError(2013, "lost connection"),
    psycopg.errors.ForeignKeyViolation("foreign key"),
    psycopg.errors.UndefinedTable("no table"),
    sqlite_error("SQLITE_FULL"),
    sqlite_error("SQLITE_CONSTRAINT_FOREIGNKEY"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_transient_errors(error: Exception) -> None:
    """Deadlocks, lock timeouts and failed serialisations are transient."""
    assert repeat.is_transient(wrapped(error))
    assert not repeat.is_unique_violation(wrapped(error))


@pytest.mark.parametrize("error", UNIQUE, ids=repr)
def test_unique_violations(error: Exception) -> None:
    """A key that exists already is told from everything else."""
    assert repeat.is_unique_violation(wrapped(error))
    assert not repeat.is_transient(wrapped(error))


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_lasting_errors(engine: Engine, error: Exception) -> None:
    """What would fail again is not repeated."""
    attempts: list[int] = []

    def work(_session: Session) -> None:
        attempts.append(1)
        raise wrapped(error)

    with pytest.raises(LumeError):
        transactions.write(engine, work)
    assert len(attempts) == 1


@pytest.mark.parametrize("error", [TRANSIENT[0], UNIQUE[0]], ids=repr)
def test_whole_transaction_is_repeated(engine: Engine, error: Exception) -> None:
    """What a failed attempt wrote is gone before the next one begins."""
    counts: list[int] = []

    def work(session: Session) -> int:
        count = session.scalar(text("SELECT count(*) FROM log"))
        counts.append(count)
        session.execute(text("INSERT INTO log (n) VALUES (1)"))
        if len(counts) < 3:
            raise wrapped(error)
        return 7

    assert transactions.write(engine, work) == 7
    assert counts == [0, 0, 0]
    found = transactions.read(
        engine, lambda s: s.scalars(text("SELECT n FROM log")).all()
    )
    assert found == [1]


def test_attempts_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadlock that never ends is reported after ten attempts."""
    monkeypatch.setattr(repeat, "pause", lambda _attempt: None)
    attempts: list[int] = []

    def work(_session: Session) -> None:
        attempts.append(1)
        raise wrapped(TRANSIENT[0])

    with pytest.raises(LumeError, match="Deadlock"):
        transactions.write(engine, work)
    assert len(attempts) == 10


def test_errors_of_ours_roll_back_and_pass(engine: Engine) -> None:
    """An error that the work raises undoes what it wrote, and is not repeated."""

    def work(session: Session) -> None:
        session.execute(text("INSERT INTO log (n) VALUES (1)"))
        raise NotFoundError("flow", "x")

    with pytest.raises(NotFoundError):
        transactions.write(engine, work)
    counted = transactions.read(
        engine, lambda s: s.scalar(text("SELECT count(*) FROM log"))
    )
    assert counted == 0
