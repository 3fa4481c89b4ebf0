"""How fast changes of pipelines go into each database, and how fast the digest is.

Run: ``python benchmarks/pipelines_storage.py [--quick] [--changes N] [--rows N]``.
Always on new SQLite files, and on a new database of every server of which a
``LUME_TEST_..._URL`` is set (see tests/README.md), which is dropped at the end.

- Speed: batches of a thousand changes, as a recorder writes them, of flows of a
  thousand task runs with three changes each. A row for each database.
- Memory: what the process has after a tenth of a million changes, and at the end.
- The digest beside a million task results, and of a million pipeline results, in
  SQLite; in MongoDB of a tenth of them.

Exit status 1 if a target is missed; repeat a missed figure on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pymongo import MongoClient
from sqlalchemy import NullPool, create_engine, make_url

from prefect_lume.migrations import upgrade
from prefect_lume.pipelines import (
    Batch,
    FlowRunFacts,
    PipelineSession,
    PipelineStorage,
    PipelineTaskStatus,
    StateChange,
    TaskRunFacts,
)
from prefect_lume.pipelines.mongo import MongoPipelineResultsStorage
from prefect_lume.pipelines.orm import OrmPipelineResultsStorage
from prefect_lume.pipelines.rows import (
    ExecutionRow,
    Kind,
    ResultRow,
    Row,
    TaskExecutionRow,
    TaskResultRow,
    result_id,
)
from prefect_lume.storage import sql

SERVERS = ("MARIADB", "MYSQL", "POSTGRESQL", "MONGODB")
#: Changes per second that a database has to take.
TARGETS = {"MariaDB": 2000}
#: By how much the process may grow from a tenth to the end, in megabytes.
TARGET_GROWTH = 16
#: Milliseconds that the digest may take on SQLite.
TARGET_DIGEST = 100
BATCH = 1000
TASK_RUNS = 1000
#: Task runs of a flow that are under way at the same time.
AT_ONCE = 50
START = datetime(2026, 1, 1, tzinfo=UTC)
S = PipelineTaskStatus
LIFE = (
    (S.PENDING, "PENDING", "Pending"),
    (S.RUNNING, "RUNNING", "Running"),
    (S.DONE, "COMPLETED", "Completed"),
)


T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield items in lists of so many."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def batches(changes: int) -> Iterator[Batch]:
    """Yield batches of so many changes together, flow run after flow run."""
    events = (event for flow in iter(uuid.uuid4, None) for event in one_flow(str(flow)))
    for some in batched(islice(events, changes), BATCH):
        flow_runs = {run.run_id: run for _, run, _ in some}
        task_runs = {task.task_run_id: task for *_, task in some if task}
        yield Batch(
            [change for change, *_ in some],
            list(flow_runs.values()),
            list(task_runs.values()),
        )


def one_flow(
    run: str,
) -> Iterator[tuple[StateChange, FlowRunFacts, TaskRunFacts | None]]:
    """Yield what happens in a flow run, in the order of time."""
    flow = FlowRunFacts(
        run_id=run, flow_run_id=run, pipeline_id="benchmark", created=START
    )
    ticks = iter(range(1 << 30))

    def change(kind: Kind, target: str, step: int) -> StateChange:
        status, type_, name = LIFE[step]
        return StateChange(
            id=str(uuid.uuid4()),
            run_id=run,
            kind=kind,
            target=target,
            status=status,
            timestamp=START + timedelta(milliseconds=next(ticks)),
            message="" if step < 2 else "All states completed.",
            state_type=type_,
            state_name=name,
        )

    for step in (0, 1):
        yield change(Kind.EXECUTION, run, step), flow, None
    tasks = [
        TaskRunFacts(
            task_run_id=str(uuid.uuid4()),
            run_id=run,
            pipeline_result_id=result_id(run),
            task_id=f"task_{n % 10}-1a2b3c4d",
            pipeline_task=f"task_{n % 10}",
            name=f"task_{n % 10}-{n}",
            created=START,
        )
        for n in range(TASK_RUNS)
    ]
    for moment in range(TASK_RUNS + 2 * AT_ONCE):
        for step in range(3):
            n = moment - step * AT_ONCE
            if 0 <= n < TASK_RUNS:
                task = tasks[n]
                leaf = change(Kind.TASK_RESULT, task.task_run_id, step)
                yield leaf, flow, task
    yield change(Kind.EXECUTION, run, 2), flow, None


@contextmanager
def database(url: str | None) -> Iterator[PipelineStorage]:
    """Yield a storage in a new database, which is removed at the end."""
    name = f"lume_bench_{uuid.uuid4().hex[:8]}"
    if url is not None and url.startswith("mongodb"):
        own_uri = urlsplit(url)._replace(path=f"/{name}").geturl()
        try:
            yield MongoPipelineResultsStorage(uri=own_uri)
        finally:
            with MongoClient[dict[str, object]](url) as client:
                client.drop_database(name)
        return
    with tempfile.TemporaryDirectory() as folder:
        if url is None:
            own = make_url(f"sqlite:///{folder}/lume.db")
        else:
            own = make_url(url).set(database=name)
            server = create_engine(
                url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
            )
            with server.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine = sql.get_engine(own)
        try:
            upgrade(engine)
            yield OrmPipelineResultsStorage(engine)
        finally:
            engine.dispose()
            if url is not None:
                with server.connect() as connection:
                    connection.exec_driver_sql(f"DROP DATABASE {name}")


def memory() -> float:
    """Return the memory that the process has, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def speed(storage: PipelineStorage, changes: int) -> tuple[float, float]:
    """Record changes; return how many went in per second, and the growth in MB."""
    done, seconds, first = 0, 0.0, 0.0
    for batch in batches(changes):
        start = time.perf_counter()
        done += storage.record(batch)
        seconds += time.perf_counter() - start
        if not first and done >= changes / 10:
            first = memory()
    assert done == storage.count_states() == changes
    return changes / seconds, memory() - first


def fill(storage: PipelineStorage, kind: Kind, rows: int) -> None:
    """Store so many finished task results or pipeline results, in runs of 1,000."""
    for number, part in enumerate(batched(range(rows), TASK_RUNS)):
        run = str(uuid.uuid4())
        name = f"pipeline {number % 20}"
        ended = {
            "run_id": run,
            "status": S.DONE,
            "created": START,
            "started": START,
            "completed": START + timedelta(seconds=number),
            "closed": True,
        }
        execution = ExecutionRow(id=run, pipeline_id=name, **ended)
        many = len(part) if kind is Kind.RESULT else 1
        results = [
            ResultRow(
                id=result_id(run, n), parent_id=run, pipeline_id=name, index=n, **ended
            )
            for n in range(many)
        ]
        task = TaskExecutionRow(id=str(uuid.uuid4()), parent_id=results[0].id, **ended)
        leaves = [
            TaskResultRow(
                id=str(uuid.uuid4()),
                parent_id=task.id,
                pipeline_result_id=results[0].id,
                **ended,
            )
            for _ in (part if kind is Kind.TASK_RESULT else ())
        ]

        rows_of_run = {
            Kind.EXECUTION: [execution],
            Kind.RESULT: results,
            Kind.TASK_EXECUTION: [task],
            Kind.TASK_RESULT: leaves,
        }
        storage.transaction(partial(put, rows_of_run))


def put(rows: dict[Kind, list[Row]], session: PipelineSession) -> None:
    """Store the rows of one run, and count its pipeline results."""
    session.lock([rows[Kind.EXECUTION][0].id])
    for kind, some in rows.items():
        session.put(kind, some)
    for row in rows[Kind.RESULT]:
        session.count(None, row)


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(9):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", help="one database: SQLite, MARIADB, ...")
    options = parser.parse_args()
    changes = 3_000 if options.quick else options.changes
    rows = 2_000 if options.quick else options.rows
    missed = []

    def row(what: str, figure: str, target: str, *, good: bool) -> None:
        print(f"{what:52} {figure:>22}  {target}", flush=True)
        if not good:
            missed.append(what)

    servers = {name: os.environ.get(f"LUME_TEST_{name}_URL") for name in SERVERS}
    for name in ("SQLite", *SERVERS):
        if options.only and options.only.lower() != name.lower():
            continue
        if name != "SQLite" and not servers[name]:
            print(f"{name}: left out, LUME_TEST_{name}_URL is not set")
            continue
        # A million into MariaDB, of which the target is, and less into the others.
        much = changes if name == "MARIADB" else min(changes, max(3000, changes // 10))
        with database(servers.get(name)) as storage:
            rate, growth = speed(storage, much)
            target = TARGETS["MariaDB"] if name == "MARIADB" else 0
            row(
                f"{name}: changes a second, over {much:,}",
                f"{rate:,.0f}",
                f">= {target:,}" if target else "",
                good=rate >= target,
            )
            row(
                f"{name}: growth from a tenth to the end",
                f"{growth:.1f} MB",
                f"<= {TARGET_GROWTH} MB",
                good=growth <= TARGET_GROWTH,
            )
    for kind, name in product((Kind.TASK_RESULT, Kind.RESULT), ("SQLite", "MONGODB")):
        if options.only and options.only != "digest":
            continue
        if name != "SQLite" and not servers[name]:
            continue
        many = rows if name == "SQLite" else rows // 10
        with database(servers.get(name)) as storage:
            fill(storage, kind, many)
            assert len(storage.get_pipeline_digest()) == min(20, -(-many // TASK_RUNS))
            taken = milliseconds(storage.get_pipeline_digest)
        row(
            f"{name}: digest, {many:,} {kind.replace('_', ' ')}s",
            f"{taken:.1f} ms",
            f"<= {TARGET_DIGEST} ms" if name == "SQLite" else "",
            good=taken <= TARGET_DIGEST or name != "SQLite",
        )
    print(f"missed: {', '.join(missed)}" if missed else "all targets reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
