"""Pipeline results in MongoDB on a real server: the contract, processes that die."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from prefect_lume.errors import ConnectionFailedError
from prefect_lume.pipelines import Batch, PipelineTaskStatus
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.mongo import MongoPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind, ResultRow
from prefect_lume.results.stores import MongoDBService
from prefect_lume.storage.mongo import database_of, get_client
from prefect_lume.testing import PipelineStorageContract
from prefect_lume.testing.pipelines_generated import History

CHILD = """
import random, sys, time
from prefect_lume.pipelines.mongo import MongoPipelineResultsStorage
from prefect_lume.testing.pipelines_generated import History

storage = MongoPipelineResultsStorage(uri=sys.argv[1])
rng, seeds = random.Random(int(sys.argv[2])), range(int(sys.argv[3]), int(sys.argv[4]))
while True:
    seed = rng.choice(seeds)
    for batch in History(seed).rearranged(rng.randrange(10**6)):
        storage.record(batch)
        print("recorded", flush=True)
    if rng.random() < 0.1:
        storage.remove([History(rng.choice(seeds)).run_id])
"""


class TestMongoPipelineResultsStorage(PipelineStorageContract):
    """Every test of the published suite."""

    @pytest.fixture
    def storage(self, mongodb_url):
        """The storage on a fresh database."""
        return MongoPipelineResultsStorage(uri=mongodb_url)


@pytest.fixture
def storage(mongodb_url):
    """The storage on a fresh database."""
    return MongoPipelineResultsStorage(uri=mongodb_url)


@pytest.fixture
def database(mongodb_url):
    """The fresh database."""
    return get_client(mongodb_url)[database_of(mongodb_url)]


def content(storage):
    """Return all rows and changes of a storage."""
    rows = {kind: storage.find(kind) for kind in Kind}
    ids = [row.id for found in rows.values() for row in found]
    return rows, storage.get_history(ids)


def expected(seeds):
    """Return what the reference keeps of the histories of these seeds."""
    reference = MemoryPipelineResultsStorage()
    for seed in seeds:
        reference.record(History(seed).whole())
    return content(reference)


def leftovers(database):
    """Return how many runs are still being written, or claimed."""
    runs = database["lume_pipelines.run"]
    return [
        runs.count_documents({name: {"$exists": True}}) for name in ("pending", "claim")
    ]


def test_rows_equal_those_of_the_reference(storage):
    """Random histories, shuffled and told twice: the rows and the digest are equal."""
    seeds, reference = range(20), MemoryPipelineResultsStorage()
    for seed in seeds:
        for batch in History(seed).rearranged(seed):
            storage.record(batch)
        reference.record(History(seed).whole())
    assert content(storage) == content(reference)
    for kind in Kind:
        newest = storage.find(kind, newest_first=True, skip=3, limit=20)
        assert newest == reference.find(kind, newest_first=True, skip=3, limit=20)
    assert _shown(storage) == _digest(reference)


def test_threads_may_record_the_same_run(storage, database):
    """Four threads record the same runs: each change is new to one of them."""
    seeds, new = range(6), []

    def work(number):
        batches = [
            batch for seed in seeds for batch in History(seed).rearranged(seed + number)
        ]
        random.Random(number).shuffle(batches)
        new.append(sum(storage.record(batch) for batch in batches))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(storage) == expected(seeds)
    assert sum(new) == storage.count_states()
    assert leftovers(database) == [0, 0]


def stop_while_writing(child, database, pauses):
    """Stop a process amid a write, if one is met in two seconds of trying.

    What is pending while nobody goes on is what the process left.
    """
    deadline = time.monotonic() + 2.0
    while True:
        child.send_signal(signal.SIGSTOP)
        if leftovers(database)[0] or time.monotonic() > deadline:
            return
        child.send_signal(signal.SIGCONT)
        time.sleep(pauses.uniform(0.0, 0.03))


def test_recorders_may_be_killed_at_any_time(mongodb_url, storage, database):
    """Recorders of the same runs are killed 24 times: recorded again, all is right."""
    seeds, rng, pending = range(38), random.Random(7), 0
    storage.count_states()  # Makes the collections, which takes a while.
    for number in range(16):
        # Some runs are new each time: what is there already is not written again.
        first, last = str(2 * number), str(2 * number + 8)
        command = [sys.executable, "-c", CHILD, mongodb_url, str(number), first, last]
        children = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            for _ in range(1 + number % 2)
        ]
        for child in children:
            assert child.stdout.readline() == "recorded\n"
        if number % 2:
            time.sleep(rng.uniform(0.1, 0.7))
        else:
            stop_while_writing(children[0], database, rng)
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
        for child in children:
            child.communicate()
        pending += leftovers(database)[0]
    assert pending, "no child was killed while it wrote"
    fresh = MongoPipelineResultsStorage(uri=mongodb_url)
    for seed in seeds:
        for batch in History(seed).rearranged(seed):
            fresh.record(batch)
    assert content(fresh) == expected(seeds)
    assert leftovers(database) == [0, 0]


def test_a_recorder_that_was_stopped_overwrites_nothing(mongodb_url, storage, database):
    """Recorders that stand still while others go on leave nothing stale behind."""
    seeds, rng = range(3), random.Random(3)
    storage.count_states()
    command = [sys.executable, "-c", CHILD, mongodb_url, "1", "0", "3"]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout.readline() == "recorded\n"
        for number in range(6):
            child = children[number % 2]
            time.sleep(rng.uniform(0, 0.2))
            child.send_signal(signal.SIGSTOP)
            time.sleep(1.3)  # Longer than others wait.
            child.send_signal(signal.SIGCONT)
        time.sleep(0.3)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    for seed in seeds:
        storage.record(History(seed).whole())
    time.sleep(0.1)
    assert content(storage) == expected(seeds)
    storage.remove([History(seed).run_id for seed in seeds])
    assert content(storage) == expected([])
    assert storage.count_states() == 0
    assert database["lume_pipelines.run"].count_documents({}) == 0


def test_the_digest_of_many_results_is_right(storage):
    """20,000 pipeline results are digested, and what is left after a removal."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        ResultRow(
            id=f"result-{n}",
            run_id=f"run-{n % 50}",
            parent_id=f"run-{n % 50}",
            pipeline_id=f"pipeline-{n % 7}",
            pipeline_object={"shot": n, "settings": list(range(20))},
            status=list(PipelineTaskStatus)[n % 7],
            created=start,
            started=start + timedelta(seconds=n),
            completed=start + timedelta(seconds=n, microseconds=n) if n % 3 else None,
        )
        for n in range(20_000)
    ]
    reference = MemoryPipelineResultsStorage()
    for at in range(0, len(rows), 5000):
        for each in (storage, reference):
            each.transaction(
                lambda session, at=at: session.put(Kind.RESULT, rows[at : at + 5000])
            )
    assert _shown(storage) == _digest(reference)
    for each in (storage, reference):
        each.remove([f"run-{n}" for n in range(20)])
    assert _shown(storage) == _digest(reference)


def _digest(storage):
    """Return a digest to compare: sums of seconds differ in their last digits."""
    found = storage.get_pipeline_digest()
    return {
        name: {**item.as_json(), "average_runtime": pytest.approx(item.average_runtime)}
        for name, item in found.items()
    }


def _shown(storage):
    found = storage.get_pipeline_digest()
    return {name: item.as_json() for name, item in found.items()}


def test_results_do_not_take_its_collections_for_projects(storage, database):
    """The results database beside it sees no projects in what the storage keeps."""
    storage.record(History(1).whole())
    assert MongoDBService(database).collections() == []


def test_a_server_that_is_not_there_is_said_so():
    """The error names the server, and no password."""
    uri = "mongodb://lume:secret@127.0.0.1:1/lume"
    client = get_client(uri, serverSelectionTimeoutMS=300)
    storage = MongoPipelineResultsStorage(client["lume"])
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:1/lume") as caught:
        storage.record(Batch())
    assert "secret" not in str(caught.value)
