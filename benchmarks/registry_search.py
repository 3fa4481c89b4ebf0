"""How long searches take in a registry of many deployments.

Run: ``python benchmarks/registry_search.py [--models N] [--deployments N]
[--url URL]``. Without a URL on a new SQLite file in a temporary folder; with one on a
new database of that server, which is dropped at the end. The registry is filled by
bulk SQL: 1,000 models of 1,000 deployments each take about a minute on SQLite.

Shown are the median of five calls after one that does not count, how many ids came,
and (on SQLite) what the database does: "scan" where it reads all deployments, else the
indices that it uses. ``--plans`` prints SQLite's whole plans.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url

from prefect_lume import migrations
from prefect_lume.registry import search, tables
from prefect_lume.storage import sql

ROUNDS = 5
BATCH = 5_000
START = datetime(2024, 1, 1, tzinfo=UTC)
LABORATORIES = (
    "slac",
    "desy",
    "cern",
    "psi",
    "ess",
    "fnal",
    "lbnl",
    "kek",
    "anl",
    "jlab",
)


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def models(count: int) -> Iterator[dict[str, Any]]:
    for n in range(1, count + 1):
        row = {
            "author": f"author {n % 97}",
            "laboratory": LABORATORIES[n % len(LABORATORIES)],
            "facility": f"facility {n % 23}",
            "beampath": f"beampath {n % 7}",
            "description": f"model {n} of the injector",
        }
        yield row | {
            "model_id": n,
            "created": START,
            "fingerprint": sha(-n),
            "search_text": "\n".join(row.values()).casefold(),
        }


def deployments(models: int, each: int) -> Iterator[dict[str, Any]]:
    # By version first, as time goes on: not all of one model in a row.
    number = 0
    for version in range(1, each + 1):
        for model in range(1, models + 1):
            number += 1
            row = {
                "version": f"{version // 100}.{version // 10 % 10}.{version % 10}",
                "package_import_name": f"package_{model}",
                "source": f"https://example.org/releases/package_{model}-{number}.tar.gz",
                "image": f"registry.example/package_{model}:{version}",
            }
            yield row | {
                "deployment_id": number,
                "model_id": model,
                "deploy_date": START + timedelta(seconds=60 * number),
                "asset_dir": None,
                "sha256": sha(number),
                "is_live": version == each,
                "description": f"release {version} of package {model}",
                "retired": START if version % 10 == 0 else None,
                "parent_deployment_id": number - models if version > 1 else None,
                "search_text": "\n".join(row.values()).casefold(),
            }


def tags(models: int, each: int) -> Iterator[dict[str, Any]]:
    for number in range(1, models * each + 1):
        stage = "production" if number % 3 else "beamtime"
        yield tag(number, "stage", stage)
        yield tag(number, "commit", sha(number)[:40])
        if number % 10_000 == 0:
            yield tag(number, "campaign", f"run {number // 100_000}")


def tag(number: int, key: str, value: str) -> dict[str, Any]:
    return {
        "deployment_id": number,
        "key": key,
        "value": value,
        "value_start": value[:120],
    }


def aliases(models: int, each: int) -> Iterator[dict[str, Any]]:
    for model in range(1, models + 1):
        for alias, version in (("candidate", each - 1), (f"best-{model}", each // 2)):
            number = (version - 1) * models + model
            yield {"model_id": model, "alias": alias, "deployment_id": number}


def insert(engine: Engine, row: type[Any], rows: Iterator[dict[str, Any]]) -> None:
    """Insert rows, some thousand at a time."""
    statement = row.__table__.insert()
    batch: list[dict[str, Any]] = []
    with engine.begin() as connection:
        for values in rows:
            batch.append(values)
            if len(batch) == BATCH:
                connection.execute(statement, batch)
                batch = []
        if batch:
            connection.execute(statement, batch)


def fill(engine: Engine, count: int, each: int) -> None:
    migrations.upgrade(engine)
    insert(engine, tables.ModelRow, models(count))
    insert(engine, tables.DeploymentRow, deployments(count, each))
    insert(engine, tables.DeploymentTagRow, tags(count, each))
    insert(engine, tables.AliasRow, aliases(count, each))
    with engine.begin() as connection:
        names = ("model", "deployment", "deployment_tag", "deployment_alias")
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
        elif engine.dialect.name != "sqlite":
            # SQLite has no statistics unless somebody asks for them; nor has it here.
            for name in names:
                connection.exec_driver_sql(f"ANALYZE TABLE {name}")


def questions(count: int, each: int) -> list[tuple[str, str, str]]:
    """Return a title, a filter and an order of each search."""
    middle = count * each // 2
    day = (START + timedelta(seconds=60 * middle)).date()
    most, by_id = "deploy_date DESC", "deployment_id"
    return [
        ("all, first page", "", by_id),
        ("newest", "", most),
        ("by sha256", f"sha256 = '{sha(middle)}'", by_id),
        ("sha256 begins with", f"sha256 LIKE '{sha(middle)[:12]}%'", by_id),
        ("model and version", "model_id = 7 AND version = '3.1.4'", by_id),
        ("version of any model", "version = '3.1.4'", by_id),
        ("alias of one", "alias = 'best-77'", by_id),
        ("alias of each model", "alias = 'candidate'", by_id),
        ("tag, one row", f"tags.commit = '{sha(middle)[:40]}'", by_id),
        ("tag, one begins with", f"tags.commit LIKE '{sha(middle)[:12]}%'", by_id),
        ("tag, a third of the rows", "tags.stage = 'beamtime'", by_id),
        ("the same, newest first", "tags.stage = 'beamtime'", most),
        (
            "two tags",
            "tags.stage = 'production' AND tags.campaign = 'run 3'",
            by_id,
        ),
        ("without a tag", "tags.campaign IS NULL", by_id),
        ("not a tag's value", "NOT tags.stage = 'production'", by_id),
        ("a day", f"deploy_date = '{day}'", most),
        ("since a day, newest first", f"deploy_date >= '{day}'", most),
        ("since a day, by id", f"deploy_date >= '{day}'", by_id),
        ("live of a laboratory", "laboratory = 'slac' AND is_live", by_id),
        ("all live", "is_live", by_id),
        ("of a laboratory", "laboratory = 'slac'", by_id),
        ("of a laboratory, newest", "laboratory = 'slac' AND NOT retired", most),
        (
            "issue's example",
            (
                "laboratory = 'slac' AND (tags.stage = 'beamtime' OR alias = "
                f"'candidate') AND NOT retired AND deploy_date >= '{day}'"
            ),
            most,
        ),
        ("children of one", f"parent_deployment_id = {middle}", by_id),
        (
            "of a laboratory, by version",
            "laboratory = 'slac'",
            "laboratory, version DESC",
        ),
        (
            "text, one row",
            f"text CONTAINS 'PACKAGE_7-{count * (each // 2) + 7}.'",
            by_id,
        ),
        ("text, of a model", "text CONTAINS 'Model 77 of'", by_id),
        ("text, many", "text CONTAINS 'releases'", by_id),
        ("text, none", "text CONTAINS 'no such word'", by_id),
        ("LIKE, none", "source LIKE '%no such%word%'", by_id),
        ("ILIKE, none", "source ILIKE '%No Such%word%'", by_id),
        ("description of none", "description CONTAINS 'nothing'", by_id),
    ]  # fmt: skip


def seconds(call: Callable[[], Any]) -> float:
    call()
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
        if taken[-1] > 5:
            break
    return statistics.median(taken)


def plan(connection: Connection, call: Callable[[], Any], *, whole: bool) -> str:
    """Return what SQLite does for a search."""
    if connection.dialect.name != "sqlite":
        return ""
    sent: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
        sent.append((statement, values))

    event.listen(connection, "before_cursor_execute", note)
    call()
    event.remove(connection, "before_cursor_execute", note)
    statement, values = sent[0]
    found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
    steps = [row[3] for row in found]
    if whole:
        return "\n    " + "\n    ".join(steps)
    ways = ["scan" if s == "SCAN deployment" else "" for s in steps]
    ways += [s.split(" INDEX ")[1].split(" ")[0] for s in steps if " INDEX " in s]
    ways += ["sort" for s in steps if "TEMP B-TREE" in s]
    return ", ".join(dict.fromkeys(way for way in ways if way))


@contextmanager
def database(url: str | None) -> Iterator[Engine]:
    """Give a new database: a SQLite file, or one on a server."""
    if url is None:
        with tempfile.TemporaryDirectory(prefix="registry-search-") as folder:
            yield sql.get_engine(f"sqlite:///{Path(folder) / 'registry.db'}")
            sql.close_all()
        return
    server = make_url(url)
    name = f"lume_bench_{uuid.uuid4().hex[:12]}"
    # Another engine: what it connects to must not be in use when it is dropped.
    arguments = {}
    if server.get_driver_name() == "pymysql" and server.password is not None:
        arguments["password"] = str(server.password).encode()
    administration = create_engine(
        server, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments
    )
    with administration.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield sql.get_engine(server.set(database=name))
    finally:
        sql.close_all()
        with administration.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--deployments", type=int, default=1000, help="of each model")
    parser.add_argument("--url", help="of a server, without a database")
    parser.add_argument("--plans", action="store_true", help="print SQLite's plans")
    asked = parser.parse_args()
    with database(asked.url) as engine:
        start = time.perf_counter()
        fill(engine, asked.models, asked.deployments)
        rows = asked.models * asked.deployments
        version = sql.check(engine)
        print(
            f"{engine.dialect.name} {version}, {rows:,} deployments of {asked.models:,}"
            f" models, filled in {time.perf_counter() - start:.0f} s"
        )
        with sql.read_only(engine).connect() as connection:
            report(connection, asked.models, asked.deployments, whole=asked.plans)


def report(connection: Connection, count: int, each: int, *, whole: bool) -> None:
    """Print a line for each search: page 1, the page after it, the plan."""
    print(f"{'search':<28}{'page 1':>10}{'page 2':>10}{'ids':>6}  how")
    for title, where, order in questions(count, each):

        def first(where: str = where, order: str = order) -> search.Found:
            return search.deployments(connection, where, order_by=order)

        found = first()
        taken = seconds(first)
        second = ""
        token = found.next_page_token
        if token is not None:

            def after(
                where: str = where, order: str = order, token: str = token
            ) -> search.Found:
                return search.deployments(
                    connection, where, order_by=order, page_token=token
                )

            second = f"{seconds(after) * 1000:,.1f} ms"
        how = plan(connection, first, whole=whole)
        shown = f"{taken * 1000:,.1f} ms"
        print(
            f"{title:<28}{shown:>10}{second:>10}{len(found.ids):>6}  {how}", flush=True
        )
    for title, where in (
        ("count: a third by tag", "tags.stage = 'beamtime'"),
        ("count: live", "is_live"),
        ("count: all", ""),
        ("count: not retired", "NOT retired"),
    ):
        shown = seconds(lambda w=where: search.count_deployments(connection, w))
        print(f"{title:<28}{shown * 1000:>7,.1f} ms", flush=True)
    for title, where in (
        ("models: all", ""),
        ("models: by tag of none", "tags.x = 'y'"),
        ("models: live", "is_live"),
        ("models: not live", "NOT is_live"),
        ("models: by version", "version = '3.1.4'"),
        ("models: by sha256", f"deployment.sha256 = '{sha(count)}'"),
        ("models: alias", "alias = 'candidate'"),
    ):
        taken = seconds(lambda w=where: search.models(connection, w))
        print(f"{title:<28}{taken * 1000:>7,.1f} ms", flush=True)


if __name__ == "__main__":
    main()
