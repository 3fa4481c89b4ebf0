"""The SQL result store in trouble: killed, full, read-only, out of connections."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from time import sleep
from typing import ClassVar

import pytest
from sqlalchemy import URL, Engine, event, func, select, text
from sqlalchemy.exc import OperationalError

from prefect_lume.errors import (
    ConnectionFailedError,
    LumeError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
)
from prefect_lume.results import Index, Result
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import make_document


class Seeded(Result):
    """A document type with an index."""

    result_type: ClassVar[str] = "Seeded"
    indices: ClassVar[tuple[Index, ...]] = (Index(("inputs.a",)),)


SERVERS = [
    pytest.param(name, marks=pytest.mark.service(name))
    for name in ("mysql", "mariadb", "postgresql")
]
EVERYTHING = -timedelta(days=1)
#: Seconds until a thread that should come to an end is taken for stuck.
PATIENCE = 120


def url_of(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["sqlite", *SERVERS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request, tmp_path)


@pytest.fixture(params=SERVERS)
def server_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request, tmp_path)


def opened(engine: Engine) -> SQLDBService:
    store = SQLDBService(engine)
    store.create_tables()
    return store


@pytest.fixture
def store(url: str) -> Iterator[SQLDBService]:
    engine = get_engine(url)
    yield opened(engine)
    engine.dispose()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def rows(store: SQLDBService, *names: str) -> dict[str, int]:
    def count(name: str) -> int:
        statement = select(func.count()).select_from(sql_tables.metadata.tables[name])
        return int(connection.execute(statement).scalar_one())

    with store.engine.connect() as connection:
        return {name: count(name) for name in names}


KILLED = """
import os, signal, sys
from prefect_lume.results import Index, Result
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.storage.sql import get_engine
url, many = sys.stdin.read().split()
def pieces():
    for n in range(30):
        if n == int(many):
            os.kill(os.getpid(), signal.SIGKILL)
        yield bytes([n]) * (1 << 20)
SQLDBService(get_engine(url)).write_blob("ab" * 32, 30 << 20, pieces())
"""


@pytest.mark.parametrize("many", [0, 5, 9, 17, 29])
def test_a_writer_that_is_killed_leaves_nothing(
    store: SQLDBService, url: str, many: int
) -> None:
    """Whenever a writer of a large blob dies: nobody sees it, and it is cleaned up."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        check=False,
        input=f"{url}\n{many}",
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(NotFoundError):
        store.get_blob("ab" * 32)
    assert store.blobs_before(store.now() + timedelta(days=1)) == []
    assert store.delete_unused_blobs() == []
    assert (rows(store, "blob_upload")["blob_upload"] == 1) == (many > 8)
    assert store.delete_unused_blobs(EVERYTHING) == []
    tables = ("blob", "blob_chunk", "blob_upload", "blob_upload_chunk")
    assert rows(store, *tables) == dict.fromkeys(tables, 0)


def test_a_clean_up_spares_a_writer_at_work(store: SQLDBService) -> None:
    """A large blob that is just being stored is not abandoned; removed, it is gone."""
    content = b"".join(bytes([n]) * (1 << 20) for n in range(30))

    def pieces() -> Iterator[bytes]:
        for n in range(30):
            assert store.delete_unused_blobs(timedelta(0)) == []
            yield content[n << 20 : (n + 1) << 20]

    store.write_blob(digest(content), len(content), pieces())
    assert store.get_blob(digest(content)) == content
    (gone,) = store.delete_unused_blobs(EVERYTHING)
    assert gone == (digest(content), len(content))
    tables = ("blob", "blob_chunk", "blob_upload", "blob_upload_chunk")
    assert rows(store, *tables) == dict.fromkeys(tables, 0)


def test_a_writer_taken_for_dead_says_so(store: SQLDBService) -> None:
    """A writer that stood still too long fails, and nothing of the blob is seen."""

    def pieces() -> Iterator[bytes]:
        for n in range(30):
            if n == 20:
                store.delete_unused_blobs(EVERYTHING)
            yield bytes(1 << 20)

    content = bytes(30 << 20)
    with pytest.raises(StorageError, match="so slowly"):
        store.write_blob(digest(content), len(content), pieces())
    with pytest.raises(NotFoundError):
        store.get_blob(digest(content))
    store.put_blob(digest(content), content)
    assert store.get_blob(digest(content)) == content


def test_a_large_blob_keeps_nobody_waiting(store: SQLDBService) -> None:
    """A large blob is stored in short transactions, and others get in between them.

    Each document here is begun while the blob's writer is in the middle of a
    transaction, and stored before the writer has its next piece.
    """
    content = Random(1).randbytes(40 << 20)
    waiting: list[threading.Thread] = []
    outcomes: list[bool] = []
    seen: list[int] = []

    def insert(n: int) -> None:
        outcomes.append(store.insert("contract", make_document(inputs={"n": n})))

    def begin(
        connection: object, cursor: object, statement: str, *rest: object
    ) -> None:
        if re.match('INSERT INTO [`"]?blob_upload_chunk[`"]? ', statement):
            waiting.append(threading.Thread(target=insert, args=(len(waiting),)))
            waiting[-1].start()

    def pieces() -> Iterator[bytes]:
        for n in range(40):
            for thread in waiting:
                thread.join(PATIENCE)
            assert len(outcomes) == len(waiting)
            seen.append(rows(store, "blob_upload_chunk")["blob_upload_chunk"])
            yield content[n << 20 : (n + 1) << 20]

    event.listen(store.engine, "after_cursor_execute", begin)
    try:
        store.write_blob(digest(content), len(content), pieces())
    finally:
        event.remove(store.engine, "after_cursor_execute", begin)
        for thread in waiting:
            thread.join(PATIENCE)
    # What others see grows by no more than a short transaction holds.
    steps = [after - before for before, after in pairwise([0, *seen, 40])]
    assert all(0 <= step <= 8 for step in steps)
    assert outcomes == [True] * len(waiting)
    assert len(waiting) >= 5
    assert store.count("contract") == len(waiting)
    assert store.get_blob(digest(content)) == content


STREAMED = """
import resource, sys, hashlib
from prefect_lume.results import Index, Result
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.storage.sql import get_engine
url, path, target = sys.stdin.read().split()
store = SQLDBService(get_engine(url))
store.count("contract")
store.put_blob(hashlib.sha256(bytes(9 << 20)).hexdigest(), bytes(9 << 20))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
info = store.put_blob_file(path)
store.fetch_blob(info.sha256, target)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_streaming_takes_little_memory(
    store: SQLDBService, url: str, tmp_path: Path
) -> None:
    """A file of 100 MB goes in and comes out in less than 64 MB of memory."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(1 << 20))
    target = tmp_path / "target"
    done = subprocess.run(
        [sys.executable, "-c", STREAMED],
        check=False,
        input=f"{url}\n{path}\n{target}",
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 << 10
    with path.open("rb") as one, target.open("rb") as other:
        hashes = {hashlib.file_digest(file, "sha256").digest() for file in (one, other)}
    assert len(hashes) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("No small disk: mounting one needs a superuser.")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named(small_disk: Path) -> None:
    """On a full disk a store says so, stores nothing by halves, and goes on after."""
    engine = get_engine(f"sqlite:///{small_disk / 'results.db'}")
    store = opened(engine)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1_200_000))
    data = Random(3).randbytes(3_000_000)
    envelope = {"__lume__": "bytes", "v": 1, "blob": digest(data), "size": len(data)}
    large = make_document(inputs={"a": envelope}, blobs={digest(data): data})
    with pytest.raises(StorageError, match="disk is full"):
        store.insert("contract", large)
    documents = [
        make_document(inputs={"n": n, "text": "x" * 5000}) for n in range(1000)
    ]
    with pytest.raises(StorageError, match="disk is full"):
        store.insert_many("contract", documents)
    stored = store.count("contract")
    assert rows(store, "result", "blob", "blob_chunk") == {
        "result": stored,
        "blob": 0,
        "blob_chunk": 0,
    }
    filler.unlink()
    assert store.insert("contract", make_document(inputs={"n": "after"}))
    assert store.count("contract") == stored + 1
    engine.dispose()


@contextmanager
def a_reader(store: SQLDBService, options: str = "") -> Iterator[URL]:
    """Make another user of the server, who may read the tables of a store."""
    name, admin = f"ro_{uuid.uuid4().hex[:8]}", store.engine.url
    if admin.get_backend_name() == "postgresql":
        user, word = name, f"PASSWORD 'a-secret' {options}"
        tables = "ALL TABLES IN SCHEMA public"
    else:
        user, word = f"'{name}'@'%'", f"IDENTIFIED BY 'a-secret' {options}"
        tables = f"`{admin.database}`.*"
    with store.engine.begin() as connection:
        connection.execute(text(f"CREATE USER {user} {word}"))
        connection.execute(text(f"GRANT SELECT ON {tables} TO {user}"))
    try:
        yield admin.set(username=name, password="a-secret")
    finally:
        with store.engine.begin() as connection:
            connection.execute(text(f"REVOKE SELECT ON {tables} FROM {user}"))
            connection.execute(text(f"DROP USER {user}"))


def test_a_read_only_user_is_told(server_url: str) -> None:
    """A user without the right to write may read, and is told when he writes."""
    store = opened(get_engine(server_url))
    kept = make_document(inputs={"n": 1})
    store.insert("contract", kept)
    with a_reader(store) as url:
        engine = get_engine(url)
        reader = SQLDBService(engine)
        assert reader.get("contract", kept.tree["_id"]) == kept.tree
        assert reader.count("contract") == 1
        document = make_document(inputs={"n": 2}, blobs={digest(b"x"): b"x"})
        for call in (
            lambda: reader.insert("contract", document),
            lambda: reader.insert("contract", make_document(inputs={"n": 3})),
            lambda: reader.insert_many("contract", [document, document]),
            lambda: reader.replace("contract", kept),
            lambda: reader.delete("contract", {}),
            lambda: reader.put_blob(digest(b"x"), b"x"),
        ):
            with pytest.raises(PermissionDeniedError) as caught:
                call()
            assert "a-secret" not in str(caught.value)
        assert store.count("contract") == 1
        engine.dispose()


def test_a_read_only_file_is_told(tmp_path: Path) -> None:
    """A SQLite file that is opened read-only can be read, and refuses writes."""
    path = tmp_path / "results.db"
    kept = make_document(inputs={"n": 1})
    store = opened(get_engine(f"sqlite:///{path}"))
    store.insert("contract", kept)
    engine = get_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    reader = SQLDBService(engine)
    assert reader.get("contract", kept.tree["_id"]) == kept.tree
    with pytest.raises(PermissionDeniedError, match="read-only"):
        reader.insert("contract", make_document(inputs={"n": 2}))
    engine.dispose()


def test_a_used_up_pool_is_named(url: str) -> None:
    """When all connections of the process are in use, the error says what to do."""
    engine = get_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.2)
    store = opened(engine)
    with (
        engine.connect(),
        pytest.raises(ConnectionFailedError, match=r"in use.*pool_size"),
    ):
        store.insert("contract", make_document())
    assert store.insert("contract", make_document())
    engine.dispose()


@pytest.mark.service("postgresql")
def test_a_server_without_connections_is_named(postgresql_url: str) -> None:
    """When the server takes no more connections, the error says that."""
    store = opened(get_engine(postgresql_url))
    with a_reader(store, "CONNECTION LIMIT 1") as url:
        engine = get_engine(url)
        with (
            engine.connect(),
            pytest.raises(ConnectionFailedError, match="no connection left"),
        ):
            SQLDBService(engine).count("contract")
        engine.dispose()


@pytest.mark.parametrize(
    "table", ["blob", "blob_chunk", "result", "result_index_key", "result_blob"]
)
def test_a_session_that_is_killed_in_the_middle(server_url: str, table: str) -> None:
    """A session that ends between two statements costs nothing: it is done again."""
    engine = get_engine(server_url)
    store = opened(engine)
    store.prepare([Seeded])
    killed: list[str] = []

    def kill(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if not killed and re.match(f'INSERT INTO [`"]?{table}[`"]? ', statement):
            killed.append(statement)
            end_session(engine, connection)

    data = bytes(1000)
    envelope = {"__lume__": "bytes", "v": 1, "blob": digest(data), "size": len(data)}
    document = make_document(
        inputs={"a": envelope}, blobs={digest(data): data}, result_type="Seeded"
    )
    event.listen(engine, "after_cursor_execute", kill)
    try:
        assert store.insert("contract", document) is True
    finally:
        event.remove(engine, "after_cursor_execute", kill)
    assert killed
    assert store.count("contract") == 1
    assert list(store.held_blobs("contract")) == [digest(data)]
    assert store.get_blob(digest(data)) == data


def end_session(engine: Engine, victim: object) -> None:
    on_postgresql = engine.dialect.name == "postgresql"
    raw = victim.connection.dbapi_connection
    number = raw.info.backend_pid if on_postgresql else raw.thread_id()
    with engine.connect() as connection:
        statement = (
            f"SELECT pg_terminate_backend({number})"
            if on_postgresql
            else f"KILL {number}"
        )
        connection.execute(text(statement))


def end_all_sessions(killer: Engine) -> None:
    """End all sessions of a user in a database but the one that does it.

    PostgreSQL's own processes, which clean up there, must not be touched.
    """
    on_postgresql = killer.dialect.name == "postgresql"
    listed = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND usename = current_user AND pid <> pg_backend_pid()"
        if on_postgresql
        else "SELECT id FROM information_schema.processlist WHERE db = database() "
        "AND id <> connection_id()"
    )
    with killer.connect() as connection:
        for number in connection.execute(text(listed)).scalars().all():
            ending = (
                f"SELECT pg_terminate_backend({number})"
                if on_postgresql
                else f"KILL {number}"
            )
            # The session may have ended meanwhile.
            with suppress(OperationalError):
                connection.execute(text(ending))


def test_batches_around_a_broken_server_lose_nothing(server_url: str) -> None:
    """Sessions are killed while batches are stored: each document is there once."""
    engine = get_engine(server_url)
    store = opened(engine)
    killer = get_engine(server_url, pool_size=1, max_overflow=0)
    chance = Random(4)

    def kill(times: int) -> None:
        for _ in range(times):
            sleep(chance.uniform(0, 0.05))
            end_all_sessions(killer)

    acknowledged = 0
    for n in range(20):
        batch = [make_document(inputs={"n": 300 * n + k}) for k in range(300)]
        # One batch in four is left in peace.
        killing = threading.Thread(target=kill, args=(n % 4 * 2,))
        killing.start()
        try:
            outcomes = store.insert_many("contract", batch)
        except LumeError:
            assert n % 4
        else:
            assert set(outcomes) == {True}
            acknowledged += 300
        killing.join()
    assert 1500 <= acknowledged <= store.count("contract") <= 6000
    engine.dispose()
    killer.dispose()
