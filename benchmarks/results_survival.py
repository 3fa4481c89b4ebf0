"""Kill the database server in the middle of thousands of stores: is anything lost?

    python benchmarks/results_survival.py postgresql mariadb mysql
    python benchmarks/results_survival.py mongodb ferretdb sqlite

Several processes of several threads store results, small ones and ones with arrays,
one by one and many at once, while the server is killed (SIGKILL) and started again.
Calls that fail are repeated, but for a few. ``mongodb`` kills the PostgreSQL beneath
FerretDB, ``ferretdb`` FerretDB itself; SQLite has no server: there writers are killed.

Afterwards each result that was acknowledged must be there once and be what was stored,
everything that can be seen must be complete, failed calls must have raised errors of
this package that speak of the database, and a clean-up must leave the blobs that are
held and no other byte. Exit status 1 if not.

The servers are of its own (see ``own_servers.py``); it needs a superuser on Debian, and
what ``scripts/services start`` has fetched.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import survival_worker
from own_servers import OwnServer, available, own_server
from sqlalchemy import func, select
from survival_worker import ARRAYS, PROJECT, entries, make_result, open_service

from prefect_lume.errors import LumeError, clip
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.storage import mongo

NAMES = ("postgresql", "mariadb", "mysql", "mongodb", "ferretdb", "sqlite")
#: What a call may raise while a server dies and comes back.
ALLOWED = {"StorageError", "ConnectionFailedError"}
#: Nobody is writing: everything may go.
NOBODY = timedelta(days=-1)
HOUR = timedelta(hours=1)


@dataclass
class Report:
    """What came of one round.

    Attributes:
        name: The server.
        acknowledged: How many results were acknowledged.
        kills: How often the server, or a writer, was killed.
        errors: How often which error was raised.
        examples: A message of each.
        dropped: Results that failed and were not tried again.
        orphans: How many blobs the clean-up removed.
        seconds: How long the storing took.
        problems: What is wrong.
    """

    name: str
    acknowledged: int = 0
    kills: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    orphans: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Writers:
    """The processes that store."""

    def __init__(self, folder: Path, url: str, options: argparse.Namespace) -> None:
        self._folder, self._url, self._options = folder, url, options
        self.processes = [self._start(n) for n in range(options.processes)]

    def _log(self, number: int) -> Path:
        return self._folder / f"writer-{number}.log"

    def _start(self, number: int) -> BaseProcess:
        # Forked: new interpreters would take longer to start than the work itself.
        options = self._options
        numbers = range(number, options.results, options.processes)
        arguments = (self._url, str(self._log(number)), numbers, options.threads)
        process = get_context("fork").Process(
            target=survival_worker.run, args=arguments
        )
        process.start()
        return process

    def kill_one(self, chance: random.Random) -> None:
        """Kill a writer, and start another that goes on with its work."""
        running = [n for n, p in enumerate(self.processes) if p.is_alive()]
        if running:
            number = chance.choice(running)
            self.processes[number].kill()
            self.processes[number].join()
            self.processes[number] = self._start(number)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield what they have logged."""
        for number in range(len(self.processes)):
            yield from entries(self._log(number))

    def acknowledged(self) -> int:
        """Return how many results were acknowledged so far."""
        return sum(
            self._log(n).read_bytes().count(b'"hash"')
            for n in range(len(self.processes))
            if self._log(n).exists()
        )

    def running(self) -> bool:
        """Tell whether one still works."""
        return any(process.is_alive() for process in self.processes)

    def end(self) -> None:
        """Kill those that still work."""
        for process in self.processes:
            process.kill()
            process.join()


@contextmanager
def target(name: str, folder: Path) -> Iterator[tuple[str, OwnServer | None]]:
    """Yield the URL of an empty results database, and its server."""
    if name == "sqlite":
        yield f"sqlite:///{folder / 'results.db'}", None
        return
    with own_server(name) as server:
        yield server.url, server


def run(name: str, options: argparse.Namespace) -> Report:
    """Store, kill, and look at what is left."""
    report, chance = Report(name), random.Random(options.seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        target(name, Path(folder)) as (url, server),
    ):
        service = open_service(url)
        if isinstance(service.db_service, SQLDBService):
            service.db_service.create_tables()
        service.store(Result(project_name="other", inputs={"n": -1}))
        start = time.monotonic()
        writers = Writers(Path(folder), url, options)
        try:
            for kill in range(options.kills):
                _wait(writers, options.results * (kill + 1) // (options.kills + 1))
                if not writers.running():
                    report.problems.append("all was stored before it was killed")
                    break
                if server is None:
                    writers.kill_one(chance)
                else:
                    server.kill()
                    time.sleep(chance.uniform(0, 1))
                    server.restart()
                report.kills += 1
            _wait(writers, options.results + 1)
        finally:
            writers.end()
        report.seconds = time.monotonic() - start
        _judge_calls(report, list(writers.entries()), options.results)
        acknowledged = {e["n"]: e["hash"] for e in writers.entries() if "hash" in e}
        report.acknowledged = len(acknowledged)
        _judge_results(report, service, acknowledged)
        _judge_blobs(report, service, url)
    return report


def _wait(writers: Writers, acknowledged: int, seconds: float = 900.0) -> None:
    deadline = time.monotonic() + seconds
    while writers.running() and writers.acknowledged() < acknowledged:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{acknowledged} results were not stored in time")
        time.sleep(0.05)


def _judge_calls(report: Report, log: list[dict[str, Any]], results: int) -> None:
    report.errors = Counter(e["error"] for e in log if "error" in e)
    report.examples = {e["error"]: e["message"] for e in log if "error" in e}
    for entry in log:
        if entry.get("error", "StorageError") not in ALLOWED:
            report.problems.append(f"{entry['error']}: {entry['message']}")
        if "crash" in entry:
            report.problems.append(entry["crash"])
        if "given_up" in entry:
            report.problems.append(f"{len(entry['given_up'])} were never stored")
    report.dropped = {n for e in log for n in e.get("dropped", ())}
    missing = set(range(results)) - {e["n"] for e in log if "hash" in e}
    if missing - report.dropped:
        report.problems.append(f"{len(missing)} were not acknowledged")


def _judge_results(
    report: Report, service: ResultsService, acknowledged: dict[int, str]
) -> None:
    found: Counter[int] = Counter()
    try:
        for result in service.find(PROJECT):
            n = result.inputs["n"]
            found[n] += 1
            if result.unique_hash != acknowledged.get(n, result.unique_hash):
                report.problems.append(f"result {n} has another hash")
            if n % ARRAYS == 0:
                result.verify()
            if result != make_result(n):
                report.problems.append(f"result {n} is not what was stored")
    except LumeError as error:
        report.problems.append(f"a visible result is broken: {error}")
    lost = acknowledged.keys() - found.keys()
    twice = [n for n, times in found.items() if times > 1]
    if lost or twice or service.count(PROJECT) != len(found):
        report.problems.append(f"lost: {len(lost)}, twice: {len(twice)}")


def _judge_blobs(report: Report, service: ResultsService, url: str) -> None:
    store = service.db_service
    held = set(store.held_blobs(PROJECT))
    if store.delete_unused_blobs(HOUR):
        report.problems.append("young blobs were removed")
    # A mark of the first pass lets the second one remove what is left for certain.
    for _ in range(2):
        report.orphans += len(store.delete_unused_blobs(NOBODY))
    left = {info.sha256 for info in store.blobs_before(store.now() + HOUR)}
    if left != held:
        report.problems.append(f"{len(left)} blobs are left, {len(held)} are held")
    loose = _loose(store, url)
    if loose:
        report.problems.append(f"parts of blobs are left: {loose}")
    try:
        for result in service.find(PROJECT, sort=["inputs.n"], limit=200):
            service.load(result.reference())
    except LumeError as error:
        report.problems.append(f"broken after the clean-up: {error}")


def _loose(store: object, url: str) -> str:
    """Return what is left of blobs that are none."""
    if not isinstance(store, SQLDBService):
        files = mongo.get_client(url)[mongo.database_of(url)]["lume_blobs"]
        entries = {file["_id"] for file in files.files.find({}, {"_id": 1})}
        chunks = set(files.chunks.distinct("files_id"))
        uploads = files.uploads.count_documents({})
        same = chunks == entries and not uploads
        return "" if same else f"{len(chunks ^ entries)} files, {uploads} uploads"
    upload, chunk = sql_tables.blob_upload, sql_tables.blob_chunk
    with store.engine.connect() as connection:
        uploads = connection.scalar(
            select(func.count()).where(upload.c.sha256.is_(None))
        )
        chunks = connection.scalar(
            select(func.count()).where(
                chunk.c.sha256.not_in(select(sql_tables.blob.c.sha256))
            )
        )
    return f"{uploads} uploads, {chunks} chunks" if uploads or chunks else ""


def show(report: Report) -> None:
    errors = ", ".join(f"{n} {name}" for name, n in report.errors.items()) or "none"
    print(
        f"{report.name:<11} {report.acknowledged:>7} acknowledged  "
        f"{report.kills} kills  {report.seconds:6.1f} s  errors: {errors}  "
        f"given up: {len(report.dropped)}  orphans collected: {report.orphans}  "
        f"{'FAILED' if report.problems else 'ok'}",
        flush=True,
    )
    for name, message in report.examples.items():
        print(f"    {name}: {clip(message)}", flush=True)
    for problem, times in Counter(report.problems).most_common(10):
        print(f"    {times} x {problem}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=", ".join(NAMES))
    parser.add_argument("--results", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    unknown = set(options.servers) - set(NAMES)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    # What SQLAlchemy's pool says of each connection that broke.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    failed = False
    for name in options.servers or NAMES:
        why = available(name) if name != "sqlite" else ""
        if why:
            print(f"{name:<11} NOT RUN: {why}")
            failed = True
            continue
        report = run(name, options)
        show(report)
        failed |= bool(report.problems)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
