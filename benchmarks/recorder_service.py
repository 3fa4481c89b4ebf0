"""What the recorder's service can do, and what it costs.

    python benchmarks/recorder_service.py --part ingest
    python benchmarks/recorder_service.py --part end-to-end --changes 50000
    python benchmarks/recorder_service.py --part lag --seconds 30
    python benchmarks/recorder_service.py --part memory --changes 1000000
    python benchmarks/recorder_service.py --part cost --pairs 10

`ingest`: generated events, translated and recorded in MariaDB, a thousand at a time.
`end-to-end`: events are sent to a Prefect server; then a service reads and records
them. `lag`: 200 events per second are sent while a service records. `memory`: a
service reads generated events from a stand-in for the server and records them in a
storage that only counts, so that what grows is the service. `cost`: a flow of 1,000
tasks, half of them mapped, with and without a service that records it, in turns.

It needs LUME_TEST_MARIADB_URL and LUME_TEST_PREFECT_API_URL (`scripts/services env`).
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import create_engine, make_url

from prefect_lume import migrations
from prefect_lume.pipelines.changes import Batch
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.orm import OrmPipelineResultsStorage
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.service.recorder import RecorderService
from prefect_lume.recorder.translation.translating import Translator
from prefect_lume.storage import sql
from prefect_lume.testing.generated_events import generated_events

TASKS = 99
EACH = 3 + 3 * TASKS


def api_url() -> str:
    return os.environ["LUME_TEST_PREFECT_API_URL"]


@contextmanager
def mariadb() -> Iterator[str]:
    """Yield the URL of a fresh database with its tables."""
    server = make_url(os.environ["LUME_TEST_MARIADB_URL"])
    name = f"lume_bench_{uuid.uuid4().hex[:8]}"
    admin = create_engine(
        server,
        connect_args={"password": str(server.password).encode()},
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        try:
            url = server.set(database=name).render_as_string(hide_password=False)
            migrations.upgrade(sql.get_engine(url))
            yield url
        finally:
            sql.close_all()
            connection.exec_driver_sql(f"DROP DATABASE {name}")


@contextmanager
def service(storage: Any, since: datetime, **options: Any) -> Iterator[RecorderService]:
    """Run a service against the shared server, in a thread."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    changed = {PREFECT_API_URL: api_url()}
    with temporary_settings(changed), get_client(sync_client=True) as client:
        made = RecorderService(
            client,
            storage,
            FlowRunDirectory(client),
            source=f"bench-{uuid.uuid4()}",
            since=since,
            **options,
        )
        stop = threading.Event()
        thread = threading.Thread(target=made.run, args=(stop,))
        thread.start()
        try:
            yield made
        finally:
            stop.set()
            thread.join()


def send(events: Sequence[dict[str, Any]], since: datetime | None = None) -> None:
    """Send events; with a time, no faster than the server stores what occurred since.

    Of what waits to be stored, a Prefect server drops what is too much.
    """
    with httpx.Client(timeout=120) as client:
        for start in range(0, len(events), 500):
            client.post(f"{api_url()}/events", json=events[start : start + 500])
            if since is not None:
                _wait_until_stored(since, start - 3_000)


class FromHints:
    """Knows of flow runs what their events say."""

    def facts(self, ids: Any, hints: Any = None) -> Any:
        return {id_: hints[id_] for id_ in ids}


def part_ingest(options: argparse.Namespace) -> None:
    for tasks in (1_000, TASKS, 3):
        runs = max(1, options.changes // (3 + 3 * tasks))
        events = list(generated_events(runs, tasks, seed=tasks))
        with mariadb() as url:
            storage = OrmPipelineResultsStorage(sql.get_engine(url))
            translator = Translator(FromHints())
            began = time.perf_counter()
            for start in range(0, len(events), 1_000):
                storage.record(translator.translate(events[start : start + 1_000]))
            took = time.perf_counter() - began
            assert storage.count_states() == len(events)
        print(
            f"ingest: {len(events):,} changes of {runs} runs of {tasks} tasks: "
            f"{len(events) / took:,.0f} per second"
        )


def part_end_to_end(options: argparse.Namespace) -> None:
    runs = max(1, options.changes // EACH)
    since = datetime.now(UTC)
    seed = uuid.uuid4().int % 2**31
    events = list(
        generated_events(runs, TASKS, seed=seed, start=since, per_second=20_000)
    )
    began = time.perf_counter()
    send(events, since)
    sent = time.perf_counter() - began
    _wait_until_stored(since, len(events))
    with mariadb() as url:
        storage = OrmPipelineResultsStorage(sql.get_engine(url))
        began = time.perf_counter()
        with service(storage, since - timedelta(seconds=1)) as made:
            while made.statistics.read < len(events):
                time.sleep(0.05)
            took = time.perf_counter() - began
    print(
        f"end to end: {len(events):,} changes read from the server and recorded: "
        f"{len(events) / took:,.0f} per second (sent at {len(events) / sent:,.0f})"
    )


def _wait_until_stored(since: datetime, number: int) -> None:
    if number <= 0:
        return
    body = {
        "filter": {
            "occurred": {
                "since": since.isoformat(),
                "until": (since + timedelta(days=1)).isoformat(),
            }
        },
        "limit": 0,
    }
    while True:
        answer = httpx.post(f"{api_url()}/events/filter", json=body, timeout=60)
        if answer.json()["total"] >= number:
            return
        time.sleep(0.5)


def part_lag(options: argparse.Namespace) -> None:
    lags: list[float] = []

    class Timed(OrmPipelineResultsStorage):
        def record(self, batch: Batch) -> int:
            new = super().record(batch)
            now = datetime.now(UTC)
            lags.extend(
                (now - change.timestamp).total_seconds() for change in batch.changes
            )
            return new

    with mariadb() as url:
        storage = Timed(sql.get_engine(url))
        with service(storage, datetime.now(UTC)):
            for second in range(options.seconds):
                began = time.monotonic()
                seed = uuid.uuid4().int % 2**31
                start = datetime.now(UTC)
                send(list(generated_events(2, 33, seed=seed, start=start))[:200])
                time.sleep(max(0.0, 1 - (time.monotonic() - began)))
                del second
            time.sleep(8)
    lags.sort()
    print(
        f"lag at 200 per second over {options.seconds} s ({len(lags)} changes): median "
        f"{statistics.median(lags):.2f} s, 99 % {lags[int(len(lags) * 0.99)]:.2f} s, "
        f"longest {lags[-1]:.2f} s"
    )


class Counting(MemoryPipelineResultsStorage):
    """Counts changes instead of keeping them."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = 0

    def record(self, batch: Batch) -> int:
        self.counted += len(batch)
        return len(batch)


class GeneratingServer:
    """Answers as a server that has a number of generated events.

    Events are made when they are asked for. They are one millisecond apart.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.start = datetime.now(UTC) - timedelta(milliseconds=number + 60_000)
        self._runs: dict[int, list[dict[str, Any]]] = {}

    def event(self, index: int) -> dict[str, Any]:
        run, position = divmod(index, EACH)
        if run not in self._runs:
            while len(self._runs) > 20:
                self._runs.pop(next(iter(self._runs)))
            start = self.start + timedelta(milliseconds=run * EACH)
            self._runs[run] = list(
                generated_events(1, TASKS, seed=run, start=start, per_second=1_000)
            )
        return self._runs[run][position]

    def request(
        self, method: str, path: str, json: Any = None, params: Any = None
    ) -> httpx.Response:
        answer: Any = []
        if path == "/events/filter":
            since, until = (
                datetime.fromisoformat(json["filter"]["occurred"][name])
                for name in ("since", "until")
            )
            first, last = self._index(since), self._index(until)
            answer = self._page(first, last, json["limit"], last - first)
        elif path == "/events/filter/next":
            first, last, limit, total = map(int, params["page-token"].split("-"))
            answer = self._page(first, last, limit, total)
        request = httpx.Request(method, f"http://server{path}")
        return httpx.Response(200, json=answer, request=request)

    def _index(self, moment: datetime) -> int:
        passed = (moment - self.start) / timedelta(milliseconds=1)
        whole = int(passed) + (passed != int(passed))
        return min(self.number, max(0, whole))

    def _page(self, first: int, last: int, limit: int, total: int) -> dict[str, Any]:
        stop = min(last, first + limit)
        token = f"{stop}-{last}-{limit}-{total}" if stop < last else None
        return {
            "events": [self.event(index) for index in range(first, stop)],
            "total": total,
            "next_page": token and f"http://server/next?page-token={token}",
        }


def part_memory(options: argparse.Namespace) -> None:
    number = options.changes // EACH * EACH
    server: Any = GeneratingServer(number)
    storage = Counting()
    made = RecorderService(
        server, storage, FlowRunDirectory(server), source="x", reconcile_every=None
    )
    began, next_line = time.perf_counter(), 0
    while made.is_behind:
        made.step()
        if made.statistics.read >= next_line:
            print(f"memory: {made.statistics.read:>9,} events, {_rss():.1f} MiB")
            next_line += number // 10
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"memory: {storage.counted:,} changes at {storage.counted / took:,.0f} per "
        f"second, peak {peak:.1f} MiB"
    )


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


FLOW = """
import time
from prefect import flow, task

@task
def work(x):
    return x

@flow
def thousand():
    for x in range(500):
        work(x)
    work.map(range(500)).wait()

began = time.perf_counter()
thousand()
print("TOOK", time.perf_counter() - began)
"""


def part_cost(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, mariadb() as url:
        path = Path(folder) / "thousand.py"
        path.write_text(FLOW)
        without: list[float] = []
        recorded: list[float] = []
        ratios: list[float] = []
        for pair in range(options.pairs):
            # In turns, so that what drifts is no difference.
            for is_recorded in (pair % 2 == 0, pair % 2 == 1):
                (recorded if is_recorded else without).append(
                    _one_run(path, url if is_recorded else None)
                )
            ratios.append(recorded[-1] / without[-1])
            print(
                f"cost: pair {pair + 1}: {without[-1]:.2f} s, recorded "
                f"{recorded[-1]:.2f} s, {ratios[-1]:.3f}"
            )
    print(
        f"cost: {statistics.median(ratios):.3f} of the time (median of "
        f"{options.pairs} pairs; of the medians "
        f"{statistics.median(recorded) / statistics.median(without):.3f})"
    )


def _one_run(path: Path, url: str | None) -> float:
    env = os.environ | {"PREFECT_API_URL": api_url(), "PREFECT_LOGGING_LEVEL": "ERROR"}
    recorder: subprocess.Popen[bytes] | None = None
    if url is not None:
        since = datetime.now(UTC).isoformat()
        recorder = subprocess.Popen(
            [sys.executable, __file__, "--part", "serve", "--url", url, "--at", since]
        )
        time.sleep(6)
    done = subprocess.run(
        [sys.executable, str(path)], env=env, check=True, capture_output=True, text=True
    )
    if recorder is not None:
        recorder.terminate()
        recorder.wait()
    (line,) = (li for li in done.stdout.splitlines() if li.startswith("TOOK"))
    return float(line.split()[1])


def part_serve(options: argparse.Namespace) -> None:
    storage = OrmPipelineResultsStorage(sql.get_engine(options.url))
    with service(storage, datetime.fromisoformat(options.at)):
        threading.Event().wait()


PARTS = {
    "ingest": part_ingest,
    "end-to-end": part_end_to_end,
    "lag": part_lag,
    "memory": part_memory,
    "cost": part_cost,
    "serve": part_serve,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=list(PARTS), required=True)
    parser.add_argument("--changes", type=int, default=30_000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--at", help=argparse.SUPPRESS)
    options = parser.parse_args()
    PARTS[options.part](options)


if __name__ == "__main__":
    main()
