"""Storing in MongoDB while the network, the server or the writer fails at any step."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import bson
import pytest

from prefect_lume.errors import (
    AuthenticationError,
    ConnectionFailedError,
    LumeError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
)
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores import MongoDBService
from prefect_lume.storage.mongo import database_of, get_client

pytestmark = pytest.mark.service("mongodb")

OP_MSG = 2013
#: Commands of the driver itself, which belong to no step of ours.
_DRIVERS = {"hello", "ismaster", "isMaster", "saslStart", "saslContinue", "endSessions"}

#: What becomes of a command: None lets it pass, "cut" loses it, "lose" its answer; a
#: document is the answer in place of the server's.
Fate = str | dict[str, Any] | None


class FaultyServer:
    """A server in front of the real one, which decides the fate of each command."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.fate: Callable[[str, dict[str, Any]], Fate] = lambda name, command: None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client:
            server = socket.create_connection(self.target)
            with server:
                while True:
                    message = _message(client)
                    fate = self._decide(message)
                    if fate == "cut":
                        return
                    if isinstance(fate, dict):
                        client.sendall(_answer(message, fate))
                        continue
                    server.sendall(message)
                    answer = _message(server)
                    if fate == "lose":
                        return
                    client.sendall(answer)

    def _decide(self, message: bytes) -> Fate:
        if struct.unpack("<i", message[12:16])[0] != OP_MSG:
            return None
        (size,) = struct.unpack("<i", message[21:25])
        command = bson.decode(message[21 : 21 + size])
        name = next(iter(command))
        return None if name in _DRIVERS else self.fate(name, command)

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def _message(source: socket.socket) -> bytes:
    head = _exactly(source, 4)
    (size,) = struct.unpack("<i", head)
    return head + _exactly(source, size - 4)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def _answer(request: bytes, document: dict[str, Any]) -> bytes:
    body = struct.pack("<IB", 0, 0) + bson.encode(document)
    (number,) = struct.unpack("<i", request[4:8])
    return struct.pack("<iiii", 16 + len(body), 0, number, OP_MSG) + body


class Step:
    """The fate of the commands from a certain one on."""

    def __init__(self, number: int, fate: Fate, *, times: int = 1) -> None:
        self.number, self.then, self.times = number, fate, times
        self.seen: list[str] = []

    def __call__(self, name: str, command: dict[str, Any]) -> Fate:
        self.seen.append(name)
        due = self.number <= len(self.seen) < self.number + self.times
        return self.then if due else None

    @property
    def happened(self) -> bool:
        return len(self.seen) >= self.number


@pytest.fixture
def faulty(mongodb_url: str) -> Iterator[FaultyServer]:
    parts = urlsplit(mongodb_url)
    assert parts.hostname
    server = FaultyServer(parts.hostname, parts.port or 27017)
    yield server
    server.close()


@pytest.fixture
def faulty_url(mongodb_url: str, faulty: FaultyServer) -> str:
    parts = urlsplit(mongodb_url)
    login, _, _ = parts.netloc.rpartition("@")
    netloc = f"{login}@127.0.0.1:{faulty.port}" if login else f"127.0.0.1:{faulty.port}"
    return parts._replace(netloc=netloc).geturl()


def open_service(url: str) -> ResultsService:
    return ResultsService(MongoDBService(lambda: get_client(url)[database_of(url)]))


@pytest.fixture
def database(mongodb_url: str) -> Any:
    return get_client(mongodb_url)[database_of(mongodb_url)]


@pytest.fixture
def results(faulty_url: str) -> ResultsService:
    """A service that reaches the server through the faulty one, warmed up."""
    service = open_service(faulty_url)
    service.store(large(-1))
    service.store(Result(project_name="p", inputs={"n": -2}))
    return service


def large(n: int) -> Result:
    """Return a result with two blobs of more than a chunk."""
    chance = random.Random(n)
    return Result(
        project_name="p",
        inputs={"n": n},
        outputs={"a": chance.randbytes(1_200_000), "b": chance.randbytes(70_000)},
    )


def assert_whole(url: str, database: Any) -> None:
    """Whatever can be seen can be loaded, and a clean-up leaves nothing else."""
    service = open_service(url)
    for result in service.find("p"):
        service.load(result.reference())
    store = service.db_service
    for _ in range(2):
        long_ago = store.now() - timedelta(days=9)
        for name, field in (("uploads", "stored"), ("files", "metadata.stored")):
            database[f"lume_blobs.{name}"].update_many({}, {"$set": {field: long_ago}})
        store.delete_unused_blobs()
    files = list(database["lume_blobs.files"].find())
    held = {sha256 for name in store.collections() for sha256 in store.held_blobs(name)}
    assert {file["filename"] for file in files} == held
    chunks = database["lume_blobs.chunks"].distinct("files_id")
    assert set(chunks) == {file["_id"] for file in files}
    assert database["lume_blobs.uploads"].count_documents({}) == 0


@pytest.mark.parametrize("fate", ["cut", "lose"])
def test_one_cut_connection_at_any_step_goes_unnoticed(
    results: ResultsService,
    faulty: FaultyServer,
    mongodb_url: str,
    database: Any,
    fate: str,
) -> None:
    """Whichever request or answer is lost, a result is stored once, and is its own."""
    number = 0
    while True:
        number += 1
        result, step = large(number), Step(number, fate)
        faulty.fate = step
        results.store(result, on_duplicate="raise")
        if not step.happened:
            break
        assert results.load(result.reference()) == result
    assert number > 6
    assert results.count("p") == number + 2
    assert_whole(mongodb_url, database)


@pytest.mark.parametrize("fate", ["cut", "lose"])
@pytest.mark.parametrize("replace", [False, True])
def test_a_batch_survives_one_cut_connection(
    results: ResultsService,
    faulty: FaultyServer,
    mongodb_url: str,
    database: Any,
    fate: str,
    replace: bool,
) -> None:
    """Whichever request or answer of a batch is lost, all of it is stored once."""
    from prefect_lume.results.documents import to_document

    number = 0
    while True:
        number += 1
        batch = [
            to_document(one)
            for one in (
                large(number),
                *(
                    Result(project_name="p", inputs={"n": number, "k": k})
                    for k in range(5)
                ),
            )
        ]
        step = Step(number, fate)
        faulty.fate = step
        store = results.db_service
        assert store.insert_many("p", batch, replace=replace) == [True] * 6
        if not step.happened:
            break
    assert number > 6
    assert results.count("p") == 6 * number + 2
    assert_whole(mongodb_url, database)


def test_a_server_that_is_gone_at_any_step_leaves_nothing_half(
    results: ResultsService, faulty: FaultyServer, mongodb_url: str, database: Any
) -> None:
    """The call raises; what can be seen is whole, and the rest is collectable."""
    number = 0
    while True:
        number += 1
        result, step = large(number), Step(number, "cut", times=1000)
        faulty.fate = step
        try:
            results.store(result)
        except ConnectionFailedError:
            assert step.happened
        else:
            break
        faulty.fate = lambda name, command: None
        with suppress(NotFoundError):
            assert results.load(result.reference()) == result
    assert number > 6
    assert_whole(mongodb_url, database)


ERRORS = [
    (13, "not authorized on p to execute command", PermissionDeniedError, "user"),
    (18, "Authentication failed.", AuthenticationError, "password"),
    (14031, "available disk space of 4 bytes", StorageError, "disk is full"),
    (1, "could not extend file: No space left on device", StorageError, "disk is full"),
    (1, "FATAL: sorry, too many clients already", StorageError, "no free connection"),
    (1, "FATAL: the database system is shutting down", ConnectionFailedError, "again"),
]


@pytest.mark.parametrize(("code", "text", "kind", "words"), ERRORS)
def test_what_a_server_refuses_is_said_and_leaves_nothing(
    results: ResultsService,
    faulty: FaultyServer,
    faulty_url: str,
    mongodb_url: str,
    database: Any,
    code: int,
    text: str,
    kind: type[LumeError],
    words: str,
) -> None:
    """No rights, a full disk, no connections: a clear error at every kind of write."""
    from prefect_lume.results.documents import to_document

    refused = {"ok": 0.0, "errmsg": text, "code": code}
    for command in ("insert", "update", "findAndModify"):

        def fate(name: str, body: dict[str, Any], command: str = command) -> Fate:
            return refused if name == command else None

        faulty.fate = fate
        # One that has not said yet that it is alive.
        service = open_service(faulty_url)
        store, result = service.db_service, large(0)
        with pytest.raises(kind, match=words) as caught:
            service.store(result)
        password = urlsplit(mongodb_url).password
        assert not password or password not in str(caught.value)
        with pytest.raises(kind, match=words):
            store.insert_many("p", [to_document(result)])
        with pytest.raises(kind, match=words):
            store.replace("p", to_document(result))
    faulty.fate = lambda name, command: None
    assert results.count("p") == 2
    assert_whole(mongodb_url, database)


def _store_in_child(url: str, n: int) -> None:
    open_service(url).store(large(n))
    os._exit(0)


def test_a_writer_killed_at_any_step_leaves_nothing_half(
    results: ResultsService,
    faulty: FaultyServer,
    faulty_url: str,
    mongodb_url: str,
    database: Any,
) -> None:
    """With kill -9 before each command of a store, readers see all of it or nothing."""
    context = multiprocessing.get_context("fork")
    number = 0
    while True:
        number += 1
        child = context.Process(target=_store_in_child, args=(faulty_url, number))
        count = 0

        def kill(
            name: str,
            command: dict[str, Any],
            at: int = number,
            child: Any = child,
        ) -> Fate:
            nonlocal count
            count += 1
            if count < at:
                return None
            os.kill(child.pid, signal.SIGKILL)
            return "cut"

        faulty.fate = kill
        child.start()
        child.join(60)
        faulty.fate = lambda name, command: None
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        reader = open_service(mongodb_url)
        for result in reader.find("p"):
            reader.load(result.reference())
    assert number > 6
    assert_whole(mongodb_url, database)
