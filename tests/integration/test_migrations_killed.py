"""Upgrades and downgrades that are killed where nothing takes changes back."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, inspect, text

from prefect_lume import migrations
from prefect_lume.errors import SchemaError
from prefect_lume.results.stores import SQLDBService
from prefect_lume.storage.sql import get_engine

SERVERS = [
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
]
CHANGING = re.compile(r"\s*(CREATE|DROP|ALTER|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
KILLED = 9
Migrate = Callable[[Engine], None]
FIRST, LAST_BUT_ONE = migrations.revisions()[0], migrations.revisions()[-2]


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = get_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def rows() -> ModuleType:
    """The module of the tests of rows, which knows the frozen ones."""
    path = Path(__file__).parent / "test_migrations_rows.py"
    spec = importlib.util.spec_from_file_location("lume_frozen_rows", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def migrate_and_die(url: str, after: int, migrate: Migrate) -> bool:
    """Migrate in a process that dies after so many changing statements.

    Returns:
        Whether it died; else it came to the end.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _migrate(url, after, migrate)
            code = 0
        finally:
            # Without any goodbye: neither to the server nor to pytest.
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED)
    return status == KILLED


def _migrate(url: str, after: int, migrate: Migrate) -> None:
    engine = get_engine(url)
    done = 0

    def count(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal done
        if CHANGING.match(statement):
            if done == after:
                os._exit(KILLED)
            done += 1

    event.listen(engine, "before_cursor_execute", count)
    migrate(engine)


def shape(engine: Engine) -> object:
    """What there is of tables, columns, indices and keys, and the revision."""
    with engine.connect() as connection:
        inspector = inspect(connection)
        names = inspector.get_table_names()
        columns = inspector.get_multi_columns()
        indices = inspector.get_multi_indexes()
    return (
        migrations.current(engine),
        sorted(names),
        sorted((key[1], item["name"]) for key in columns for item in columns[key]),
        sorted((key[1], str(item["name"])) for key in indices for item in indices[key]),
    )


def migrate_by_deaths(engine: Engine, url: str, migrate: Migrate) -> int:
    """Migrate by processes that all die, one change of tables further each time.

    In every state that the tables pass through, processes die after one statement,
    after two, and so on until one got further; the next one starts from there.
    """
    deaths, allowed = 0, 1
    before = shape(engine)
    while migrate_and_die(url, allowed, migrate):
        deaths += 1
        after = shape(engine)
        allowed = allowed + 1 if after == before else 1
        before = after
    return deaths


def test_first_upgrade_killed_is_run_again(engine: Engine, url: str) -> None:
    """Killed between the first tables it is started anew; nothing is in its way."""
    for statements in (1, 2, 5, 11):
        assert migrate_and_die(url, statements, migrations.upgrade)
        assert migrations.current(engine) is None
        with pytest.raises(SchemaError, match="prefect-lume db upgrade"):
            migrations.ensure(engine)
    migrations.upgrade(engine)
    assert migrations.check(engine) == []


def test_tables_with_rows_are_never_taken_for_remains(engine: Engine, url: str) -> None:
    """Where a table of our names holds rows, a first upgrade drops nothing."""
    assert migrate_and_die(url, 11, migrations.upgrade)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO project VALUES ('theirs', '', '2026-01-01')")
        )
    before = shape(engine)
    with pytest.raises(SchemaError, match="another program"):
        migrations.upgrade(engine)
    assert shape(engine) == before


@pytest.mark.timeout(900)
# From the first one it passes all others; from the last but one, with rows of its own.
@pytest.mark.parametrize("revision", [FIRST, LAST_BUT_ONE])
def test_upgrade_killed_at_every_statement(
    engine: Engine, url: str, rows: ModuleType, revision: str
) -> None:
    """With rows, and killed after each statement, it ends as if it had not been."""
    migrations.upgrade(engine, revision)
    rows.insert(engine, rows.frozen(revision))
    before = rows.stored(engine)
    assert migrate_by_deaths(engine, url, migrations.upgrade) > 10
    assert migrations.current(engine) == migrations.head()
    assert migrations.check(engine) == []
    after = rows.stored(engine, before)
    assert after == rows.common(before, after)
    rows.read_by_the_code(engine, rows.frozen(revision))


@pytest.mark.timeout(900)
def test_downgrade_killed_at_every_statement(
    engine: Engine, url: str, rows: ModuleType
) -> None:
    """With rows, and killed after each statement, it ends as if it had not been."""
    migrations.upgrade(engine, FIRST)
    rows.insert(engine, rows.frozen(FIRST))
    expected, before = shape(engine), rows.stored(engine)
    migrations.upgrade(engine)
    store = SQLDBService(engine)
    # Compressed, and of several pieces.
    contents = [bytes(100_000), random.Random(1).randbytes(12 << 20)]
    for data in contents:
        store.put_blob(sha256(data).hexdigest(), data)

    def back_to_first(engine: Engine) -> None:
        migrations.downgrade(engine, FIRST)

    assert migrate_by_deaths(engine, url, back_to_first) > 10
    assert shape(engine) == expected
    found = rows.stored(engine)
    for name in before:
        assert [row for row in found[name] if row in before[name]] == before[name]
    migrations.upgrade(engine)
    for data in contents:
        assert store.get_blob(sha256(data).hexdigest()) == data
    for statements in (1, 3, 9):
        assert migrate_and_die(url, statements, migrations.downgrade)
    migrations.downgrade(engine)
    assert migrations.current(engine) is None
    assert set(inspect(engine).get_table_names()) <= {migrations.VERSION_TABLE}
