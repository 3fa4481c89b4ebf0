"""One writer of ``results_survival.py``: stores its share, and logs what came of it.

It appends to its log one line for each result that was acknowledged and for each call
that failed. A line is written after the call has returned, by one system call: a writer
that is killed has logged no result that it did not store. Started again with the same
log, it goes on where it was.
"""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prefect_lume.errors import LumeError
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores import MongoDBService, SQLDBService
from prefect_lume.storage import mongo, sql

PROJECT = "survival"
#: One result in so many holds an array, and of these one in four one that others hold.
ARRAYS = 16
#: One in so many is given up when it fails: it may leave blobs that nobody needs.
GIVEN_UP = 32
_SINGLE, _MANY = 30, 20
_PATIENCE = 180.0


def open_service(url: str) -> ResultsService:
    """Return the service of a database."""
    if url.startswith("mongodb"):
        store = MongoDBService(lambda: mongo.get_client(url)[mongo.database_of(url)])
        return ResultsService(store)
    return ResultsService(SQLDBService(sql.get_engine(url)))


def make_result(n: int) -> Result:
    """Return result number ``n``: always the same one."""
    outputs: dict[str, object] = {"sigma": n / 7, "name": f"result {n}"}
    if n % ARRAYS == 0:
        shared = n % (4 * ARRAYS) == 0
        chance = np.random.default_rng(10**9 + n // 1000 if shared else n)
        outputs["field"] = chance.random(int(chance.integers(12_800, 131_072)))
    return Result(
        project_name=PROJECT, flow_run_id=f"run-{n}", inputs={"n": n}, outputs=outputs
    )


class Log:
    """What became of the calls, for the main process."""

    def __init__(self, path: str) -> None:
        self.acknowledged = {
            entry["n"] for entry in entries(Path(path)) if "hash" in entry
        }
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **entry: object) -> None:
        os.write(self._file, (json.dumps(entry) + "\n").encode())


def entries(path: Path) -> Iterator[dict[str, object]]:
    """Yield the entries of a log; a line that is not finished is none."""
    if path.exists():
        for line in path.read_text("utf-8").split("\n")[:-1]:
            yield json.loads(line)


def store_one(service: ResultsService, log: Log, n: int) -> bool:
    """Store a result; return whether it was acknowledged."""
    try:
        reference = service.store(make_result(n))
    except LumeError as error:
        log.write(error=type(error).__name__, message=str(error))
        return False
    log.write(n=n, hash=reference.unique_hash)
    return True


def store_some(service: ResultsService, log: Log, numbers: list[int]) -> list[int]:
    """Store results by one call; return those that were not acknowledged."""
    try:
        outcomes = service.store_many([make_result(n) for n in numbers])
    except LumeError as error:
        log.write(error=type(error).__name__, message=str(error))
        return numbers
    left = []
    for n, outcome in zip(numbers, outcomes, strict=True):
        if outcome.reference is not None:
            log.write(n=n, hash=outcome.reference.unique_hash)
            continue
        log.write(error=type(outcome.error).__name__, message=str(outcome.error))
        left.append(n)
    return left


def work(service: ResultsService, log: Log, numbers: list[int]) -> None:
    """Store results, most one by one and some together, until all are stored."""
    deadline = time.monotonic() + _PATIENCE
    start, together = 0, False
    try:
        while start < len(numbers):
            left = numbers[start : start + (_MANY if together else _SINGLE)]
            start += len(left)
            while left:
                if together:
                    left = store_some(service, log, left)
                else:
                    failed = [n for n in left if not store_one(service, log, n)]
                    left = [n for n in failed if n % GIVEN_UP]
                    log.write(dropped=[n for n in failed if n not in left])
                if left and time.monotonic() > deadline:
                    log.write(given_up=left)
                    return
                time.sleep(0.2 if left else 0)
            together = not together
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding.
        log.write(crash=traceback.format_exc())


def run(url: str, path: str, numbers: range, threads: int) -> None:
    """Store results in several threads, but for those that the log acknowledges."""
    log = Log(path)
    service = open_service(url)
    left = [n for n in numbers if n not in log.acknowledged]
    workers = [
        threading.Thread(target=work, args=(service, log, left[k::threads]))
        for k in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
