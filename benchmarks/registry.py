"""What the registry's calls cost, against MLflow's and against SQLAlchemy Core.

Run: ``python benchmarks/registry.py [--part NAME ...] [--deployments N] [--rounds N]
[--url URL] [--cpu] [--json]``. The parts are

- ``mlflow``: against MLflow on SQLite, see ``registry_against_mlflow.py``;
- ``size``: the live deployment among 1,000 and among 1,000,000 others;
- ``core``: each call of the service against the same statements, executed by
  SQLAlchemy Core on the same engine, with the rows that they give;
- ``chain``: the statements that resolve a parent of 100 subflows.

Without a URL on new SQLite files; with one, ``core`` and ``chain`` use a new database
of that server, which is dropped at the end. What is compared is timed in turns, call by
call, and medians are shown. Ends with status 1 if a target was missed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import registry_against_mlflow as against_mlflow
from registry_calls import READS, WRITES, Filled, Write, fill, fill_chain
from registry_search import database, deployments, insert, models
from sqlalchemy import Engine, event

from prefect_lume import migrations
from prefect_lume.registry import ModelDBService, tables
from prefect_lume.storage import sql

PARTS = ("mlflow", "size", "core", "chain")
SUBFLOWS = 100
#: What tells the time; on a machine that others use, the time of this thread is surer.
CLOCK: list[Callable[[], float]] = [time.perf_counter]
Sent = list[tuple[Any, Any]]
Prepared = Callable[[], Callable[[], Any]]


@dataclass(frozen=True)
class Line:
    """One target and what was reached."""

    what: str
    target: str
    measured: str
    reached: bool
    value: float
    detail: str = ""


def timed(call: Callable[[], Any]) -> float:
    start = CLOCK[0]()
    call()
    return CLOCK[0]() - start


def in_turns(pairs: Iterator[tuple[Prepared, Prepared]]) -> tuple[float, float, float]:
    """Time pairs of calls, one after the other and in changing order.

    Each is prepared, which is not timed, right before it is called.

    Returns:
        The medians of each side in seconds, and their ratio.
    """
    taken: tuple[list[float], list[float]] = [], []
    gc.collect()
    for number, pair in enumerate(pairs):
        for side in (0, 1) if number % 2 else (1, 0):
            taken[side].append(timed(pair[side]()))
    one, other = map(statistics.median, taken)
    return one, other, one / other


def ready(call: Callable[[], Any]) -> Prepared:
    return lambda: call


@contextlib.contextmanager
def recorded(engine: Engine) -> Iterator[Sent]:
    """Note the statements that are executed, and their parameters."""
    sent: Sent = []

    def note(_c: Any, statement: Any, many: Any, one: Any, _options: Any) -> None:
        sent.append((statement, many or one))

    event.listen(engine, "before_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_execute", note)


def replay(connection: Any, sent: Sent) -> None:
    for statement, parameters in sent:
        result = connection.execute(statement, parameters)
        if result.returns_rows:
            result.all()


def core_read(engine: Engine, sent: Sent) -> Callable[[], None]:
    reader = sql.read_only(engine)

    def call() -> None:
        with reader.connect() as connection:
            replay(connection, sent)

    return call


def core_write(engine: Engine, sent: Sent) -> Callable[[], None]:
    def call() -> None:
        with engine.begin() as connection:
            replay(connection, sent)

    return call


def reads(
    filled: Filled, rounds: int, only: Sequence[str]
) -> Iterator[tuple[str, int, Any]]:
    engine, registry = filled.engine, filled.registry
    # An engine that only reads shares the events of the one that it was made of.
    for name, make in READS.items():
        if only and name not in only:
            continue
        call = make(registry, filled)
        call()
        with recorded(engine) as sent:
            call()
        other = core_read(engine, sent)
        other()
        yield (
            name,
            len(sent),
            in_turns((ready(call), ready(other)) for _ in range(rounds)),
        )


def writes(
    filled: Filled, rounds: int, only: Sequence[str]
) -> Iterator[tuple[str, int, Any]]:
    """Each side does a write to rows of its own, and has tried it just before."""
    engine, registry = filled.engine, filled.registry
    preview = registry.preview()
    for name, write in WRITES.items():
        if only and name not in only:
            continue

        def our(write: Write = write) -> Callable[[], Any]:
            given = write.prepare(registry)
            write.call(preview, given)
            return lambda: write.call(registry, given)

        def their(write: Write = write) -> Callable[[], Any]:
            given = write.prepare(registry)
            with recorded(engine) as sent:
                write.call(preview, given)
            return core_write(engine, sent)

        yield name, 0, in_turns((our, their) for _ in range(rounds))


def core(url: str | None, rounds: int, only: Sequence[str] = ()) -> Iterator[Line]:
    with database(url) as engine:
        filled = fill(engine)
        for measure in (reads, writes):
            for name, _, (ours, core, ratio) in measure(filled, rounds, only):
                yield Line(
                    f"{name}, against Core ({engine.dialect.name})",
                    "<= 1.3",
                    f"{ratio:.2f}",
                    ratio <= 1.3,
                    ratio,
                    f"{ours * 1e6:,.0f} us against {core * 1e6:,.0f} us",
                )


def size(count: int, rounds: int) -> Iterator[Line]:
    """Compare a registry of 1,000 deployments with one of many, 1,000 models each."""
    with database(None) as small, contextlib.ExitStack() as stack:
        # Two files, hence two engines; the one context closes all engines.
        large = stack.enter_context(_second())
        for engine, each in ((small, 1), (large, count // 1000)):
            migrations.upgrade(engine)
            insert(engine, tables.ModelRow, models(1000))
            insert(engine, tables.DeploymentRow, deployments(1000, each))
            with engine.begin() as connection:
                rows = [
                    {
                        "flow_id": f"flow-{n}",
                        "flow_name": f"flow {n}",
                        "project_name": "injector",
                        "deployment_id": (each - 1) * 1000 + n,
                        "created": filled_at(),
                    }
                    for n in range(1, 1001)
                ]
                connection.execute(
                    tables.PROJECTS.insert(),
                    {
                        "project_name": "injector",
                        "description": "",
                        "created": filled_at(),
                    },
                )
                connection.execute(tables.FLOWS.insert(), rows)
        registries = ModelDBService(large), ModelDBService(small)
        number = 0

        def pairs() -> Iterator[Any]:
            nonlocal number
            for _ in range(rounds * 5):
                number = number * 7 % 1009 % 1000 + 1
                one, other = (
                    ready(lambda r=r, n=number: r.get_live_deployment(n))
                    for r in registries
                )
                yield one, other

        for registry in registries:
            record = registry.get_live_deployment(7)
            assert record.flows[0].flow_name == "flow 7"
        one, other, ratio = in_turns(pairs())
        yield Line(
            f"live deployment, {count:,} deployments against 1,000",
            "<= 1.5",
            f"{ratio:.2f}",
            ratio <= 1.5,
            ratio,
            f"{one * 1e6:,.0f} us against {other * 1e6:,.0f} us",
        )


def filled_at() -> Any:
    from registry_search import START

    return START


@contextlib.contextmanager
def _second() -> Iterator[Engine]:
    with database(None) as engine:
        yield engine


def chain(url: str | None) -> Iterator[Line]:
    with database(url) as engine:
        registry = fill_chain(engine, SUBFLOWS)
        registry.get_flow_of_flows(flow_name="chain")
        with recorded(engine) as sent:
            found = registry.get_flow_of_flows(flow_name="chain")
        assert len(found.subflows) == SUBFLOWS
        assert all(item.flow.deployment for item in found.subflows)
        assert all(item.mapped_parameters for item in found.subflows[1:])
        yield Line(
            f"statements for a parent of {SUBFLOWS} subflows ({engine.dialect.name})",
            "<= 2",
            str(len(sent)),
            len(sent) <= 2,
            len(sent),
        )


def against(rounds: int) -> Iterator[Line]:
    for what, target, ratio, detail in against_mlflow.compare(rounds):
        yield Line(
            what, f">= {target:g}", f"{ratio:.1f}", ratio >= target, ratio, detail
        )
    count = against_mlflow.statements()
    yield Line("statements for the live deployment", "1", str(count), count == 1, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--part", action="append", choices=PARTS, dest="parts")
    parser.add_argument("--only", action="append", default=[], help="a call of `core`")
    parser.add_argument("--deployments", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--url", help="of a server, without a database")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--cpu", action="store_true", help="time of the processor, where others work"
    )
    asked = parser.parse_args()
    if asked.cpu:
        CLOCK[0] = time.thread_time
    lines: list[Line] = []
    parts: dict[str, Callable[[], Iterator[Line]]] = {
        "mlflow": lambda: against(asked.rounds),
        "size": lambda: size(asked.deployments, asked.rounds),
        "core": lambda: core(asked.url, asked.rounds, asked.only),
        "chain": lambda: chain(asked.url),
    }
    if not asked.json:
        print(f"{'what':<62}{'target':>8}{'measured':>10}  reached")
    for name in asked.parts or PARTS:
        for line in parts[name]():
            lines.append(line)
            if not asked.json:
                reached = "yes" if line.reached else "NO "
                print(
                    f"{line.what:<62}{line.target:>8}{line.measured:>10}  {reached}"
                    f"  {line.detail}",
                    flush=True,
                )
    if asked.json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
    sys.exit(not all(line.reached for line in lines))


if __name__ == "__main__":
    main()
