"""Writing to MongoDB on a real server: blobs, batches, clean-ups, killed writers."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import gridfs
import pytest
from bson import Binary
from pymongo import MongoClient, monitoring

from prefect_lume.errors import (
    ConflictError,
    ConnectionFailedError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from prefect_lume.results import Index, Result
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.stores import MongoDBService
from prefect_lume.results.stores.mongo import sessions as mongo_sessions
from prefect_lume.storage.mongo import database_of, get_client
from prefect_lume.testing.corpus import digest, make_document

pytestmark = pytest.mark.service("mongodb")

MEGABYTE = 1 << 20
AT_ONCE = timedelta(days=-1)


class Seeded(Result):
    """A document type with a unique index."""

    result_type = "MongoSeeded"
    indices = (Index(("inputs.seed",), unique=True),)


class Commands(monitoring.CommandListener):
    """What was sent to the server; ``before`` runs before each command."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.before: Callable[[str, Any], None] = lambda name, command: None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.before(event.command_name, event.command)
        self.sent.append((event.command_name, dict(event.command)))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass

    def names(self) -> list[str]:
        return [name for name, _ in self.sent]


def open_service(url: str) -> MongoDBService:
    return MongoDBService(lambda: get_client(url)[database_of(url)])


@pytest.fixture
def database(mongodb_url: str) -> Any:
    return get_client(mongodb_url)[database_of(mongodb_url)]


@pytest.fixture
def service(mongodb_url: str) -> MongoDBService:
    return open_service(mongodb_url)


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def watched(mongodb_url: str, commands: Commands) -> Iterator[MongoDBService]:
    """A service whose commands are seen."""
    client: Any = MongoClient(mongodb_url, event_listeners=[commands])
    with client:
        yield MongoDBService(client[database_of(mongodb_url)])


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def holding(*contents: bytes, given: bool = True, **fields: Any) -> Encoded:
    """Return a document that needs blobs, with or without them."""
    inputs = {
        f"b{n}": {"__lume__": "bytes", "v": 1, "blob": digest(data), "size": len(data)}
        for n, data in enumerate(contents)
    }
    blobs = {digest(data): data for data in contents} if given else {}
    fields["inputs"] = inputs | fields.get("inputs", {})
    return make_document(blobs=blobs, **fields)


def left(database: Any) -> dict[str, int]:
    names = ("files", "chunks")
    return {name: database[f"lume_blobs.{name}"].count_documents({}) for name in names}


NOTHING = {"files": 0, "chunks": 0}


# --- which document holds which blob -----------------------------------------------


def test_blobs_are_listed_with_the_document_and_hidden(
    service: MongoDBService, database: Any
) -> None:
    """The server knows which blobs a document needs; no reader sees the list."""
    inner = noise(2000, 1)
    part = json.dumps(
        {"__lume__": "bytes", "v": 1, "blob": digest(inner), "size": len(inner)}
    ).encode()
    spilled = {"__lume__": "tree", "v": 1, "blob": digest(part), "size": len(part)}
    encoded = make_document(
        inputs={"a": spilled}, blobs={digest(part): part, digest(inner): inner}
    )
    plain = make_document(inputs={"n": 1})
    assert service.insert("contract", encoded)
    assert service.insert("contract", plain)
    held = sorted([digest(part), digest(inner)])
    (raw,) = database["contract"].find({"_blobs": {"$exists": True}})
    assert raw["_blobs"] == held
    assert service.get("contract", encoded.tree["_id"]) == encoded.tree
    found = {tree["_id"]: tree for tree in service.find("contract")}
    assert found == {one.tree["_id"]: one.tree for one in (encoded, plain)}
    for tree in service.find("contract", projection=["_blobs", "_expires", "format"]):
        assert sorted(tree) == ["_id", "format"]
    assert sorted(service.held_blobs("contract")) == held
    assert list(service.held_blobs("contract", {"inputs.n": 1})) == []
    service.replace("contract", make_document(_id=encoded.tree["_id"]))
    assert list(service.held_blobs("contract")) == []


def test_documents_of_earlier_versions_are_completed(
    service: MongoDBService, database: Any, mongodb_url: str
) -> None:
    """Without the index nothing is taken for unused before all documents told."""
    contents = [noise(500, n) for n in range(450)]
    encoded = [holding(data, inputs={"n": n}) for n, data in enumerate(contents)]
    assert service.insert_many("contract", encoded) == [True] * 450
    service.insert("contract", make_document(inputs={"n": "plain"}))
    database["contract"].drop_index("lume_blobs")
    database["contract"].update_many({}, {"$unset": {"_blobs": 1}})
    other = open_service(mongodb_url)
    assert other.delete_unused_blobs(AT_ONCE) == []
    assert sorted(other.held_blobs("contract")) == sorted(map(digest, contents))
    assert "lume_blobs" in database["contract"].index_information()


def test_a_document_whose_blob_is_nowhere_is_refused(
    service: MongoDBService, database: Any
) -> None:
    """It is an integrity error that names the blob, and nothing is stored."""
    good, lost = noise(1000, 1), noise(1000, 2)
    encoded = holding(good, lost)
    del encoded.blobs[digest(lost)]
    for write in (service.insert, service.replace):
        with pytest.raises(IntegrityError, match=digest(lost)):
            write("contract", encoded)
    assert left(database) == NOTHING
    others = [holding(good, inputs={"n": 1}), encoded, make_document(inputs={"n": 2})]
    first, second, third = service.insert_many("contract", others)
    assert (first, third) == (True, True)
    assert isinstance(second, IntegrityError)
    assert digest(lost) in str(second)
    assert service.count("contract") == 2
    service.put_blob(digest(lost), lost)
    assert service.insert("contract", encoded)


# --- blobs -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, MEGABYTE, 3 * MEGABYTE + 17])
def test_any_gridfs_reader_reads_a_blob(
    service: MongoDBService, database: Any, size: int
) -> None:
    """What cannot be compressed lies in GridFS as its specification says."""
    data = noise(size)
    service.put_blob(digest(data), data)
    stream = gridfs.GridFSBucket(database, "lume_blobs").open_download_stream_by_name(
        digest(data)
    )
    assert stream.length == size
    assert stream.read() == data
    assert service.get_blob(digest(data)) == data


def test_blobs_are_compressed_when_it_pays(
    service: MongoDBService, database: Any
) -> None:
    """Text takes a fraction of its size, noise stays as it is, both come back."""
    text, noisy = b"emittance = 1.5e-6 m rad\n" * 200_000, noise(MEGABYTE)
    for data in (text, noisy):
        service.put_blob(digest(data), data)
        assert b"".join(service.read_blob(digest(data))) == data
    files = {file["filename"]: file for file in database["lume_blobs.files"].find()}
    assert files[digest(text)]["length"] < len(text) / 10
    assert files[digest(text)]["metadata"]["encoding"] == "zstd"
    assert files[digest(noisy)]["length"] == len(noisy)
    assert "encoding" not in files[digest(noisy)]["metadata"]
    sizes = dict(service.unused_blobs(AT_ONCE))
    assert sizes == {digest(text): len(text), digest(noisy): len(noisy)}


def test_damaged_blobs_are_never_returned(
    service: MongoDBService, database: Any
) -> None:
    """Garbage, a lost end, other lengths and unknown encodings are all noticed."""
    text = b"emittance = 1.5e-6 m rad\n" * 200_000
    service.put_blob(digest(text), text)
    files, chunks = database["lume_blobs.files"], database["lume_blobs.chunks"]
    file, chunk = files.find_one(), chunks.find_one()
    whole = chunk["data"]
    garbage = [
        b"x" * len(whole),
        whole[: len(whole) // 2] + noise(len(whole) - len(whole) // 2),
        whole[:-1],
        b"",
    ]
    for data in garbage:
        chunks.update_one({}, {"$set": {"data": Binary(data)}})
        with pytest.raises(IntegrityError):
            service.get_blob(digest(text))
    chunks.update_one({}, {"$set": {"data": whole}})
    for metadata in (
        {"encoding": "zstd", "size": 1000},
        {"encoding": "zstd", "size": len(text) + 1},
        {"encoding": "lzma", "size": len(text)},
        {},
    ):
        files.update_one({}, {"$set": {"metadata": metadata}})
        with pytest.raises(IntegrityError):
            service.get_blob(digest(text))
    files.update_one({}, {"$set": {"metadata": file["metadata"]}})
    assert service.get_blob(digest(text)) == text


def test_a_wrong_hash_leaves_nothing(service: MongoDBService, database: Any) -> None:
    """Content with another hash or size, or that fails to come, is removed again."""
    data = noise(3 * MEGABYTE)
    pieces = [data[start : start + MEGABYTE] for start in range(0, len(data), MEGABYTE)]

    def failing() -> Iterator[bytes]:
        yield from pieces[:2]
        raise RuntimeError("the disk broke")

    with pytest.raises(IntegrityError):
        service.write_blob(digest(b"other"), len(data), pieces)
    with pytest.raises(IntegrityError):
        service.write_blob(digest(data), len(data) + 1, pieces)
    with pytest.raises(RuntimeError):
        service.write_blob(digest(data), len(data), failing())
    assert left(database) == NOTHING
    with pytest.raises(NotFoundError):
        service.get_blob(digest(data))


@pytest.mark.parametrize("compressible", [False, True])
def test_blobs_stream_in_bounded_memory(
    service: MongoDBService, compressible: bool
) -> None:
    """Neither writing nor reading holds more than a few pieces."""
    count = 48
    block = b"1.5e-6 " * (MEGABYTE // 7 + 1) if compressible else noise(MEGABYTE)

    def pieces() -> Iterator[bytes]:
        for n in range(count):
            yield n.to_bytes(4) + block[: MEGABYTE - 4]

    import hashlib

    whole = hashlib.sha256()
    for piece in pieces():
        whole.update(piece)
    tracemalloc.start()
    try:
        service.write_blob(whole.hexdigest(), count * MEGABYTE, pieces())
        again = hashlib.sha256()
        for piece in service.read_blob(whole.hexdigest()):
            again.update(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert again.digest() == whole.digest()
    assert peak < 16 * MEGABYTE


def test_blobs_are_stored_once_and_touched_by_the_servers_clock(
    watched: MongoDBService, commands: Commands, database: Any
) -> None:
    """The writer sends no date of its own, and no content that is there."""
    data = noise(2 * MEGABYTE)
    start = watched.now()
    watched.put_blob(digest(data), data)
    files = database["lume_blobs.files"]
    files.update_one({}, {"$set": {"metadata.stored": start - timedelta(days=9)}})
    commands.sent.clear()
    watched.put_blob(digest(data), data)
    assert commands.names() == ["update"]
    assert left(database) == {"files": 1, "chunks": 2}
    assert start <= files.find_one()["metadata"]["stored"] <= watched.now()
    commands.sent.clear()
    data = noise(1000)
    watched.put_blob(digest(data), data)
    own = [found for _, command in commands.sent for found in dates(command)]
    # The upload's date follows from what the server answered before.
    (sent,) = own
    uploaded = files.find_one({"filename": digest(data)})["uploadDate"]
    assert abs(sent - uploaded) < timedelta(milliseconds=1)


def dates(value: Any) -> Iterator[datetime]:
    if isinstance(value, datetime):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from dates(item)
    elif isinstance(value, list):
        for item in value:
            yield from dates(item)


# --- clean-ups ---------------------------------------------------------------------


def _die_while_writing(url: str, data: bytes) -> None:
    service = open_service(url)

    def pieces() -> Iterator[bytes]:
        for start in range(0, 5 * MEGABYTE, MEGABYTE):
            yield data[start : start + MEGABYTE]
        # Requests are under way while the next pieces are asked for.
        chunks = service._database()["lume_blobs.chunks"]
        while chunks.count_documents({}) < 4:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)

    service.write_blob(digest(data), len(data), pieces())


def age(database: Any, by: timedelta = timedelta(days=2)) -> None:
    """Let all uploads be last heard of long ago."""
    for record in database["lume_blobs.uploads"].find():
        database["lume_blobs.uploads"].update_one(
            {"_id": record["_id"]}, {"$set": {"stored": record["stored"] - by}}
        )


def test_what_a_killed_writer_left_is_collected(
    service: MongoDBService, database: Any, mongodb_url: str
) -> None:
    """Chunks without a file go when nobody has been at them for long, not before."""
    data = noise(6 * MEGABYTE)
    process = multiprocessing.get_context("fork").Process(
        target=_die_while_writing, args=(mongodb_url, data)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert left(database) == {"files": 0, "chunks": 4}
    assert service.delete_unused_blobs() == []
    assert left(database)["chunks"] == 4
    age(database)
    service.delete_unused_blobs()
    assert left(database)["chunks"] == 0
    age(database)
    service.delete_unused_blobs()
    assert database["lume_blobs.uploads"].count_documents({}) == 0
    service.put_blob(digest(data), data)
    assert service.get_blob(digest(data)) == data


@pytest.mark.parametrize("renew", [0.0, 300.0])
def test_an_upload_that_was_collected_fails(
    service: MongoDBService,
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
    renew: float,
) -> None:
    """A writer that slept through a clean-up raises, and leaves no broken blob."""
    monkeypatch.setattr(mongo_sessions, "_RENEW", renew)
    data = noise(6 * MEGABYTE)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(data), MEGABYTE):
            if start == 5 * MEGABYTE:
                age(database)
                service.delete_unused_blobs()
            yield data[start : start + MEGABYTE]

    with pytest.raises(StorageError, match="clean-up"):
        service.write_blob(digest(data), len(data), pieces())
    with pytest.raises(NotFoundError):
        service.get_blob(digest(data))
    for _ in range(2):
        age(database)
        service.delete_unused_blobs()
    assert left(database) == NOTHING
    service.put_blob(digest(data), data)
    assert service.get_blob(digest(data)) == data


def test_a_clean_up_that_was_killed_is_completed(
    service: MongoDBService, database: Any
) -> None:
    """Files that lost their entry lose their chunks, those that kept it do not."""
    kept, gone = noise(1000, 1), noise(1000, 2)
    files = database["lume_blobs.files"]
    for data in (kept, gone):
        service.put_blob(digest(data), data)
    ids = [file["_id"] for file in files.find()]
    record = {"removing": ids, "stored": service.now() - timedelta(days=2)}
    database["lume_blobs.uploads"].insert_one(record)
    files.delete_one({"filename": digest(gone)})
    service.delete_unused_blobs()
    assert left(database) == {"files": 1, "chunks": 1}
    assert service.get_blob(digest(kept)) == kept


def test_sessions_end_with_their_writers(
    service: MongoDBService, database: Any, mongodb_url: str
) -> None:
    """Old records go, what finished sessions stored stays, gaps or not."""
    contents = [noise(1000, n) for n in range(9)]
    for data in contents:
        service.put_blob(digest(data), data)
    assert database["lume_blobs.uploads"].count_documents({}) == 1
    for data in contents[2:9:3]:
        service.delete_blob(digest(data), service.now() + timedelta(days=1))
    held = holding(*contents[0:9:3], *contents[1:9:3], given=False)
    assert service.insert("contract", held)
    other = open_service(mongodb_url)
    for _ in range(2):
        age(database)
        other.delete_unused_blobs()
    assert database["lume_blobs.uploads"].count_documents({}) == 0
    assert left(database) == {"files": 6, "chunks": 6}
    for sha256 in held.tree["inputs"].values():
        service.get_blob(sha256["blob"])
    service.put_blob(digest(contents[2]), contents[2])
    assert service.get_blob(digest(contents[2])) == contents[2]


def test_two_writers_of_one_blob_leave_it_once(
    service: MongoDBService, database: Any
) -> None:
    """The slower of two uploads withdraws its chunks."""
    data = noise(2 * MEGABYTE)

    def pieces() -> Iterator[bytes]:
        yield data[:MEGABYTE]
        service.put_blob(digest(data), data)
        yield data[MEGABYTE:]

    service.write_blob(digest(data), len(data), pieces())
    assert left(database) == {"files": 1, "chunks": 2}
    assert service.get_blob(digest(data)) == data


def test_only_what_no_collection_holds_is_removed(
    service: MongoDBService, database: Any
) -> None:
    """A blob goes with its last document, in any project; young ones stay."""
    shared, alone, young = noise(1000, 1), noise(1000, 2), noise(1000, 3)
    for project in ("contract", "other"):
        for n in range(5):
            document = holding(shared, project_name=project, inputs={"n": n})
            service.insert(project, document)
    service.insert("contract", holding(alone))
    hashes = [digest(data) for data in (shared, alone, young)]
    assert service.delete_unused_blobs(AT_ONCE, hashes) == []
    service.delete("contract", {})
    service.put_blob(digest(young), young)
    assert service.delete_unused_blobs(timedelta(hours=1), hashes) == []
    assert service.unused_blobs(AT_ONCE, [digest(alone)]) == [(digest(alone), 1000)]
    past = service.now() - timedelta(days=2)
    files = database["lume_blobs.files"]
    files.update_many(
        {"filename": {"$ne": digest(young)}}, {"$set": {"metadata.stored": past}}
    )
    assert service.delete_unused_blobs(timedelta(hours=1)) == [(digest(alone), 1000)]
    assert service.get_blob(digest(shared)) == shared
    service.delete("other", {})
    gone = service.delete_unused_blobs(timedelta(hours=1), hashes)
    assert gone == [(digest(shared), 1000)]
    assert left(database) == {"files": 1, "chunks": 1}


def test_a_blob_taken_before_its_document_came_is_put_back(
    watched: MongoDBService, commands: Commands, service: MongoDBService
) -> None:
    """When a clean-up was faster than its lease allows, the writer repairs it."""
    data = noise(2000)

    def clean_up(name: str, command: Any) -> None:
        if name == "insert" and command["insert"] == "contract":
            commands.before = lambda name, command: None
            assert service.delete_unused_blobs(AT_ONCE) == [(digest(data), 2000)]

    for encoded, many in (
        (holding(data), False),
        (holding(data, inputs={"n": 1}), True),
    ):
        service.delete("contract", {})
        service.delete_unused_blobs(AT_ONCE)
        commands.before = clean_up
        if many:
            assert watched.insert_many("contract", [encoded]) == [True]
        else:
            assert watched.insert("contract", encoded)
        assert service.get_blob(digest(data)) == data


def test_clean_ups_and_writers_side_by_side(
    service: MongoDBService, mongodb_url: str
) -> None:
    """Documents come and go in four threads while two collect: all can be loaded."""
    contents = [noise(3000, n) for n in range(6)]
    removed: list[str] = []
    over = threading.Event()

    def write(number: int) -> None:
        own, chance, done = open_service(mongodb_url), random.Random(number), 0
        # Until the collectors took enough away meanwhile.
        while done < 40 or len(removed) < 10:
            data = chance.choice(contents)
            encoded = holding(data, inputs={"by": number, "n": done})
            assert own.insert("contract", encoded)
            assert own.get_blob(digest(data)) == data
            if chance.random() < 0.7:
                own.delete("contract", {"inputs.by": number})
            done += 1

    def collect() -> None:
        own = open_service(mongodb_url)
        while not over.is_set():
            gone = own.delete_unused_blobs(timedelta(seconds=0.3))
            removed.extend(sha256 for sha256, _ in gone)

    with ThreadPoolExecutor(6) as threads:
        collectors = [threads.submit(collect) for _ in range(2)]
        writers = [threads.submit(write, n) for n in range(4)]
        try:
            for writer in writers:
                writer.result()
        finally:
            over.set()
        for collector in collectors:
            collector.result()
    assert set(removed) <= {digest(data) for data in contents}
    for sha256 in service.held_blobs("contract"):
        assert digest(bytes(service.get_blob(sha256))) == sha256


# --- round trips -------------------------------------------------------------------


def test_a_small_document_takes_one_round_trip(
    watched: MongoDBService, commands: Commands
) -> None:
    """Once a collection is known, storing is one command, and a batch is one too."""
    watched.insert("contract", make_document(inputs={"n": -1}))
    commands.sent.clear()
    assert watched.insert("contract", make_document(inputs={"n": 0}))
    assert commands.names() == ["insert"]
    commands.sent.clear()
    documents = [make_document(inputs={"n": n}) for n in range(1, 901)]
    assert watched.insert_many("contract", documents) == [True] * 900
    assert commands.names() == ["insert"]
    commands.sent.clear()
    assert watched.insert_many("contract", documents) == [False] * 900
    assert commands.names()[:2] == ["insert", "find"]


def test_each_document_of_a_batch_has_its_outcome(service: MongoDBService) -> None:
    """Known keys, unique values, twins and nonsense do not keep others out."""
    service.prepare([Seeded])

    def seeded(seed: Any, note: str = "", **fields: Any) -> Encoded:
        inputs = {"seed": seed, "note": note}
        return make_document(inputs=inputs, result_type="MongoSeeded", **fields)

    service.insert("contract", seeded(0))
    data = noise(5000)
    bad = make_document(inputs={"n": "bad"}, flow_id="")
    batch = [
        seeded(0),
        seeded(0, "again"),
        seeded(1),
        seeded(1),
        bad,
        holding(data),
        seeded(2, "first", _id="ab" * 32),
        seeded(2, "second", _id="ab" * 32),
        seeded(0, "again", _id="cd" * 32),
        seeded(3, "instead", _id="cd" * 32),
    ]
    outcomes = service.insert_many("contract", batch)
    assert [type(outcome) for outcome in outcomes] == [
        bool,
        ConflictError,
        bool,
        bool,
        InvalidInputError,
        bool,
        bool,
        bool,
        ConflictError,
        bool,
    ]
    flags = [outcome for outcome in outcomes if isinstance(outcome, bool)]
    assert flags == [False, True, False, True, True, False, True]
    assert "inputs.seed" in str(outcomes[1])
    assert service.get("contract", "ab" * 32)["inputs"]["note"] == "first"
    assert service.get_blob(digest(data)) == data

    replaced = service.insert_many("contract", batch, replace=True)
    assert [type(outcome) for outcome in replaced] == [type(o) for o in outcomes]
    assert [o for o in replaced if isinstance(o, bool)] == [True] * 7
    assert service.get("contract", "ab" * 32)["inputs"]["note"] == "second"
    assert service.insert_many("contract", []) == []


def test_a_document_past_the_servers_limit_is_refused_alone(
    service: MongoDBService,
) -> None:
    """One of 17 MB is an invalid input, and the others of its batch are stored."""
    huge = make_document(inputs={"text": "x" * (17 * MEGABYTE)})
    others = [make_document(inputs={"n": n}) for n in range(3)]
    with pytest.raises(InvalidInputError):
        service.insert("contract", huge)
    for replace in (False, True):
        outcomes = service.insert_many(
            "contract", [others[0], huge, *others[1:]], replace=replace
        )
        assert isinstance(outcomes.pop(1), InvalidInputError)
        assert outcomes == [True] * 3
    assert service.count("contract") == 3


def test_the_blobs_of_a_batch_are_stored_once(
    watched: MongoDBService, commands: Commands, database: Any
) -> None:
    """A thousand documents that share blobs upload each of them once."""
    contents = [noise(2000, n) for n in range(3)]
    watched.insert("contract", make_document(inputs={"n": -1}))
    documents = [
        holding(contents[n % 3], contents[(n + 1) % 3], inputs={"n": n})
        for n in range(300)
    ]
    commands.sent.clear()
    assert watched.insert_many("contract", documents) == [True] * 300
    assert len(commands.sent) < 30
    assert left(database) == {"files": 3, "chunks": 3}
    commands.sent.clear()
    assert watched.insert_many("contract", documents) == [False] * 300
    assert commands.names() == [
        "find",
        *["getMore"] * commands.names().count("getMore"),
    ]


# --- faults ------------------------------------------------------------------------


def test_connections_that_are_all_in_use_are_said_to_be(mongodb_url: str) -> None:
    """Waiting too long for a connection of the pool says what can be done."""
    commands, held, free = Commands(), threading.Event(), threading.Event()
    client: Any = MongoClient(
        mongodb_url, event_listeners=[commands], maxPoolSize=1, waitQueueTimeoutMS=100
    )
    with client:
        service = MongoDBService(client[database_of(mongodb_url)])
        service.insert("contract", make_document(inputs={"n": 0}))

        def hold(name: str, command: Any) -> None:
            commands.before = lambda name, command: None
            held.set()
            free.wait(120)

        commands.before = hold
        thread = threading.Thread(target=lambda: service.count("contract"))
        thread.start()
        assert held.wait(120)
        try:
            with pytest.raises(ConnectionFailedError, match="maxPoolSize"):
                service.insert("contract", make_document(inputs={"n": 1}))
        finally:
            free.set()
            thread.join(120)
        assert service.insert("contract", make_document(inputs={"n": 1}))


def _store_with_blob(service: MongoDBService, data: bytes, queue: Any) -> None:
    queue.put(service.insert("contract", holding(data, inputs={"by": "child"})))


def test_a_forked_child_stores_blobs(service: MongoDBService) -> None:
    """A service that was used before a fork works in the child and in the parent."""
    first, second = noise(2 * MEGABYTE, 1), noise(2 * MEGABYTE, 2)
    service.insert("contract", holding(first))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_store_with_blob, args=(service, second, queue))
    process.start()
    assert queue.get(timeout=60) is True
    process.join(60)
    assert service.insert("contract", holding(first, second)) is True
    assert service.get_blob(digest(second)) == second
    assert service.count("contract") == 3
