"""The SQL that is printed, run by the servers; users who may not change tables."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, inspect, make_url, text

from prefect_lume import migrations
from prefect_lume.cli._main import cli
from prefect_lume.cli.db._databases import URL_VARIABLE
from prefect_lume.errors import PermissionDeniedError
from prefect_lume.registry import ModelDBService
from prefect_lume.storage.sql import get_engine

ROOT = Path(__file__).parents[2]
MYSQL = pytest.param("mysql", marks=pytest.mark.service("mysql"))
MARIADB = pytest.param("mariadb", marks=pytest.mark.service("mariadb"))
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.service("postgresql"))


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lume.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = get_engine(url)
    yield engine
    engine.dispose()


def run(*arguments: str, url: str | None = None) -> Result:
    """Run a command line as a person would, with a URL in the environment."""
    environment = {} if url is None else {URL_VARIABLE: url}
    return CliRunner().invoke(cli, ["db", *arguments], env=environment)


def dialect_of(engine: Engine) -> str:
    with engine.connect():
        pass  # Only a connection tells MariaDB from MySQL.
    is_mariadb = getattr(engine.dialect, "is_mariadb", False)
    return "mariadb" if is_mariadb else engine.dialect.name


def run_script(url: str, script: str) -> None:
    """Hand a whole script to the server, as its own client would, in one piece."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database))) as connection:
            connection.executescript(script)
        return
    arguments: dict[str, Any] = parsed.translate_connect_args(database="dbname")
    if parsed.get_backend_name() == "postgresql":
        import psycopg

        arguments["user"] = arguments.pop("username")
        with psycopg.connect(**arguments, autocommit=True) as server:
            server.execute(script.encode())
        return
    import pymysql
    from pymysql.constants import CLIENT

    with (
        pymysql.connect(
            host=parsed.host,
            port=parsed.port or 3306,
            user=parsed.username,
            password=str(parsed.password or "").encode(),
            database=parsed.database,
            client_flag=CLIENT.MULTI_STATEMENTS,
        ) as session,
        session.cursor() as cursor,
    ):
        cursor.execute(script)
        while cursor.nextset():
            pass
        session.commit()


@pytest.mark.parametrize("url", ["sqlite", MYSQL, MARIADB, POSTGRESQL], indirect=True)
def test_printed_schema_makes_a_ready_database(engine: Engine, url: str) -> None:
    """The server makes of `db schema` what an upgrade makes, with its revision."""
    printed = run("schema", "--dialect", dialect_of(engine))
    assert printed.exit_code == 0
    run_script(url, printed.output)
    migrations.ensure(engine)
    assert migrations.check(engine) == []
    checked = run("check", url=url)
    assert (checked.exit_code, checked.output.count("\n")) == (0, 1)
    registry = ModelDBService(engine, migrate=migrations.upgrade)
    registry.apply_schema()
    registry.store_project("it's 🚀")
    assert [item.project_name for item in registry.get_projects()] == ["it's 🚀"]
    migrations.downgrade(engine)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == []


@pytest.mark.parametrize("url", [MYSQL], indirect=True)
def test_what_docker_compose_runs_makes_a_ready_database(
    engine: Engine, url: str
) -> None:
    """The committed SQL, as the MySQL server of docker-compose.yml runs it."""
    run_script(url, (ROOT / "docker/registry.sql").read_text("utf-8"))
    migrations.ensure(engine)
    assert migrations.check(engine) == []


@pytest.mark.parametrize("url", ["sqlite", MARIADB, POSTGRESQL], indirect=True)
def test_dry_run_shows_what_an_upgrade_does_and_does_nothing(
    engine: Engine, url: str
) -> None:
    """The SQL of a dry run leads to the next revision when it is run by hand."""
    migrations.upgrade(engine, "0003")
    planned = run("upgrade", "--dry-run", url=url)
    assert planned.exit_code == 0
    assert "0003 → " in planned.output
    assert migrations.current(engine) == "0003"
    run_script(url, planned.output)
    assert migrations.check(engine) == []
    back = run("downgrade", "--to", "0003", "--dry-run", url=url)
    assert migrations.current(engine) == migrations.head()
    run_script(url, back.output)
    assert migrations.current(engine) == "0003"
    assert "registry_event" not in inspect(engine).get_table_names()


@contextmanager
def reader(engine: Engine) -> Iterator[str]:
    """The URL of a user who may read the database, and nothing else."""
    name, password = f"lume_{secrets.token_hex(6)}", secrets.token_hex(12)
    database = engine.url.database
    if engine.dialect.name == "postgresql":
        made = [
            f"CREATE ROLE {name} LOGIN PASSWORD '{password}'",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
        ]
        removed = [
            f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {name}",
            f"DROP ROLE {name}",
        ]
    else:
        made = [
            f"CREATE USER '{name}'@'%' IDENTIFIED BY '{password}'",
            f"GRANT SELECT ON `{database}`.* TO '{name}'@'%'",
        ]
        removed = [f"DROP USER '{name}'@'%'"]
    execute(engine, *made)
    try:
        url = engine.url.set(username=name, password=password)
        yield url.render_as_string(hide_password=False)
    finally:
        execute(engine, *removed)


def execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.mark.parametrize("url", [MYSQL, MARIADB, POSTGRESQL], indirect=True)
def test_missing_privileges_are_named(engine: Engine, url: str) -> None:
    """A user who may only read sees the revision; changing it says what it needs."""
    migrations.upgrade(engine, "0003")
    with reader(engine) as theirs:
        password = str(make_url(theirs).password)
        looked = run("current", url=theirs)
        assert (looked.exit_code, "0003 (needs" in looked.output) == (0, True)
        for command in (["upgrade"], ["downgrade", "--to", "0002", "--yes"]):
            refused = run(*command, url=theirs)
            assert refused.exit_code == 1
            assert "To change tables, the user needs" in refused.stderr
            assert "CREATE" in refused.stderr
            assert password not in refused.output
        other = get_engine(theirs)
        with pytest.raises(PermissionDeniedError, match="the user needs") as caught:
            migrations.upgrade(other)
        other.dispose()
        assert password not in str(caught.value)
        assert str(engine.url.database) in caught.value.where
    assert migrations.current(engine) == "0003"


@pytest.mark.parametrize("url", [MYSQL, MARIADB, POSTGRESQL], indirect=True)
def test_drift_is_a_line_and_a_status(engine: Engine, url: str) -> None:
    """A column that was added by hand is told in one line, and fails a script."""
    migrations.upgrade(engine)
    execute(engine, "ALTER TABLE deployment ADD COLUMN extra INTEGER")
    outcome = run("check", url=url)
    assert outcome.exit_code == 1
    (line,) = outcome.output.splitlines()
    assert "Column 'extra' of table 'deployment' is in the database but not" in line
    assert "***" not in line
    assert str(make_url(url).password) not in line
