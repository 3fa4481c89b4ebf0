"""Results moved between real servers: byte for byte, through faults, while in use."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prefect_lume.errors import StorageError
from prefect_lume.results import ImpactResult, Result, ResultsService
from prefect_lume.results.pruning import prune_results
from prefect_lume.results.stores import DBService, MongoDBService, SQLDBService
from prefect_lume.results.transfer import (
    copy_results,
    export_results,
    import_results,
)
from prefect_lume.storage.mongo import database_of, get_client
from prefect_lume.storage.sql import get_engine

SERVERS = ("mongodb", "postgresql", "mysql", "mariadb")
STORES = [
    "sqlite",
    *(pytest.param(name, marks=pytest.mark.service(name)) for name in SERVERS),
]


def open_store(url: str) -> DBService:
    """Return the store of a URL, as a process of its own would open it."""
    if url.startswith("mongodb"):
        return MongoDBService(lambda: get_client(url)[database_of(url)])
    store = SQLDBService(get_engine(url))
    store.create_tables()
    return store


def close(store: DBService) -> None:
    if isinstance(store, SQLDBService):
        store.engine.dispose()


def fill(service: ResultsService, many: int = 60) -> None:
    """Store results of every kind of value, with shared blobs and without."""
    chance = np.random.default_rng(1)
    shared = chance.normal(size=30_000)
    for n in range(many):
        service.store(
            Result(
                project_name=f"project {n % 3}",
                flow_run_id=f"run-{n}",
                inputs={
                    "n": n,
                    "numbers": [0.0, -0.0, 5e-324, 1e308, 1.0, 2**53 + 1, -(2**63)],
                    "text": "é🌌\x00 \u2028 ' \\ %s {}",
                    "nothing": None,
                    "a.b": {"$c": True},
                    "when": datetime(2026, 1, 1, n % 24, tzinfo=UTC),
                    "exact": Decimal("0.10"),
                    "scalar": np.float32(n),
                },
                outputs={
                    "small": np.arange(3) / 7,
                    "large": shared if n % 2 else chance.normal(size=20_000),
                    "nan": [float("nan"), float("inf")],
                },
            )
        )
    service.store(
        ImpactResult(
            project_name="éclair 🌌",
            inputs={"deep": [[[{"x": [1, {"y": []}]}]]]},
            outputs={
                "table": pd.DataFrame({"z": chance.normal(size=9000), "s": "a"}),
                "far": [*range(200_000), np.full(20_000, 2.0)],
            },
        )
    )


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def source(tmp_path: Path) -> Iterator[ResultsService]:
    """A filled SQLite file."""
    store = open_store(f"sqlite:///{tmp_path / 'source.db'}")
    service = ResultsService(store)
    fill(service)
    yield service
    close(store)


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


def test_copied_from_server_to_server_every_byte_stays(
    source: ResultsService,
    tmp_path: Path,
    mongodb_url: str,
    postgresql_url: str,
    mysql_url: str,
    mariadb_url: str,
) -> None:
    """SQLite, FerretDB, PostgreSQL, MySQL, MariaDB: the exports are all the same."""
    export_results(source, tmp_path / "first")
    expected = files(tmp_path / "first")
    before = source.db_service
    opened = []
    for n, address in enumerate((mongodb_url, postgresql_url, mysql_url, mariadb_url)):
        store = open_store(address)
        opened.append(store)
        report = copy_results(before, store)
        assert (report.documents, report.stored) == (61, 61)
        assert store.unused_blobs(timedelta(0)) == []
        export_results(ResultsService(store), tmp_path / str(n))
        assert files(tmp_path / str(n)) == expected
        again = copy_results(before, store)
        assert (again.stored, again.present, again.blobs) == (0, 61, 0)
        before = store
    found = ResultsService(before).find_one("project 1", {"inputs.n": 4})
    here = source.find_one("project 1", {"inputs.n": 4})
    assert found.unique_hash == here.unique_hash
    assert np.array_equal(found.outputs["large"], here.outputs["large"])
    for store in opened:
        close(store)


def test_exported_and_imported_every_byte_stays(
    source: ResultsService, tmp_path: Path, url: str
) -> None:
    """What a server was given by an import, it gives back by an export."""
    export_results(source, tmp_path / "first")
    service = ResultsService(open_store(url))
    report = import_results(service, tmp_path / "first")
    assert report.stored == 61
    export_results(service, tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "first")
    assert service.db_service.unused_blobs(timedelta(0)) == []
    assert import_results(service, tmp_path / "first").present == 61
    assert import_results(service, tmp_path / "first", "replace").stored == 61
    export_results(service, tmp_path / "replaced")
    assert files(tmp_path / "replaced") == files(tmp_path / "first")
    close(service.db_service)


def _killed_import(url: str, folder: str, blobs: int) -> None:
    """Import, and be killed in the middle of a blob."""
    store = open_store(url)
    write, count = store.write_blob, 0

    def write_blob(sha256, size, pieces):
        nonlocal count
        count += 1

        def cut():
            yield from pieces
            if count >= blobs:
                os.kill(os.getpid(), signal.SIGKILL)

        write(sha256, size, cut())

    store.write_blob = write_blob  # type: ignore[method-assign]
    import_results(ResultsService(store), folder)


def test_an_import_that_was_killed_can_be_run_again(
    source: ResultsService, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between blob and document it leaves no half result; again it is whole."""
    monkeypatch.setattr("prefect_lume.results.transfer.writing._BATCH", 5)
    export_results(source, tmp_path / "first")
    context = multiprocessing.get_context("fork")
    for blobs in (2, 11):
        process = context.Process(
            target=_killed_import, args=(url, str(tmp_path / "first"), blobs)
        )
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        service = ResultsService(open_store(url))
        for project in service.projects():
            for result in service.find(project):
                assert result.outputs["large"].size >= 20_000
    assert service.projects()
    report = import_results(service, tmp_path / "first")
    assert report.present > 0
    assert report.stored + report.present == 61
    export_results(service, tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "first")
    close(service.db_service)


def test_a_target_that_cannot_be_written_is_a_clear_error(
    source: ResultsService, postgresql_url: str
) -> None:
    """A read-only database refuses a copy with an error that says so."""
    close(open_store(postgresql_url))
    joint = "&" if "?" in postgresql_url else "?"
    engine = get_engine(
        f"{postgresql_url}{joint}options=-c%20default_transaction_read_only%3Don"
    )
    with pytest.raises(StorageError, match=r"read.only"):
        copy_results(source.db_service, SQLDBService(engine))
    engine.dispose()


def test_prune_is_exact_on_every_server(
    source: ResultsService, tmp_path: Path, url: str
) -> None:
    """A dry run says what goes; what stays can be loaded, and no blob is left over."""
    store = open_store(url)
    copy_results(source.db_service, store)
    service = ResultsService(store)
    chosen = {"keep_last": 5, "blobs_older_than": timedelta(0)}
    outlook = prune_results(service, dry_run=True, **chosen)
    report = prune_results(service, **chosen)
    assert report.types == outlook.types
    assert report.documents == 45
    assert (report.blobs, report.blob_bytes) == (outlook.blobs, outlook.blob_bytes)
    assert report.blobs > 0
    assert store.unused_blobs(timedelta(0)) == []
    newest = sorted(result.inputs["n"] for result in service.find("project 0"))
    assert newest == [45, 48, 51, 54, 57]
    for project in service.projects():
        for result in service.find(project):
            result.verify()
    close(store)


def test_prune_while_others_store(url: str) -> None:
    """What is stored or replaced while pruning runs is there afterwards, whole."""
    store = open_store(url)
    service = ResultsService(store)
    old = datetime.now(UTC) - timedelta(days=9)
    shared = np.random.default_rng(2).normal(size=20_000)
    base = [
        Result(
            project_name="busy",
            inputs={"n": n},
            outputs={"array": shared},
            date_modified=old,
        )
        for n in range(300)
    ]
    service.store_many(base)
    fresh: list[str] = []

    def work() -> None:
        for n in range(0, 300, 10):
            again = base[n].model_copy(update={"date_modified": datetime.now(UTC)})
            fresh.append(service.store(again, "replace").unique_hash)
            new = Result(
                project_name="busy", inputs={"m": n}, outputs={"array": shared}
            )
            fresh.append(service.store(new).unique_hash)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        prune_results(service, older_than=timedelta(days=1))
    thread.join()
    prune_results(service, older_than=timedelta(days=1))
    left = {result.unique_hash for result in service.find("busy")}
    assert left == set(fresh)
    assert store.unused_blobs(timedelta(0)) == []
    close(store)
