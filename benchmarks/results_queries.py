"""How long queries on the values of stored results take, beside hand-written SQL.

Run: ``python benchmarks/results_queries.py [--documents 100000] [--database URL]``.
Stores documents in a collection of its own (in a new SQLite file if no URL is given;
another database must have its tables, and is left as it was), asks each question
through the results store and as raw SQL in turn, and prints the medians. The last rows
compare a lookup by an index among all documents with one among the first thousand.
Exit status 1 when a ratio is above its target.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import text

from prefect_lume.results import Result
from prefect_lume.results import query as language
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.result import Index
from prefect_lume.results.stores.sql import SQLDBService
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import make_document

TARGET = 1.5
SMALL = 1000
REPEATS = 5
LOOKUPS = 30
NUMBER = {
    "sqlite": "json_extract(document, '$.{0}.x')",
    "postgresql": "(document::json #>> '{{{0},x}}')::float8",
    "mysql": "json_extract(document, '$.{0}.x')",
    "mariadb": "json_value(document, '$.{0}.x')",
}
"""How a person writes it: the number x in the inputs (or outputs) of a document."""


class Benchmarked(Result):
    """A result with an index, and one that is unique."""

    result_type = f"benchmarked-{uuid.uuid4().hex[:8]}"
    indices = (Index(("inputs.group",)), Index(("inputs.n",), unique=True))


def documents(collection: str, count: int) -> Iterator[Encoded]:
    """Yield documents of about one kilobyte."""
    chance = random.Random(1)
    for n in range(count):
        yield make_document(
            collection,
            inputs={"x": chance.random(), "n": n, "group": f"g{n // 10}"}
            | {f"quad{i}": chance.random() for i in range(10)},
            outputs={"x": chance.gauss(0, 1), "note": "some text " * 20},
            result_type=Benchmarked.result_type,
            flow_id=f"flow-{n % 7}",
            flow_run_id=f"run-{n}",
            date_modified=f"2026-01-01T00:{n // 60000 % 60:02}"
            f":{n // 1000 % 60:02}.{n % 1000:03}000Z",
        )


def fill(store: SQLDBService, collection: str, count: int) -> None:
    """Store documents, a thousand at a time."""
    batch: list[Encoded] = []
    for encoded in documents(collection, count):
        batch.append(encoded)
        if len(batch) == SMALL:
            insert(store, collection, batch)
            batch = []
    insert(store, collection, batch)


def insert(store: SQLDBService, collection: str, batch: list[Encoded]) -> None:
    """Store documents, and fail if one of them was not stored."""
    for outcome in store.insert_many(collection, batch):
        if outcome is not True:
            raise SystemExit(f"A document was not stored: {outcome}")


def in_turn(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Return the median seconds of two pieces of work, done by turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    first(), second()
    for _ in range(REPEATS):
        for work, taken in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def queries(
    store: SQLDBService, collection: str
) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Yield what is asked, how we answer it, and how raw SQL does."""
    with store.engine.connect() as connection:
        dialect = connection.dialect
        mariadb = getattr(dialect, "is_mariadb", False)
    number = NUMBER["mariadb" if mariadb else dialect.name]

    def raw(statement: str) -> Callable[[], Any]:
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
    store: SQLDBService, collection: str, field: str, operand: Any
) -> Callable[[], Any]:
    """Return work that looks documents up by an indexed field many times."""
    query = language.prepare({"result_type": Benchmarked.result_type, field: operand})

    def ask() -> None:
        for _ in range(LOOKUPS):
            assert list(store.find(collection, query))

    return ask


def measure(store: SQLDBService, count: int) -> bool:
    """Print the table; return whether every target was met."""
    large, small = (f"benchmark-{uuid.uuid4().hex[:8]}" for _ in range(2))
    met = True

    def show(what: str, ours: float, other: float, target: float) -> None:
        nonlocal met
        met = met and ours <= target * other
        print(
            f"{what:24}{ours:10.4f} s{other:10.4f} s{ours / other:8.2f}{target:8.2f}",
            flush=True,
        )

    try:
        store.prepare([Benchmarked])
        fill(store, small, SMALL)
        fill(store, large, count)
        print(f"{'':24}{'ours':>12}{'raw SQL':>12}{'ratio':>8}{'target':>8}")
        for what, ours, raw in queries(store, large):
            show(what, *in_turn(ours, raw), 3 * TARGET if "top" in what else TARGET)
        print(f"{'':24}{f'{count}':>12}{f'{SMALL}':>12}{'ratio':>8}{'target':>8}")
        for field, operand in (("inputs.n", 500), ("inputs.group", "g50")):
            many = lookups(store, large, field, operand)
            few = lookups(store, small, field, operand)
            show(f"{LOOKUPS} lookups, {field}", *in_turn(many, few), TARGET)
    finally:
        store.delete(large, {})
        store.delete(small, {})
    return met


def main() -> int:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--database", help="SQLAlchemy URL with the tables in it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.database or f"sqlite:///{folder}/results.db"
        store = SQLDBService(get_engine(url))
        if not arguments.database:
            store.create_tables()
        met = measure(store, arguments.documents)
        store.engine.dispose()
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
