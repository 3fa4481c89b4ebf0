"""Fixtures for real servers, and the ledger of what was left out without them.

Every server is found by a URL in the environment (`scripts/services env` prints them;
tests/README.md tells the rest). A test that needs a server which is not there is
skipped, and the end of the run says so loudly. With `LUME_REQUIRE_SERVICES=1` a
missing server is an error, and any skipped test makes the run fail.
"""

from __future__ import annotations

import importlib.util
import os
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

VARIABLES = {
    "mysql": "LUME_TEST_MYSQL_URL",
    "mariadb": "LUME_TEST_MARIADB_URL",
    "postgresql": "LUME_TEST_POSTGRESQL_URL",
    "mongodb": "LUME_TEST_MONGODB_URL",
    "prefect": "LUME_TEST_PREFECT_API_URL",
}
"""Service name: the environment variable that holds its URL."""

FIXTURES = {
    "mysql_url": "mysql",
    "mariadb_url": "mariadb",
    "postgresql_url": "postgresql",
    "mongodb_url": "mongodb",
    "prefect_api_url": "prefect",
    "prefect_server": "prefect",
}
"""Fixture name: the service that it needs."""

_REQUIRE = "LUME_REQUIRE_SERVICES"
_MISSING = "lume-missing-service"


def services_required() -> bool:
    """Say whether the run must have every service (as in CI)."""
    return os.environ.get(_REQUIRE, "") not in ("", "0")


# --- the ledger -----------------------------------------------------------------


@dataclass(eq=False)
class Ledger:
    """What did not run in this session, and why."""

    missing: dict[str, set[str]] = field(default_factory=dict)
    """Service name: the ids of the tests that lacked it."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Test or module id: the reason for skipping it."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped or lacked a service."""
        for key, value in report.user_properties:
            if key == _MISSING:
                self.missing.setdefault(str(value), set()).add(report.nodeid)
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped[report.nodeid] = _reason(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that skipped itself as a whole."""
        if report.skipped:
            self.skipped[report.nodeid] = _reason(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Let the run fail if something was skipped that had to run."""
        good = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if services_required() and self.skipped and session.exitstatus in good:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Iterator[None]:
        """Say what was left out, and how to bring it in; after all else."""
        yield
        if self.missing:
            _tell_missing(terminalreporter, self.missing)
        if services_required() and self.skipped:
            terminalreporter.section("SKIPPED, BUT MUST RUN", sep="!", red=True)
            for nodeid, reason in sorted(self.skipped.items()):
                terminalreporter.line(f"{nodeid}: {reason}", red=True)
            terminalreporter.line(
                f"{_REQUIRE} is set: a run that skips any test has failed.", red=True
            )


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)


def _tell_missing(
    reporter: pytest.TerminalReporter, missing: dict[str, set[str]]
) -> None:
    left_out = _tests(len(set().union(*missing.values())))
    reporter.section(f"{left_out} NOT RUN: SERVICES ARE MISSING", sep="!", yellow=True)
    for name in sorted(missing):
        reporter.line(
            f"{name}: {_tests(len(missing[name]))} left out,"
            f" {VARIABLES[name]} is not set",
            yellow=True,
        )
    names = " ".join(sorted(missing))
    reporter.line("To run them, on a Debian machine as root:", yellow=True)
    reporter.line(f"    scripts/services start {names}", yellow=True)
    reporter.line('    eval "$(scripts/services env)"', yellow=True)
    reporter.line("Elsewhere use docker compose: see tests/README.md.", yellow=True)


def _tests(count: int) -> str:
    return f"{count} test" if count == 1 else f"{count} tests"


# --- hooks ----------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker and open the ledger."""
    config.addinivalue_line("markers", "service(name): needs a real server.")
    config.pluginmanager.register(Ledger(), "lume-service-ledger")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the services of its fixtures, so that `-m` finds it."""
    for item in items:
        used = {FIXTURES[n] for n in getattr(item, "fixturenames", ()) if n in FIXTURES}
        declared = set(_declared(item))
        for name in sorted(used - declared):
            item.add_marker(pytest.mark.service(name))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave a test out before any of its fixtures, if a service is missing."""
    lacking = [name for name in _declared(item) if not _url_of(name)]
    if lacking:
        _leave_out(item, *lacking)


def _declared(item: pytest.Item) -> list[str]:
    return [name for mark in item.iter_markers("service") for name in mark.args]


def _url_of(name: str) -> str:
    try:
        return os.environ.get(VARIABLES[name], "")
    except KeyError:
        known = ", ".join(VARIABLES)
        message = f"unknown service {name!r} in a mark; known are {known}"
        raise pytest.UsageError(message) from None


def _leave_out(node: pytest.Item, *names: str) -> NoReturn:
    node.user_properties += [(_MISSING, name) for name in names]
    unset = ", ".join(VARIABLES[name] for name in names)
    message = f"needs {' and '.join(names)}, but {unset} is not set"
    if services_required():
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _server(request: pytest.FixtureRequest, name: str) -> str:
    # Reached without a mark when a test asks by `request.getfixturevalue`.
    url = _url_of(name)
    if not url:
        _leave_out(request.node, name)
    return url


# --- fixtures -------------------------------------------------------------------


@pytest.fixture
def mysql_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh database on MySQL."""
    with _fresh_sql_database("mysql", _server(request, "mysql")) as url:
        yield url


@pytest.fixture
def mariadb_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh database on MariaDB."""
    with _fresh_sql_database("mariadb", _server(request, "mariadb")) as url:
        yield url


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh database on PostgreSQL."""
    with _fresh_sql_database("postgresql", _server(request, "postgresql")) as url:
        yield url


@pytest.fixture(scope="module")
def emptied_database(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str, Callable[[Engine], None]], Engine]]:
    """Gives the database that the tests of a file have in common on a server.

    Making a database and its tables takes longer than most tests do. Here both are
    made once, by the function that is given, and each call removes all rows. For
    tests that leave the tables as they are, and carry the mark of the server
    themselves. The name "sqlite" stands for a file.
    """
    from prefect_lume.storage.sql import get_engine

    with ExitStack() as stack:
        engines: dict[str, Engine] = {}

        def give(name: str, make_tables: Callable[[Engine], None]) -> Engine:
            if name in engines:
                _remove_rows(engines[name])
                return engines[name]
            if name == "sqlite":
                url = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'shared.db'}"
            else:
                made = _fresh_sql_database(name, _url_of(name))
                url = stack.enter_context(made)
            engines[name] = get_engine(url)
            stack.callback(engines[name].dispose)
            make_tables(engines[name])
            return engines[name]

        yield give


@pytest.fixture
def mongodb_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh database on a server that speaks MongoDB's protocol."""
    from pymongo import MongoClient

    name = _fresh_name()
    url = with_mongodb_database(_server(request, "mongodb"), name)
    with MongoClient(url, serverSelectionTimeoutMS=10_000) as client:
        with _explained("mongodb"):
            client.admin.command("ping")
        yield url
        client.drop_database(name)


@pytest.fixture(scope="session")
def own_server() -> Callable[[str], AbstractContextManager[Any]]:
    """Start, by name, a server that a test may kill or set otherwise.

    Used with ``with``; see ``benchmarks/own_servers.py``.
    """
    path = Path(__file__).parents[2] / "benchmarks" / "own_servers.py"
    spec = importlib.util.spec_from_file_location("lume_own_servers", path)
    assert spec is not None
    assert spec.loader is not None
    servers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(servers)

    def start(name: str) -> AbstractContextManager[Any]:
        why_not = servers.available(name)
        if why_not:
            pytest.skip(why_not)
        return cast("AbstractContextManager[Any]", servers.own_server(name))

    return start


@pytest.fixture
def prefect_api_url(request: pytest.FixtureRequest) -> str:
    """The URL of the API of a Prefect server on PostgreSQL; not yet in use."""
    url = _server(request, "prefect")
    with (
        _explained("prefect"),
        urllib.request.urlopen(f"{url}/ready", timeout=30),
    ):
        return url


@pytest.fixture
def prefect_server(prefect_api_url: str) -> Iterator[str]:
    """The same, in use: flows of this test run against that server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_api_url}):
        yield prefect_api_url


def with_mongodb_database(url: str, name: str) -> str:
    """Return the URL with another database, logging in where it did before."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.username is not None:
        query.setdefault("authSource", parts.path.strip("/") or "admin")
    return parts._replace(path=f"/{name}", query=urlencode(query)).geturl()


def _fresh_name() -> str:
    return f"lume_test_{uuid.uuid4().hex[:12]}"


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Add to a failure which variable led to the server that does not answer."""
    try:
        yield
    except Exception as problem:
        problem.add_note(
            f"{VARIABLES[name]} is set, but its server does not answer as it should;"
            " `scripts/services status` says which servers run."
        )
        raise


def _drop_mysql(connection: Connection, name: str) -> None:
    """End what a test left in a transaction, which would block it, and drop."""
    from sqlalchemy import exc

    # SHOW, since the table of the same name fails on other sessions' odd statements.
    for session in connection.exec_driver_sql("SHOW PROCESSLIST").mappings().all():
        if session["db"] == name:
            # It may have ended by itself meanwhile.
            with suppress(exc.DBAPIError):
                connection.exec_driver_sql(f"KILL {session['Id']:d}")
    connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")


def _drop_postgresql(connection: Connection, name: str) -> None:
    """Drop a database; its clean-up process may be in the way for a moment."""
    from sqlalchemy import exc

    statement = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    for _ in range(20):
        try:
            connection.exec_driver_sql(statement)
        except exc.DBAPIError:
            time.sleep(0.25)
        else:
            return
    connection.exec_driver_sql(statement)


@contextmanager
def _fresh_sql_database(service: str, text: str) -> Iterator[str]:
    from sqlalchemy import make_url

    server = make_url(text)
    name = _fresh_name()
    with _explained(service), _administration(server) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield server.set(database=name).render_as_string(hide_password=False)
    with _administration(server) as connection:
        if server.get_backend_name() == "postgresql":
            _drop_postgresql(connection, name)
            return
        _drop_mysql(connection, name)


def _remove_rows(engine: Engine) -> None:
    """Delete the rows of this package's tables, first those that refer to others."""
    from sqlalchemy import inspect

    from prefect_lume.pipelines.orm.tables import metadata as pipelines
    from prefect_lume.registry.tables import metadata as registry
    from prefect_lume.results.stores.sql.tables import metadata as results

    there = set(inspect(engine).get_table_names())
    with engine.begin() as connection:
        for metadata in (pipelines, registry, results):
            for table in reversed(metadata.sorted_tables):
                if table.name in there:
                    connection.execute(table.delete())


@contextmanager
def _administration(server: URL) -> Iterator[Connection]:
    from sqlalchemy import NullPool, create_engine

    arguments = {}
    if server.get_driver_name() == "pymysql" and server.password is not None:
        # PyMySQL would send text as Latin-1; the servers expect UTF-8.
        arguments["password"] = str(server.password).encode()
    engine = create_engine(
        server, poolclass=NullPool, connect_args=arguments, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        yield connection
