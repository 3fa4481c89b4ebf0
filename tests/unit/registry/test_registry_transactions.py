"""Which failures are repeated, and how often."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg.errors
import pymysql.err
import pytest
from sqlalchemy import Connection, Engine, exc, text

from prefect_lume.errors import LumeError, NotFoundError
from prefect_lume.registry import ModelDBService, ledger, transactions
from prefect_lume.registry.ledger import Transaction
from prefect_lume.registry.tables import metadata
from prefect_lume.storage import repeat
from prefect_lume.storage.sql import get_engine

T = TypeVar("T")


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
    pymysql.err.OperationalError(1045, "access denied"),
    pymysql.err.OperationalError(2003, "can't connect"),
    psycopg.OperationalError("connection refused"),
    psycopg.errors.UndefinedTable("no table"),
    sqlite_error("SQLITE_FULL"),
]

REFERENCES = [
    pymysql.err.IntegrityError(1452, "foreign key"),
    psycopg.errors.ForeignKeyViolation("foreign key"),
    sqlite_error("SQLITE_CONSTRAINT_FOREIGNKEY"),
]


LOST = [
    pymysql.err.OperationalError(2006, "server has gone away"),
    pymysql.err.OperationalError(2013, "lost connection"),
    pymysql.err.OperationalError(1053, "server shutdown in progress"),
    psycopg.errors.AdminShutdown("terminating connection"),
    psycopg.errors.CannotConnectNow("starting up"),
]
UNREACHABLE = [
    pymysql.err.OperationalError(2003, "can't connect"),
    psycopg.OperationalError("connection refused"),
]


def do(engine: Engine, work: Callable[[Transaction], T]) -> T:
    """Write, and return what the work returned."""
    return transactions.write(engine, work, actor="tester")[0]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr(repeat, "pause", lambda _attempt: None)


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

    def work(_tx: Transaction) -> None:
        attempts.append(1)
        raise wrapped(error)

    with pytest.raises(LumeError):
        do(engine, work)
    assert len(attempts) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", REFERENCES, ids=repr)
def test_reference_to_what_was_removed(engine: Engine, error: Exception) -> None:
    """A violated reference is looked at again, but not for ever."""
    attempts: list[int] = []

    def work(_tx: Transaction) -> int:
        attempts.append(1)
        if len(attempts) == 1 or len(attempts) > 2:
            raise wrapped(error)
        return 7

    assert do(engine, work) == 7
    with pytest.raises(LumeError):
        do(engine, work)
    assert len(attempts) == 2 + 6


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", LOST, ids=repr)
def test_lost_connection_is_repeated(engine: Engine, error: Exception) -> None:
    """After a lost connection the work runs again, also while the server is away."""
    attempts: list[int] = []

    def work(_tx: Transaction) -> int:
        attempts.append(1)
        if len(attempts) <= 3:
            raise wrapped([error, *UNREACHABLE][len(attempts) - 1])
        return 7

    assert do(engine, work) == 7
    assert len(attempts) == 4
    attempts.clear()

    def ask(_connection: Connection) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise wrapped(error)
        return 8

    assert transactions.read(engine, ask) == 8


@pytest.fixture
def ledger_engine(tmp_path: Path) -> Iterator[Engine]:
    engine = get_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            metadata.tables["model"].insert(),
            {
                "model_id": 1,
                "author": "a",
                "laboratory": "l",
                "facility": "f",
                "beampath": "b",
                "description": "d",
                "created": ledger.now(),
                "fingerprint": "ab" * 32,
            },
        )
    yield engine
    engine.dispose()


def lose_first_commit(engine: Engine, *, happened: bool) -> None:
    """Let the first COMMIT's connection be lost, after or before it has happened."""
    lost: list[int] = []
    commit = engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        if happened or lost:
            commit(connection)
        else:
            engine.dialect.do_rollback(connection)
        if not lost:
            lost.append(1)
            raise wrapped(LOST[1])

    engine.dialect.do_commit = do_commit  # type: ignore[method-assign]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("happened", [True, False])
def test_lost_commit_happens_once(ledger_engine: Engine, happened: bool) -> None:
    """Whether a COMMIT that got no answer has happened or not: it did once at last."""
    lose_first_commit(ledger_engine, happened=happened)
    results: list[int] = []

    def work(tx: Transaction) -> int:
        tx.lock_model(1)
        tx.record("model", 1, "model.tried")
        results.append(len(results))
        return results[-1]

    result, events = transactions.write(ledger_engine, work, actor="me", reason="why")
    with ledger_engine.connect() as connection:
        rows = connection.execute(text("SELECT number, kind FROM registry_event")).all()
        revision = connection.execute(text("SELECT revision FROM model")).scalar_one()
    assert rows == [(1, "model.tried")]
    assert revision == 1
    assert [(event.number, event.actor, event.reason) for event in events] == [
        (1, "me", "why")
    ]
    assert result == (0 if happened else len(results) - 1)


@pytest.mark.usefixtures("quick")
def test_lost_deletion_is_no_error(ledger_engine: Engine) -> None:
    """What a second attempt does not find, since the first one did it, is done."""
    lose_first_commit(ledger_engine, happened=True)
    engine = ledger_engine
    seen = transactions.has_happened
    asked: list[bool] = []

    def late(connection: Connection, change_id: str) -> bool:
        # As if the lost COMMIT arrived between the question and the look.
        asked.append(len(asked) > 0 and seen(connection, change_id))
        return asked[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transactions, "has_happened", late)
        service = ModelDBService(engine)
        service.delete_model(1)
    assert asked == [False, True]
    assert service.get_models() == []
    assert [event.kind for event in service.get_history(model_id=1)] == [
        "model.deleted"
    ]


@pytest.mark.parametrize("error", [TRANSIENT[0], UNIQUE[0]], ids=repr)
def test_whole_transaction_is_repeated(engine: Engine, error: Exception) -> None:
    """What a failed attempt wrote is gone before the next one begins."""
    counts: list[int] = []

    def work(tx: Transaction) -> int:
        count = tx.connection.scalar(text("SELECT count(*) FROM log"))
        counts.append(count)
        tx.connection.execute(text("INSERT INTO log (n) VALUES (1)"))
        if len(counts) < 3:
            raise wrapped(error)
        return 7

    assert do(engine, work) == 7
    assert counts == [0, 0, 0]
    found = transactions.read(
        engine, lambda s: s.scalars(text("SELECT n FROM log")).all()
    )
    assert found == [1]


@pytest.mark.usefixtures("quick")
def test_attempts_are_bounded(engine: Engine) -> None:
    """A deadlock that never ends is reported after a hundred attempts."""
    attempts: list[int] = []

    def work(_tx: Transaction) -> None:
        attempts.append(1)
        raise wrapped(TRANSIENT[0])

    with pytest.raises(LumeError, match="Deadlock"):
        do(engine, work)
    assert len(attempts) == 100


def test_errors_of_ours_roll_back_and_pass(engine: Engine) -> None:
    """An error that the work raises undoes what it wrote, and is not repeated."""

    def work(tx: Transaction) -> None:
        tx.connection.execute(text("INSERT INTO log (n) VALUES (1)"))
        raise NotFoundError("flow", "x")

    with pytest.raises(NotFoundError):
        do(engine, work)
    counted = transactions.read(
        engine, lambda s: s.scalar(text("SELECT count(*) FROM log"))
    )
    assert counted == 0
