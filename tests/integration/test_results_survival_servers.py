"""Servers that are killed, full, or let a user do little: nothing lost, clear errors.

Read-only users of the SQL servers are in ``test_sql_store_faults.py``. FerretDB takes a
role to read, but does not keep to it; what a MongoDB server answers to a user without
rights is played to the store in ``test_mongo_faults.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url, text

from prefect_lume.errors import ConnectionFailedError, StorageError
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores import SQLDBService
from prefect_lume.storage import sql

PROJECT = "survival"
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "results_survival.py"


def in_sql(url: object, **options: object) -> ResultsService:
    return ResultsService(SQLDBService(sql.get_engine(url, **options)))


def make_result(n: int, size: int = 0) -> Result:
    outputs = {"field": np.random.default_rng(n).random(size // 8)} if size else {}
    return Result(project_name=PROJECT, inputs={"n": n}, outputs=outputs)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.service(service))
        for name, service in (("postgresql", "postgresql"), ("ferretdb", "mongodb"))
    ],
)
def test_a_server_killed_in_the_middle_loses_nothing(name: str) -> None:
    """32 writers store while their server is killed: each result is there once.

    The server is one of its own. ``benchmarks/results_survival.py`` does the same at
    full size, for more servers.
    """
    if os.geteuid():
        pytest.skip("Starting a server to be killed needs a superuser.")
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), name, "--results=400", "--kills=1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name} " in done.stdout
    assert "1 kills" in done.stdout


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.service(name))
        for name in ("mysql", "mariadb", "postgresql")
    ]
)
def limited(request: pytest.FixtureRequest) -> Iterator[tuple[ResultsService, str]]:
    """A service, and the URL of a user who may have one connection at a time."""
    url = request.getfixturevalue(f"{request.param}_url")
    service = in_sql(url)
    store = service.db_service
    store.create_tables()
    service.store(make_result(-1))
    name, parsed = f"one_{uuid.uuid4().hex[:8]}", make_url(url)
    if request.param == "postgresql":
        user, begin = (
            name,
            [
                f"CREATE USER {name} PASSWORD 'a-secret' CONNECTION LIMIT 1",
                f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}",
            ],
        )
        end = [
            f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {name}",
            f"DROP USER {name}",
        ]
    else:
        user, limit = f"'{name}'@'%'", "WITH MAX_USER_CONNECTIONS 1"
        begin = [
            f"CREATE USER {user} IDENTIFIED BY 'a-secret' {limit}",
            f"GRANT ALL ON `{parsed.database}`.* TO {user}",
        ]
        end = [f"DROP USER {user}"]
    with store.engine.begin() as connection:
        for statement in begin:
            connection.execute(text(statement))
    own = parsed.set(username=name, password="a-secret")
    yield service, own.render_as_string(hide_password=False)
    with store.engine.begin() as connection:
        for statement in end:
            connection.execute(text(statement))


def test_a_user_with_one_connection_is_told(
    limited: tuple[ResultsService, str],
) -> None:
    """When the server allows no other connection, a store says so, and works after."""
    service, url = limited
    few = in_sql(url)
    engine = few.db_service.engine
    with (
        engine.connect(),
        pytest.raises(ConnectionFailedError, match=r"connection|allows") as caught,
    ):
        few.store(make_result(1, 100_000))
    assert "a-secret" not in str(caught.value)
    few.store(make_result(1, 100_000))
    engine.dispose()
    assert [result.inputs["n"] for result in service.find(PROJECT)] == [-1, 1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("No small disk: mounting one needs a superuser.")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_nothing_is_lost(small_disk: Path) -> None:
    """A full disk is named; what was stored stays; with room again all goes on."""
    service = in_sql(f"sqlite:///{small_disk / 'results.db'}")
    service.db_service.create_tables()
    filler = small_disk / "filler"
    filler.write_bytes(bytes(1 << 20))
    stored: list[Result] = []

    def fill() -> None:
        for n in range(100):
            result = make_result(n, 100_000)
            service.store(result)
            stored.append(result)

    with pytest.raises(StorageError, match="disk is full"):
        fill()
    assert stored
    failed = make_result(len(stored), 100_000)
    for _ in range(3):
        with pytest.raises(StorageError, match="disk is full"):
            service.store_many([failed, make_result(500, 300_000)])
    assert list(service.find(PROJECT, sort="inputs.n")) == stored
    filler.unlink()
    service.store(failed)
    assert list(service.find(PROJECT, sort="inputs.n")) == [*stored, failed]
    service.db_service.delete_unused_blobs()
    assert list(service.find(PROJECT, sort="inputs.n")) == [*stored, failed]
    service.db_service.engine.dispose()
