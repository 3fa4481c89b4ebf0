"""How long queries on the values of stored results take, beside hand-written SQL.

Run: ``python benchmarks/results_queries.py [--documents N] [--lookups N]
[--database URL | --servers]``. Without a URL on a new SQLite file; with one on a new
database of that server, which is dropped at the end; with ``--servers`` on SQLite and
on every server of which a ``LUME_TEST_..._URL`` is set (see tests/README.md).

The first rows ask a question through the store and as an expert writes it in SQL, by
turns (not on MongoDB: there the server gets the question as it is). The others look
results up among many and among the first thousand, by turns as well; ``--lookups
1000000`` takes some minutes to fill each database. Shown are medians. Exit status 1 if
a ratio is above its target; repeat a missed figure on a quiet machine.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import NullPool, create_engine, make_url, text

from prefect_lume.results import Result
from prefect_lume.results import query as language
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.index import Index
from prefect_lume.results.stores import DBService, MongoDBService, SQLDBService
from prefect_lume.storage import mongo, sql
from prefect_lume.testing import make_document

TARGET = 1.5
#: The first documents of a field that is not indexed: no target was set.
TARGET_TOP = 2.0
SMALL = 1000
ROUNDS = 7
#: Different documents that are looked up in one round.
KEYS = 20
SERVERS = ("POSTGRESQL", "MARIADB", "MYSQL", "MONGODB")
NUMBER = {
    "sqlite": "json_extract(document, '$.{0}.x')",
    "postgresql": "(document::json #>> '{{{0},x}}')::float8",
    "mysql": "json_extract(document, '$.{0}.x')",
    "mariadb": "json_value(document, '$.{0}.x')",
}
"""How a person writes it: the number x in the inputs (or outputs) of a document."""

Call = Callable[[], Any]


class Benchmarked(Result):
    """A result with an index, and one that is unique."""

    result_type = f"benchmarked-{uuid.uuid4().hex[:8]}"
    indices = (Index(("inputs.group",)), Index(("inputs.n",), unique=True))


def documents(collection: str, count: int, *, small: bool) -> Iterator[Encoded]:
    """Yield documents of a bit less than one kilobyte, or of half of that."""
    chance = random.Random(1)
    for n in range(count):
        inputs: dict[str, Any] = {"n": n, "group": f"g{n // 10}"}
        outputs: dict[str, Any] = {}
        if not small:
            inputs |= {f"quad{i}": chance.random() for i in range(10)}
            inputs["x"] = chance.random()
            outputs = {"x": chance.gauss(0, 1), "note": "some text " * 20}
        seconds, part = divmod(n, 1000)
        minutes, second = divmod(seconds, 60)
        yield make_document(
            collection,
            inputs=inputs,
            outputs=outputs,
            result_type=Benchmarked.result_type,
            flow_id=f"flow-{n % 7}",
            flow_run_id=f"run-{n}",
            date_modified=f"2026-01-01T{minutes // 60:02}:{minutes % 60:02}"
            f":{second:02}.{part:03}000Z",
        )


def fill(store: DBService, collection: str, count: int, *, small: bool = False) -> None:
    """Store documents, a thousand at a time."""
    batch: list[Encoded] = []
    for encoded in documents(collection, count, small=small):
        batch.append(encoded)
        if len(batch) == SMALL:
            insert(store, collection, batch)
            batch = []
    insert(store, collection, batch)


def insert(store: DBService, collection: str, batch: list[Encoded]) -> None:
    """Store documents, and fail if one of them was not stored."""
    for outcome in store.insert_many(collection, batch):
        if outcome is not True:
            raise SystemExit(f"A document was not stored: {outcome}")


def in_turn(first: Call, second: Call) -> tuple[float, float]:
    """Return the median seconds of two pieces of work, done by turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    first(), second()
    for _ in range(ROUNDS):
        for work, taken in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def queries(store: SQLDBService, collection: str) -> Iterator[tuple[str, Call, Call]]:
    """Yield what is asked, how we answer it, and how raw SQL does."""
    with store.engine.connect() as connection:
        dialect = connection.dialect
        mariadb = getattr(dialect, "is_mariadb", False)
    number = NUMBER["mariadb" if mariadb else dialect.name]

    def raw(statement: str) -> Call:
        def ask() -> Any:
            with store.engine.connect() as connection:
                return connection.execute(
                    text(statement), {"collection": collection}
                ).all()

        return ask

    few = language.prepare({"inputs.x": {"$gt": 0.99}})
    half = language.prepare({"inputs.x": {"$gt": 0.5}})
    start = "FROM result WHERE collection = :collection"
    x, y = number.format("inputs"), number.format("outputs")
    yield (
        "find 1 %",
        lambda: list(store.find(collection, few)),
        raw(f"SELECT document {start} AND {x} > 0.99"),
    )
    yield (
        "count half",
        lambda: store.count(collection, half),
        raw(f"SELECT count(*) {start} AND {x} > 0.5"),
    )
    yield (
        "top 10",
        lambda: list(store.find(collection, sort=[("outputs.x", -1)], limit=10)),
        raw(f"SELECT document {start} ORDER BY {y} DESC LIMIT 10"),
    )


def lookups(
    store: DBService, large: str, small: str, count: int
) -> Iterator[tuple[str, Call, Call]]:
    """Yield what is looked up, and the work in the large and the small collection."""
    own = {"result_type": Benchmarked.result_type}
    chance = random.Random(5)
    chosen = {large: chance.sample(range(count), KEYS)}
    chosen[small] = chance.sample(range(SMALL), KEYS)

    def work(collection: str, ask: Callable[[int], dict[str, Any]]) -> Call:
        asked = [language.prepare(ask(n)) for n in chosen[collection]]

        def look_up() -> None:
            for query in asked:
                assert list(store.find(collection, query))

        return look_up

    hashes = {
        (collection, n): next(
            store.find(collection, language.prepare({**own, "inputs.n": n}))
        )["_id"]
        for collection, numbers in chosen.items()
        for n in numbers
    }
    kinds: dict[str, Callable[[str], Callable[[int], dict[str, Any]]]] = {
        "unique_hash": lambda c: lambda n: {"_id": hashes[c, n]},
        "unique field": lambda _: lambda n: {**own, "inputs.n": n},
        "indexed field": lambda _: lambda n: {**own, "inputs.group": f"g{n // 10}"},
        "flow_run_id": lambda _: lambda n: {"flow_run_id": f"run-{n}"},
    }
    for what, ask in kinds.items():
        yield what, work(large, ask(large)), work(small, ask(small))


class Report:
    """Prints rows and remembers whether a target was missed."""

    def __init__(self) -> None:
        self.missed = False

    def title(self, what: str, ours: str, other: str) -> None:
        """Show what the columns are."""
        print(f"{what:28}{ours:>12}{other:>12}{'ratio':>8}{'target':>8}", flush=True)

    def row(self, what: str, ours: float, other: float, target: float) -> None:
        """Show two times."""
        good = ours <= target * other
        self.missed |= not good
        print(
            f"{what:28}{ours:10.4f} s{other:10.4f} s{ours / other:8.2f}{target:8.2f}"
            + ("" if good else "  MISSED"),
            flush=True,
        )


def measure(report: Report, name: str, store: DBService, count: int, many: int) -> None:
    """Fill a database and print its rows."""
    store.prepare([Benchmarked])
    if count and isinstance(store, SQLDBService):
        fill(store, "values", count)
        report.title(f"{name}, {count} documents", "ours", "raw SQL")
        for what, ours, raw in queries(store, "values"):
            target = TARGET_TOP if what.startswith("top") else TARGET
            report.row(what, *in_turn(ours, raw), target)
    if many:
        fill(store, "small", SMALL, small=True)
        fill(store, "large", many, small=True)
        report.title(f"{name}, {KEYS} lookups among", str(many), str(SMALL))
        for what, large, small in lookups(store, "large", "small", many):
            report.row(what, *in_turn(large, small), TARGET)


@contextmanager
def opened(url: str | None) -> Iterator[DBService]:
    """Yield a store on a new database of a server, or on a new SQLite file."""
    database = f"bench_{uuid.uuid4().hex[:8]}"
    if url is None:
        with tempfile.TemporaryDirectory() as folder:
            yield from sql_store(f"sqlite:///{folder}/results.db")
    elif url.startswith("mongodb"):
        client = mongo.get_client(url)
        try:
            yield MongoDBService(client[database])
        finally:
            client.drop_database(database)
    else:
        server = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {database}"))
        own = make_url(url).set(database=database)
        try:
            yield from sql_store(own.render_as_string(hide_password=False))
        finally:
            with server.connect() as connection:
                connection.execute(text(f"DROP DATABASE {database}"))


def sql_store(url: str) -> Iterator[SQLDBService]:
    """Yield a store that has its tables."""
    store = SQLDBService(sql.get_engine(url))
    store.create_tables()
    try:
        yield store
    finally:
        store.engine.dispose()


def main() -> int:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = "compared with raw SQL; 0 leaves that out"
    parser.add_argument("--documents", type=int, default=100_000, help=what)
    what = "documents to look up among, at least 1000; 0 leaves that out"
    parser.add_argument("--lookups", type=int, default=100_000, help=what)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--database", help="a server's URL (SQLAlchemy's, or MongoDB's)")
    where.add_argument("--servers", action="store_true", help="all LUME_TEST_..._URL")
    options = parser.parse_args()
    if 0 < options.lookups < SMALL:
        parser.error(f"--lookups is 0, or at least {SMALL}")
    places: dict[str, str | None] = {"SQLite": None}
    if options.database:
        places = {options.database.partition(":")[0]: options.database}
    if options.servers:
        found = {name: os.environ.get(f"LUME_TEST_{name}_URL") for name in SERVERS}
        places |= {name.lower(): url for name, url in found.items() if url}
        for name in (name for name, url in found.items() if not url):
            print(f"left out: {name.lower()} (LUME_TEST_{name}_URL is not set)")
    report = Report()
    for name, url in places.items():
        with opened(url) as store:
            measure(report, name, store, options.documents, options.lookups)
    return int(report.missed)


if __name__ == "__main__":
    sys.exit(main())
