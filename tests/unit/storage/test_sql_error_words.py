"""What drivers say about full disks and used-up connections, in our words."""

from __future__ import annotations

import sqlite3

import psycopg
import pymysql
import pytest
from sqlalchemy import exc

from prefect_lume.errors import (
    ConnectionFailedError,
    PermissionDeniedError,
    StorageError,
)
from prefect_lume.storage._sql_errors import translate

WHERE = "mysql+pymysql://lume@db/results"


def wrapped(error: Exception) -> exc.OperationalError:
    return exc.OperationalError("INSERT", {}, error)


@pytest.mark.parametrize(
    "error",
    [
        pymysql.err.OperationalError(1021, "Disk full (/tmp); waiting for someone"),
        pymysql.err.OperationalError(1114, "The table 'blob_chunk' is full"),
        pymysql.err.InternalError(1030, "Got error 28 from storage engine"),
        pymysql.err.InternalError(3, "Error writing file '/x' (Errcode: 28)"),
        psycopg.errors.DiskFull("could not extend file: No space left on device"),
        psycopg.OperationalError("could not write: No space left on device"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_a_full_disk(error: Exception) -> None:
    """Every database's way to say it becomes one sentence that says what to do."""
    found = translate(wrapped(error), WHERE)
    assert type(found) is StorageError
    assert "disk is full" in str(found)
    assert "make room" in str(found)
    assert found.where or WHERE in str(found)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (pymysql.err.OperationalError(1040, "Too many connections"), "no connection"),
        (pymysql.err.OperationalError(1203, "User lume already has"), "no connection"),
        (pymysql.err.OperationalError(1226, "User has exceeded"), "used up"),
        (psycopg.OperationalError("FATAL: sorry, too many clients"), "no connection"),
        (
            psycopg.OperationalError("FATAL: remaining connection slots are reserved"),
            "no connection",
        ),
        (psycopg.errors.TooManyConnections("too many"), "no connection"),
    ],
)
def test_no_connection_left(error: Exception, words: str) -> None:
    """Running out of connections is not mistaken for a server that is gone."""
    found = translate(wrapped(error), WHERE)
    assert isinstance(found, ConnectionFailedError)
    assert words in str(found)


def test_a_used_up_pool() -> None:
    """The process's own limit is told from the server's."""
    error = exc.TimeoutError("QueuePool limit of size 1 overflow 0 reached, timed out")
    found = translate(error, WHERE)
    assert isinstance(found, ConnectionFailedError)
    assert "pool_size" in str(found)


@pytest.mark.parametrize("number", [1290, 1792, 1836])
def test_a_read_only_server(number: int) -> None:
    """A replica or a server in read-only mode refuses, and it is named so."""
    found = translate(wrapped(pymysql.err.OperationalError(number, "x")), WHERE)
    assert isinstance(found, PermissionDeniedError)
    assert "read-only" in str(found)
