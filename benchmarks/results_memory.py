"""How much memory it takes to store, load, stream and find what is large or many.

    python benchmarks/results_memory.py

Each case runs in a process of its own. What counts is how far the process grows past
what it needed just before (the peak of its resident memory): the array itself is part
of the case, the imports are not. With ``LUME_TEST_MONGODB_URL`` set (see
tests/README.md) the cases of MongoDB run too. Exit status 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores import MongoDBService, SQLDBService
from prefect_lume.storage import mongo, sql

MEGABYTE = 1 << 20
PROJECT = "memory"

#: Case → what it may grow by at full size, in megabytes.
TARGETS = {
    "store an array of 1 GB": 2200,
    "load an array of 1 GB": 2200,
    "stream a file of 1 GB in": 64,
    "stream a file of 1 GB out": 64,
    # The outcomes that it returns, one for each result, are most of it.
    "store_many of 100,000 results": 192,
    "find over 100,000 results": 64,
}


def now() -> int:
    """Return the memory that the process has, in bytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


@contextmanager
def grown(sizes: dict[str, float], name: str) -> Iterator[None]:
    """Note by how much the process grows."""
    before = now()
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    start = time.monotonic()
    yield
    status = Path("/proc/self/status").read_text("ascii")
    (line,) = (one for one in status.splitlines() if one.startswith("VmHWM"))
    sizes[name] = ((int(line.split()[1]) << 10) - before) / MEGABYTE
    sizes["seconds"] = time.monotonic() - start


def open_service(url: str) -> ResultsService:
    if url.startswith("mongodb"):
        return ResultsService(
            MongoDBService(mongo.get_client(url)[mongo.database_of(url)])
        )
    store = SQLDBService(sql.get_engine(url))
    store.create_tables()
    return ResultsService(store)


def warm(service: ResultsService) -> None:
    """Do everything once, so that only what is large is measured."""
    result = Result(project_name="warm", outputs={"a": np.random.rand(2_000_000)})
    service.load(service.store(result))
    service.store_many(Result(project_name="warm", inputs={"n": n}) for n in range(10))
    assert len(list(service.find("warm"))) >= 11


def array(service: ResultsService, megabytes: int, folder: Path) -> dict[str, float]:
    sizes: dict[str, float] = {}
    with grown(sizes, "store an array of 1 GB"):
        numbers = np.random.default_rng(1).random((megabytes << 20) // 8)
        result = Result(project_name=PROJECT, inputs={}, outputs={"a": numbers})
        reference = service.store(result)
        first, last = float(numbers[0]), float(numbers[-1])
    del result, numbers
    (folder / "reference").write_text(json.dumps([reference.model_dump(), first, last]))
    return sizes


def load(service: ResultsService, megabytes: int, folder: Path) -> dict[str, float]:
    sizes: dict[str, float] = {}
    reference, first, last = json.loads((folder / "reference").read_text())
    with grown(sizes, "load an array of 1 GB"):
        numbers = service.load(reference).outputs["a"]
    assert numbers.nbytes == megabytes << 20
    assert (float(numbers[0]), float(numbers[-1])) == (first, last)
    return sizes


def stream(service: ResultsService, megabytes: int, folder: Path) -> dict[str, float]:
    path, target = folder / "in", folder / "out"
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(MEGABYTE))
    sizes: dict[str, float] = {}
    with grown(sizes, "stream a file of 1 GB in"):
        info = service.db_service.put_blob_file(path)
    path.unlink()
    with grown(sizes, "stream a file of 1 GB out"):
        service.db_service.fetch_blob(info.sha256, target)
    with target.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == info.sha256
    return sizes


def many(service: ResultsService, megabytes: int, _: Path) -> dict[str, float]:
    count = 100_000 * megabytes // 1000
    sizes: dict[str, float] = {}
    with grown(sizes, "store_many of 100,000 results"):
        outcomes = service.store_many(
            Result(project_name=PROJECT, inputs={"n": n}, outputs={"y": n / 3})
            for n in range(count)
        )
    assert {outcome.status for outcome in outcomes} == {"stored"}
    return sizes


def find(service: ResultsService, megabytes: int, _: Path) -> dict[str, float]:
    sizes: dict[str, float] = {}
    with grown(sizes, "find over 100,000 results"):
        found = sum(1 for _ in service.find(PROJECT, {"inputs.n": {"$gte": 0}}))
    assert found == 100_000 * megabytes // 1000
    return sizes


Case = Callable[[ResultsService, int, Path], dict[str, float]]
CASES: tuple[Case, ...] = (array, load, stream, many, find)


def run(case: Case, url: str, megabytes: int, folder: Path) -> dict[str, float]:
    """Run a case in a process of its own."""
    order = json.dumps([case.__name__, url, megabytes, str(folder)])
    done = subprocess.run(
        [sys.executable, __file__, "--worker"],
        input=order,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    sizes: dict[str, float] = json.loads(done.stdout)
    return sizes


def work() -> None:
    name, url, megabytes, folder = json.load(sys.stdin)
    service = open_service(url)
    warm(service)
    (case,) = (one for one in CASES if one.__name__ == name)
    print(json.dumps(case(service, megabytes, Path(folder))))


def measure(store: str, url: str, megabytes: int, names: list[str]) -> bool:
    """Run the cases on a store, print a table, and return whether all held."""
    held = True
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if names and case.__name__ not in names:
                continue
            sizes = run(
                case, url or f"sqlite:///{folder}/m.db", megabytes, Path(folder)
            )
            seconds = sizes.pop("seconds")
            for name, size in sizes.items():
                # Smaller runs are a rehearsal: arrays grow with them, the rest not.
                target = TARGETS[name]
                if "1 GB" in name and target > 64:
                    target = target * megabytes // 1000
                held &= size <= target
                print(
                    f"{store:<8} {name:<32} {size:8.0f} MB  target {target:5d} MB  "
                    f"{seconds:6.1f} s  {'ok' if size <= target else 'MISSED'}",
                    flush=True,
                )
    return held


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--store", choices=["sqlite", "mongodb"], action="append")
    parser.add_argument("--case", choices=[c.__name__ for c in CASES], action="append")
    options = parser.parse_args()
    if options.worker:
        work()
        return 0
    held, names = True, options.case or []
    stores = options.store or ["sqlite", "mongodb"]
    if "sqlite" in stores:
        held &= measure("sqlite", "", options.megabytes, names)
    server = os.environ.get("LUME_TEST_MONGODB_URL", "")
    if "mongodb" in stores and not server:
        print("mongodb  NOT RUN: LUME_TEST_MONGODB_URL is not set")
    elif "mongodb" in stores:
        database = f"memory_{uuid.uuid4().hex[:8]}"
        try:
            url = server.replace("/?", f"/{database}?")
            held &= measure("mongodb", url, options.megabytes, names)
        finally:
            mongo.get_client(server).drop_database(database)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
