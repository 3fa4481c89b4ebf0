"""Many processes promote deployments of one model: two live, none live, a gap?

    python benchmarks/registry_survival.py mariadb mysql postgresql sqlite
    python benchmarks/registry_survival.py mariadb postgresql --kills 3
    python benchmarks/registry_survival.py --url URL --processes 6 --promotions 25

Each process promotes two deployments of its own in turn, for ``--seconds``, or so often
as ``--promotions`` says, while readers look by one statement which deployment is live
and where the model's flow points. With ``--kills`` the server is killed (SIGKILL) and
started again in between; SQLite has no server: there a writer is killed.

Afterwards the history must be complete: its numbers go from 1 to the model's revision,
each promotion takes "live" from the one before it, each call that returned is in it
once, and none that raised. Readers must never have seen two live deployments, none, or
a flow that points elsewhere. Exit status 1 if not.

Without ``--url`` the servers are of its own (see ``own_servers.py``); that needs a
superuser on Debian, and what ``scripts/services start`` has fetched.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event as Signal
from pathlib import Path
from typing import Any

from own_servers import OwnServer, available, own_server
from sqlalchemy import Engine, select

from prefect_lume import migrations
from prefect_lume.errors import LumeError, clip
from prefect_lume.registry import ModelDBService
from prefect_lume.registry.records import RegistryEvent
from prefect_lume.registry.tables import DEPLOYMENTS, FLOWS, MODELS
from prefect_lume.storage.sql import get_engine, read_only, safe_url, translated

NAMES = ("mariadb", "mysql", "postgresql", "sqlite")
READERS = 2
#: What a call may raise while a server dies and comes back.
ALLOWED = {"StorageError", "ConnectionFailedError"}
#: How the log says that a call ended.
ENDS = ("done", "failed", "unchanged")
#: Seconds that are waited for something that must come.
PATIENCE = 240.0


class Log:
    """What became of the calls of one process; a line is one system call."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **entry: object) -> None:
        os.write(self._file, (json.dumps(entry) + "\n").encode())


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a log; a line that is not finished is none."""
    if path.exists():
        for line in path.read_text("utf-8").split("\n")[:-1]:
            yield json.loads(line)


def promote(
    url: str, path: Path, numbers: list[int], most: int, begin: Signal, end: Signal
) -> None:
    """Promote deployments in turn, and log what came of each call."""
    registry, log = ModelDBService(get_engine(url), actor=path.name), Log(path)
    begin.wait(PATIENCE)
    count = tries = turn = 0
    while not end.is_set() and (not most or count < most):
        tries += 1
        number, reason = numbers[turn % 2], f"{os.getpid()}:{tries}"
        log.write(tried=reason)
        try:
            event = registry.promote(number, reason=reason)
        except LumeError as error:
            log.write(failed=reason, error=type(error).__name__, message=str(error))
            continue
        turn += 1
        if event is None:
            # It was live already: this process stands for one that was killed when it
            # had just promoted it.
            log.write(unchanged=reason, first=turn == 1)
            continue
        log.write(done=reason, number=event.number, deployment=event.deployment_id)
        count += 1


def look(url: str, path: Path, model: int, end: Signal) -> None:
    """Look which deployment is live, by one statement, again and again."""
    log = Log(path)
    engine = read_only(get_engine(url))
    registry = ModelDBService(get_engine(url))
    what = (
        select(DEPLOYMENTS.c.deployment_id, FLOWS.c.deployment_id.label("pointed"))
        .outerjoin(FLOWS, FLOWS.c.flow_name == "track")
        .where(DEPLOYMENTS.c.model_id == model, DEPLOYMENTS.c.is_live)
    )
    count = 0
    seen = set()
    ending = False
    while not ending:
        # Once more after the end.
        ending = end.is_set()
        try:
            with translated(engine), engine.connect() as connection:
                rows = connection.execute(what).all()
            live = registry.get_live_deployment(model)
        except LumeError as error:
            if type(error).__name__ not in ALLOWED:
                log.write(problem=f"a reader was told {error}")
            continue
        count += 1
        if len(rows) != 1 or rows[0].deployment_id != rows[0].pointed:
            log.write(problem=f"a reader saw {rows}")
        if [flow.flow_name for flow in live.flows] != ["track"]:
            log.write(problem=f"{live.deployment_id} was live without its flow")
        seen.add(rows[0].deployment_id if rows else None)
        if count == 1:
            log.write(ready=True)
    log.write(looks=count, seen=len(seen))


@dataclass
class Report:
    """What came of one round.

    Attributes:
        name: The database.
        promotions: How many calls returned.
        seconds: How long it took.
        looks: How often readers looked.
        kills: How often the server, or a writer, was killed.
        errors: How often which error was raised.
        fewest: The promotions of the process that got the fewest.
        most: The promotions of the process that got the most.
        problems: What is wrong.
    """

    name: str
    promotions: int = 0
    seconds: float = 0.0
    looks: int = 0
    kills: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    fewest: int = 0
    most: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.promotions / self.seconds
        raised = ", ".join(f"{n} {k}" for k, n in self.errors.items()) or "none"
        return (
            f"{self.name}: {self.promotions} promotions in {self.seconds:.1f} s "
            f"({rate:.0f}/s; {self.fewest} to {self.most} a process), {self.looks} "
            f"looks, {self.kills} kills, errors: {raised}: "
            f"{'; '.join(self.problems) or 'complete'}"
        )


class Crowd:
    """The processes that promote and look."""

    def __init__(self, url: str, folder: Path, options: argparse.Namespace) -> None:
        self._url, self._folder, self._options = url, folder, options
        # New interpreters would take longer to start than the work itself.
        self._context = get_context("fork")
        self._begin, self._end = self._context.Event(), self._context.Event()
        registry = ModelDBService(get_engine(url), migrate=migrations.upgrade)
        registry.apply_schema()
        self.model = registry.store_model(
            author="a", laboratory="l", facility="f", beampath="b", description="d"
        )
        self._numbers = [
            [self._store(registry, f"{n}.{m}") for m in range(2)]
            for n in range(options.processes)
        ]
        registry.store_project("survival")
        # Live at first, and never again: whoever looks to the end sees a change.
        first = self._store(registry, "first")
        registry.store_flow(
            flow_id="t", flow_name="track", project_name="survival", deployment_id=first
        )
        # A child must not use what its parent has opened.
        registry.close()
        self.writers = [self._start(n) for n in range(options.processes)]
        self._readers = [self._reader(n) for n in range(READERS)]

    def _store(self, registry: ModelDBService, version: str) -> int:
        return registry.store_deployment(
            model_id=self.model,
            version=version,
            source="file:///x.tar.gz",
            sha256="ab" * 32,
            package_import_name="x",
            entrypoints={"track": "x.flow:track"},
        )

    def logs(self) -> list[Path]:
        return sorted(self._folder.glob("writer-*.log"))

    def _start(self, number: int, life: int = 0) -> BaseProcess:
        path = self._folder / f"writer-{number}-{life}.log"
        most, numbers = self._options.promotions, self._numbers[number]
        arguments = self._url, path, numbers, most, self._begin, self._end
        process = self._context.Process(target=promote, args=arguments)
        process.start()
        return process

    def _reader(self, number: int) -> BaseProcess:
        path = self._folder / f"reader-{number}.log"
        process = self._context.Process(
            target=look, args=(self._url, path, self.model, self._end)
        )
        process.start()
        return process

    def kill_one(self, life: int) -> None:
        """Kill a writer, and start another in its place."""
        number = life % len(self.writers)
        self.writers[number].kill()
        self.writers[number].join()
        self.writers[number] = self._start(number, life)

    def done(self) -> int:
        """Return how many calls have returned so far."""
        return sum(path.read_bytes().count(b'"done"') for path in self.logs())

    def run(self, server: OwnServer | None, report: Report) -> None:
        """Let them work, and kill in between."""
        options = self._options
        self._wait_for_readers()
        start = time.monotonic()
        self._begin.set()
        for kill in range(1, options.kills + 1):
            self._wait(start, kill / (options.kills + 1))
            if server is None:
                self.kill_one(kill)
            else:
                server.kill()
                server.restart()
            report.kills += 1
            # It must go on by itself.
            before, deadline = self.done(), time.monotonic() + PATIENCE
            while self.done() == before and self._is_working():
                if time.monotonic() > deadline:
                    report.problems.append("nobody went on after a kill")
                    break
                time.sleep(0.05)
        self._wait(start, 1.0)
        report.seconds = time.monotonic() - start
        report.promotions = self.done()

    def _wait_for_readers(self) -> None:
        logs = [self._folder / f"reader-{n}.log" for n in range(READERS)]
        deadline = time.monotonic() + PATIENCE
        while not all(any("ready" in e for e in entries(log)) for log in logs):
            if time.monotonic() > deadline:
                raise TimeoutError("The readers did not look even once.")
            time.sleep(0.01)

    def _is_working(self) -> bool:
        return any(process.is_alive() for process in self.writers)

    def _wait(self, start: float, share: float) -> None:
        options = self._options
        while self._is_working():
            if options.promotions:
                wanted = options.promotions * options.processes * share
                if share < 1 and self.done() >= wanted:
                    return
            elif time.monotonic() > start + options.seconds * share:
                return
            time.sleep(0.02)

    def finish(self, report: Report) -> None:
        """Let them end, and note who did not."""
        self._end.set()
        for process in [*self.writers, *self._readers]:
            process.join(PATIENCE)
            if process.exitcode != 0:
                report.problems.append(f"a process ended with {process.exitcode}")
                process.kill()
        for path in self._folder.glob("reader-*.log"):
            for entry in entries(path):
                report.looks += entry.get("looks", 0)
                if "problem" in entry:
                    report.problems.append(entry["problem"])
                if entry.get("seen", 2) < 2:
                    report.problems.append("a reader saw no change")


def check(crowd: Crowd, engine: Engine, report: Report) -> None:
    """Compare the history with itself, the rows, and what the processes were told."""
    registry = ModelDBService(engine)
    events = registry.get_history(model_id=crowd.model)[::-1]
    numbers = [event.number for event in events]
    if numbers != list(range(1, len(events) + 1)):
        report.problems.append("numbers of events have gaps")
    with read_only(engine).connect() as connection:
        revision = connection.scalar(select(MODELS.c.revision))
    if revision != len(events):
        report.problems.append(f"revision {revision}, {len(events)} events")
    live: int | None = None
    for event in events:
        if event.kind != "deployment.promoted":
            continue
        if event.previous_deployment_id != live:
            report.problems.append(f"event {event.number} does not follow {live}")
        live = event.deployment_id
    if registry.get_live_deployment(crowd.model).deployment_id != live:
        report.problems.append("another deployment is live than the history says")
    _compare(crowd, events, report)


def _compare(crowd: Crowd, events: tuple[RegistryEvent, ...], report: Report) -> None:
    told = Counter(event.reason for event in events if event.reason)
    by_reason = {event.reason: event for event in events}
    logged = [(path, entry) for path in crowd.logs() for entry in entries(path)]
    each = Counter[str]()
    for path, entry in logged:
        if "failed" in entry:
            report.errors[entry["error"]] += 1
            if entry["error"] not in ALLOWED:
                report.problems.append(clip(entry["message"]))
            if told[entry["failed"]]:
                report.problems.append(f"{entry['failed']} raised, and happened")
        elif "unchanged" in entry:
            _compare_unchanged(path, entry, told, report)
        elif "done" in entry:
            each[path.stem.split("-")[1]] += 1
            _compare_one(entry, told, by_reason, report)
    report.fewest, report.most = min(each.values()), max(each.values())
    tried = {entry["tried"] for _, entry in logged if "tried" in entry}
    ended = {entry.get(how) for _, entry in logged for how in ENDS}
    if any(count > 1 for count in told.values()) or not set(told) <= tried:
        report.problems.append("the history has events that nobody caused")
    # Of a writer that was killed, one call is open: it may have happened, once.
    if len(tried - ended) > report.kills:
        report.problems.append("calls did not end")


def _compare_unchanged(
    path: Path, entry: dict[str, Any], told: Counter[str], report: Report
) -> None:
    reason = entry["unchanged"]
    if told[reason]:
        report.problems.append(f"{reason} changed nothing, and is there")
    if path.stem.endswith("-0") or not entry["first"]:
        report.problems.append(f"{reason} changed nothing, though nobody was killed")


def _compare_one(
    entry: dict[str, Any],
    told: Counter[str],
    by_reason: dict[str, RegistryEvent],
    report: Report,
) -> None:
    reason = entry["done"]
    if told[reason] != 1:
        report.problems.append(f"{reason} returned, and is there {told[reason]} times")
        return
    event = by_reason[reason]
    if (event.number, event.deployment_id) != (entry["number"], entry["deployment"]):
        report.problems.append(f"{reason} was told of another event")


@contextmanager
def target(name: str, folder: Path) -> Iterator[tuple[str, OwnServer | None]]:
    """Yield the URL of an empty database, and its server."""
    if "://" in name:
        yield name, None
    elif name == "sqlite":
        yield f"sqlite:///{folder / 'registry.db'}", None
    else:
        with own_server(name) as server:
            yield server.url, server


def run(name: str, options: argparse.Namespace) -> Report:
    """Promote, kill, and look at what is left."""
    report = Report(safe_url(name) if "://" in name else name)
    with (
        tempfile.TemporaryDirectory() as folder,
        target(name, Path(folder)) as (url, server),
    ):
        crowd = Crowd(url, Path(folder), options)
        try:
            crowd.run(server, report)
        finally:
            crowd.finish(report)
        engine = get_engine(url)
        check(crowd, engine, report)
        engine.dispose()
    return report


def main() -> int:
    """Run the rounds that were asked for, and print what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="DATABASE")
    parser.add_argument("--url", help="an empty database to use instead")
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--promotions", type=int, default=0, help="of each process")
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    # What SQLAlchemy's pool says of each connection that broke.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    good = True
    for name in [options.url] if options.url else options.names or NAMES:
        reason = "" if name == "sqlite" or "://" in name else available(name)
        if reason:
            print(f"{name}: left out: {reason}")
            good = False
            continue
        report = run(name, options)
        print(report, flush=True)
        good = good and not report.problems
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
