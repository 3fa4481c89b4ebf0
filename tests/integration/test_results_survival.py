"""Writers that are killed, forked, crowded or whose clock is wrong lose nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime, timedelta
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from pymongo import monitoring
from sqlalchemy import event, func, select

from prefect_lume.errors import NotFoundError, StorageError
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores import MongoDBService, SQLDBService
from prefect_lume.results.stores.mongo import uploads as mongo_uploads
from prefect_lume.results.stores.sql import blobs as sql_blobs
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.storage import mongo, sql

PROJECT = "survival"
MEGABYTE = 1 << 20
SERVERS = [
    pytest.param(name, marks=pytest.mark.service(name))
    for name in ("mysql", "mariadb", "postgresql", "mongodb")
]
#: Nobody is writing: everything may go.
NOBODY = timedelta(days=-9)
FORK = get_context("fork")


@pytest.fixture(params=["sqlite", *SERVERS])
def url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def service(url: str) -> Iterator[ResultsService]:
    """A service in use: its tables and indices are there."""
    opened = open_service(url)
    if isinstance(opened.db_service, SQLDBService):
        opened.db_service.create_tables()
    opened.store(Result(project_name=PROJECT, inputs={"n": -1}))
    yield opened
    if isinstance(opened.db_service, SQLDBService):
        opened.db_service.engine.dispose()


def open_service(url: str, **options: Any) -> ResultsService:
    if url.startswith("mongodb"):
        database = mongo.database_of(url)
        return ResultsService(
            MongoDBService(lambda: mongo.get_client(url, **options)[database])
        )
    return ResultsService(SQLDBService(sql.get_engine(url, **options)))


def noise(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)


def make_result(n: int, *sizes: int) -> Result:
    """Return a result with blobs of some sizes of its own, and one that all share."""
    outputs = {
        f"own{k}": noise(size, 1000 + 100 * n + k) for k, size in enumerate(sizes)
    }
    if sizes:
        outputs["shared"] = noise(100_000, 0)
    return Result(project_name=PROJECT, inputs={"n": n}, outputs=outputs)


def assert_visible_is_whole(service: ResultsService) -> int:
    """Check that all that can be seen can be loaded; return how many there are."""
    results = list(service.find(PROJECT))
    for result in results:
        service.load(result.reference())
    return len(results)


def assert_nothing_else_is_left(service: ResultsService, url: str) -> None:
    """Check that a clean-up leaves the blobs that are held, and no other bytes."""
    store = service.db_service
    for _ in range(2):
        store.delete_unused_blobs(NOBODY)
    held = set(store.held_blobs(PROJECT))
    assert {blob.sha256 for blob in store.blobs_before(in_future(store))} == held
    if isinstance(store, SQLDBService):
        upload, chunk = sql_tables.blob_upload, sql_tables.blob_upload_chunk
        own = select(upload.c.id).where(upload.c.sha256.is_not(None))
        loose = select(func.count()).where(chunk.c.upload.not_in(own))
        waiting = select(func.count()).where(upload.c.sha256.is_(None))
        with store.engine.connect() as connection:
            assert connection.scalar(loose) == connection.scalar(waiting) == 0
        return
    blobs = mongo.get_client(url)[mongo.database_of(url)]["lume_blobs"]
    entries = {file["_id"] for file in blobs.files.find({}, {"_id": 1})}
    assert set(blobs.chunks.distinct("files_id")) == entries
    assert blobs.uploads.count_documents({}) == 0


def in_future(store: Any) -> datetime:
    return store.now() + timedelta(days=99)


def child(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a forked process, which is quick, and ends without pytest's own end."""

    def run() -> None:
        try:
            target(*arguments)
        except BaseException as problem:  # noqa: BLE001 - the exit status tells.
            sys.stderr.write(f"{type(problem).__name__}: {problem}\n")
            os._exit(1)
        os._exit(0)

    process = FORK.Process(target=run, daemon=True)
    process.start()
    return process


# --- killed at every step ----------------------------------------------------------


class Step:
    """Kills its own process at a certain step."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, *_: Any, **__: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Commands(monitoring.CommandListener):
    """Counts what is sent to a MongoDB server, and what is answered."""

    def __init__(self, step: Step) -> None:
        self.started = step
        self.succeeded = step
        self.failed = step


def store_until(url: str, number: int, result: Result) -> None:
    """Store a result in a process that ends at a certain step."""
    step = Step(number)
    if url.startswith("mongodb"):
        service = open_service(url, event_listeners=[Commands(step)])
    else:
        service = open_service(url)
        engine = service.db_service.engine
        for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
            event.listen(engine, name, step)
        commit = engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            commit(connection)
            step()

        engine.dialect.do_commit = do_commit
    service.store(result)


@pytest.mark.parametrize(
    "url",
    ["sqlite", pytest.param("mongodb", marks=pytest.mark.service("mongodb"))],
    indirect=True,
)
def test_a_writer_killed_at_any_step_leaves_nothing_half(
    service: ResultsService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it dies, readers see all of a result or nothing, and others go on."""
    # So that few bytes take as many steps as many do.
    monkeypatch.setattr(sql_blobs, "_WRITE_AT_ONCE", 1)
    monkeypatch.setattr(mongo_uploads, "_BYTES_AT_ONCE", MEGABYTE)
    service.store(make_result(-2, 1000))
    sizes = (200_000, 5 * MEGABYTE // 2)
    seen = 0
    for number in range(1, 200):
        result = make_result(number, *sizes)
        writer = child(store_until, url, number, result)
        writer.join(60)
        if writer.exitcode == 0:
            break
        assert writer.exitcode == -signal.SIGKILL
        whole = True
        try:
            assert service.load(result.reference()) == result
        except NotFoundError:
            whole = False
        seen += whole
        if number % 4 == 0:
            service.store(result, on_duplicate="return" if whole else "raise")
            assert service.load(result.reference()) == result
        # Everything again and again would take long: each is looked at once.
        service.delete(PROJECT, {"inputs.n": number - 1})
    assert number > 20
    assert seen
    assert service.load(result.reference()) == result
    assert_visible_is_whole(service)
    assert_nothing_else_is_left(service, url)
    assert_visible_is_whole(service)


# --- forks and threads ---------------------------------------------------------------


def store_all(service: ResultsService, numbers: range) -> None:
    for n in numbers:
        service.store(make_result(n, 100_000) if n % 5 == 0 else make_result(n))
    assert service.count(PROJECT) > len(numbers)


def store_with_new_service(url: str, numbers: range) -> None:
    store_all(open_service(url), numbers)


def test_parent_and_child_both_store_after_a_fork(
    service: ResultsService, url: str
) -> None:
    """Forked in the middle of work in threads, all go on and nothing is lost.

    With SQLite, a child inherits the locks that the threads of its parent hold, and
    never sees them go: there no thread may be storing in the instant of the fork.
    """
    stop = threading.Event()
    instant = threading.Lock() if url.startswith("sqlite") else nullcontext()

    def work() -> int:
        n = 1000
        while not stop.is_set():
            with instant:
                service.store(make_result(n))
            n += 1
        return n - 1000

    with ThreadPoolExecutor(2) as threads:
        busy = threads.submit(work)
        try:
            with instant:
                children = [
                    child(store_with_new_service, url, range(start, start + 10))
                    for start in (100, 200)
                ]
            store_all(service, range(300, 310))
            for process in children:
                process.join(60)
        finally:
            stop.set()
        assert [process.exitcode for process in children] == [0, 0]
        stored = busy.result()
        assert assert_visible_is_whole(service) == 31 + stored


@pytest.mark.parametrize("reused", [False, True])
def test_a_service_from_before_the_fork_works_in_the_child(
    service: ResultsService, url: str, reused: bool
) -> None:
    """The very service object may be used on both sides of a fork."""
    if reused:
        store_all(service, range(20))
    process = child(store_all, service, range(100, 110))
    store_all(service, range(200, 210))
    process.join(60)
    assert process.exitcode == 0
    assert assert_visible_is_whole(service) == 21 + 20 * reused


def test_many_threads_share_two_connections(service: ResultsService, url: str) -> None:
    """64 threads on a pool of two: each result is stored, or its call says why not."""
    if url.startswith("mongodb"):
        crowded = open_service(url, maxPoolSize=2, waitQueueTimeoutMS=120_000)
    else:
        crowded = open_service(url, pool_size=2, max_overflow=0, pool_timeout=120)

    def store(n: int) -> bool:
        try:
            crowded.store(make_result(n, 30_000) if n % 4 == 0 else make_result(n))
        except StorageError:
            return False
        return True

    with ThreadPoolExecutor(64) as threads:
        stored = list(threads.map(store, range(192)))
    assert all(stored)
    assert assert_visible_is_whole(service) == 1 + sum(stored)


# --- clocks --------------------------------------------------------------------------


def with_clock(shift: timedelta, work: Callable[..., Any], *arguments: Any) -> None:
    """Do something in this process as if its clock went wrong."""

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Shifted(datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + shift

        @classmethod
        def utcnow(cls) -> datetime:
            raise AssertionError("a time without a zone")

    right = time.time
    time.time = lambda: right() + shift.total_seconds()
    for name, module in list(sys.modules.items()):
        ours = name.startswith(("prefect_lume.results", "prefect_lume.storage"))
        if ours and getattr(module, "datetime", None) is datetime:
            module.datetime = Shifted
    work(*arguments)


def put_blob_and_store(url: str) -> None:
    service = open_service(url)
    service.db_service.put_blob(sha256_of(b"waits"), b"waits")
    service.store(
        make_result(5, 10_000).model_copy(
            update={"date_modified": sys.modules["prefect_lume.results.result"]._now()}
        )
    )


def sha256_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def collect(url: str, older_than: timedelta) -> None:
    open_service(url).db_service.delete_unused_blobs(older_than)


DAYS = [timedelta(days=-3), timedelta(days=3)]


@pytest.mark.parametrize("url", SERVERS, indirect=True)
@pytest.mark.parametrize("shift", DAYS, ids=["behind", "ahead"])
def test_ages_of_blobs_go_by_the_servers_clock(
    service: ResultsService, url: str, shift: timedelta
) -> None:
    """A writer or collector whose clock is three days off keeps to the same times.

    SQLite has no server: there the clock is the machine's, which all share.
    """
    store, waiting = service.db_service, sha256_of(b"waits")
    writer = child(with_clock, shift, put_blob_and_store, url)
    writer.join(60)
    assert writer.exitcode == 0
    (result,) = service.find(PROJECT, {"inputs.n": 5})
    # The document's own date is what its writer believed.
    assert abs(result.date_modified - shift - datetime.now().astimezone()) < timedelta(
        minutes=2
    )
    assert abs(store.now() - datetime.now().astimezone()) < timedelta(minutes=2)
    hour, ago = timedelta(hours=1), timedelta(minutes=-5)
    names = {blob.sha256 for blob in store.blobs_before(store.now() - ago)}
    assert waiting in names
    assert store.blobs_before(store.now() + ago) == []
    assert store.delete_unused_blobs(hour) == []
    collector = child(with_clock, shift, collect, url, hour)
    collector.join(60)
    assert collector.exitcode == 0
    assert store.get_blob(waiting) == b"waits"
    collector = child(with_clock, shift, collect, url, ago)
    collector.join(60)
    assert collector.exitcode == 0
    with pytest.raises(NotFoundError):
        store.get_blob(waiting)
    assert assert_visible_is_whole(service) == 2
