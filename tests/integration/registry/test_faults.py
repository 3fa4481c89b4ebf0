"""Sessions, servers and disks that fail: each call happens once, or not at all."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, exc, select

from prefect_lume import migrations
from prefect_lume.errors import StorageError
from prefect_lume.registry import ModelDBService
from prefect_lume.registry.tables import MODELS, PROJECTS
from prefect_lume.storage.repeat import is_transient
from prefect_lume.storage.sql import get_engine

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "registry_survival.py"
SERVERS = [
    pytest.param(name, marks=pytest.mark.service(name))
    for name in ("mysql", "mariadb", "postgresql")
]


@pytest.mark.parametrize("name", ["sqlite", *SERVERS])
def test_server_killed_in_the_middle(name: str) -> None:
    """Four processes promote while their server is killed: all goes on, none is lost.

    What returned is in the history once, what raised is not. The server is one of its
    own; of SQLite, which has none, a writer is killed.
    """
    if name != "sqlite" and os.geteuid():
        pytest.skip("Starting a server to be killed needs a superuser.")
    command = [sys.executable, str(BENCHMARK), name, "--processes=4"]
    done = subprocess.run(
        [*command, "--promotions=25", "--kills=1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kills" in done.stdout
    assert done.stdout.endswith(": complete\n")


def session_of(engine: Engine, cursor: Any) -> int:
    """Return the number by which the server knows the session of a cursor."""
    on_postgresql = engine.dialect.name == "postgresql"
    ask = "pg_backend_pid()" if on_postgresql else "CONNECTION_ID()"
    cursor.execute(f"SELECT {ask}")
    return int(cursor.fetchone()[0])


def end_session(killer: Engine, number: int) -> None:
    """End a session, and wait until it has ended."""
    with killer.connect() as connection:
        if killer.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_terminate_backend({number}, 30000)")
        else:
            connection.exec_driver_sql(f"KILL {number}")


class Killer:
    """Ends the session of a call before its n-th statement, once for each call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._killer = get_engine(engine.url, pool_logging_name="killer")
        self._left = 0
        self.kills = 0

    def __call__(
        self, connection: Connection, cursor: Any, statement: str, *_: Any
    ) -> None:
        self._left -= 1
        if self._left == 0:
            end_session(self._killer, session_of(self._engine, cursor))
            self.kills += 1

    def arm(self, statement: int) -> None:
        """Wait for that statement, from 1, of what is called next."""
        self._left = statement

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Watch the statements of the engine."""
        event.listen(self._engine, "before_cursor_execute", self)
        try:
            yield
        finally:
            event.remove(self._engine, "before_cursor_execute", self)
            self._killer.dispose()


def run_all(
    registry: ModelDBService,
    lab: Any,
    before: Callable[[], None],
    plain: ModelDBService,
) -> dict[str, list[str]]:
    """Make each changing call, and return the kinds of the events of each.

    Args:
        registry: What changes.
        lab: The lab.
        before: Is called before each call.
        plain: What looks at the history in between.
    """
    at = lab.fill(plain)
    found = {}
    for group in (lab.changes, lab.removals):
        for name, call in group(registry, at).items():
            since = len(plain.get_history())
            before()
            call()
            found[f"{group.__name__} {name}"] = lab.kinds(plain, since)
    return found


@pytest.fixture
def expected(lab: Any, tmp_path: Path) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The events and the state when nothing goes wrong."""
    plain = ModelDBService(get_engine(f"sqlite:///{tmp_path / 'expected.db'}"))
    plain.apply_schema()
    kinds = run_all(plain, lab, lambda: None, plain)
    state = lab.state(plain)
    plain.close()
    return kinds, state


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
def test_session_killed_before_any_statement(
    engine: Engine,
    lab: Any,
    emptied_database: Callable[[str, Callable[[Engine], None]], Engine],
    request: pytest.FixtureRequest,
    expected: tuple[dict[str, list[str]], dict[str, Any]],
) -> None:
    """Whichever statement of a call loses its session: it is done once, as a whole."""
    name = request.node.callspec.params["engine"]
    registry = ModelDBService(engine, actor="tester")
    plain = ModelDBService(get_engine(engine.url, pool_logging_name="plain"))
    rounds: list[int] = []
    while not rounds or rounds[-1]:
        emptied_database(name, migrations.upgrade)
        killer = Killer(engine)
        number = len(rounds) + 1
        with killer.at_work():
            kinds = run_all(registry, lab, lambda k=killer, n=number: k.arm(n), plain)
        assert kinds == expected[0], f"killed before statement {number}"
        assert lab.state(plain) == expected[1], f"killed before statement {number}"
        lab.check_ledger(plain, engine)
        rounds.append(killer.kills)
    # Each call has a lock, an event and a count, and some have many more.
    assert rounds[0] == len(expected[0])
    assert len(rounds) > 8
    plain.close()


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
def test_session_killed_under_a_question(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """A question that loses its session is asked again, and answered."""
    at = lab.fill(registry)
    killer = Killer(engine)
    with killer.at_work():
        for ask in (
            lambda: registry.get_live_deployment(at.model).deployment_id == at.live,
            lambda: len(registry.get_history()) > 10,
            lambda: registry.search_deployments("is_live").items[0].is_live,
        ):
            killer.arm(1)
            assert ask()
    assert killer.kills == 3


class Proxy:
    """Stands between a client and a server, and cuts the line at a COMMIT.

    Args:
        url: The server's.
        mode: When to cut: ``before`` the server gets it, ``during``, as soon as it was
            sent, or ``after`` the server has answered, which the client does not hear.
    """

    def __init__(self, url: Any, mode: str) -> None:
        self._server = url.host, url.port
        self._mode = mode
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._is_armed = False
        self.cuts = 0
        self.url = url.set(host="127.0.0.1", port=self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self) -> None:
        """Cut at the next COMMIT."""
        self._is_armed = True

    def close(self) -> None:
        """Take no more connections."""
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return  # It was closed.
            server = socket.create_connection(self._server)
            for target in (self._forth, self._back):
                threading.Thread(target=target, args=(client, server)).start()

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self._is_armed and b"COMMIT" in data:
                    self._is_armed = False
                    self.cuts += 1
                    if self._mode != "before":
                        server.sendall(data)
                    if self._mode == "after":
                        # The thread that waits for the answer throws it away.
                        client.shutdown(socket.SHUT_WR)
                        return
                    break
                server.sendall(data)
        self._cut(client, server)

    def _back(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)
        self._cut(client, server)

    def _cut(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.mark.parametrize("mode", ["before", "during", "after"])
@pytest.mark.parametrize("engine", SERVERS, indirect=True)
def test_line_cut_during_a_commit(
    engine: Engine,
    lab: Any,
    mode: str,
    expected: tuple[dict[str, list[str]], dict[str, Any]],
) -> None:
    """Whether a COMMIT whose answer is lost came through or not: it is done once."""
    proxy = Proxy(engine.url, mode)
    # Encrypted, a COMMIT could not be recognised.
    plainly = {} if engine.dialect.name == "postgresql" else {"ssl_disabled": True}
    registry = ModelDBService(get_engine(proxy.url, plainly), actor="tester")
    plain = ModelDBService(engine)
    kinds = run_all(registry, lab, proxy.arm, plain)
    assert kinds == expected[0]
    assert lab.state(plain) == expected[1]
    lab.check_ledger(plain, engine)
    assert proxy.cuts == len(kinds)
    registry.close()
    proxy.close()


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
def test_call_that_meets_a_deadlock_passes(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """A call that waits for one who waits for it passes, whoever has to give way."""
    at = lab.fill(registry)
    other = get_engine(engine.url, pool_logging_name="other")
    deadlocks: list[object] = []
    has_model = threading.Event()

    def note(context: Any) -> None:
        if is_transient(context.sqlalchemy_exception):
            deadlocks.append(context.statement)

    def watch(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM project" in statement:
            has_model.set()

    event.listen(engine, "handle_error", note)
    event.listen(engine, "before_cursor_execute", watch)
    caller = threading.Thread(
        target=lambda: registry.store_flow(
            flow_id="t", flow_name="track", project_name="test", deployment_id=at.first
        )
    )
    project = select(PROJECTS).where(PROJECTS.c.project_name == "test")
    model = select(MODELS).where(MODELS.c.model_id == at.model)
    try:
        with other.connect() as connection:
            connection.execute(project.with_for_update())
            caller.start()
            assert has_model.wait(60)
            try:
                connection.execute(model.with_for_update())
            except exc.DBAPIError as error:
                deadlocks += [error] * is_transient(error)
        caller.join(120)
    finally:
        event.remove(engine, "handle_error", note)
        event.remove(engine, "before_cursor_execute", watch)
        other.dispose()
    assert deadlocks
    flow = registry.get_flow(flow_id="t")
    assert flow.deployment is not None
    assert flow.deployment.deployment_id == at.first
    kinds = [item.kind for item in registry.get_history(flow_id="t")]
    assert kinds == ["flow.pointed", "flow.stored"]
    lab.check_ledger(registry, engine)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("No small disk: mounting one needs a superuser.")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_is_said_and_nothing_is_half_done(small_disk: Path, lab: Any) -> None:
    """On a full disk a call says so and did nothing; with room again all goes on."""
    engine = get_engine(f"sqlite:///{small_disk / 'registry.db'}")
    registry = ModelDBService(engine, migrate=migrations.upgrade)
    registry.apply_schema()
    at = lab.fill(registry)
    filler = small_disk / "filler"
    free = shutil.disk_usage(small_disk).free
    filler.write_bytes(bytes(free - (3 << 20)))
    stored: list[int] = []

    def fill() -> None:
        for n in range(1000):
            lock = f"{n}" * 20_000
            tags = {"n": str(n)}
            number = lab.add_deployment(
                registry, at.model, f"full {n}", lock=lock, tags=tags, aliases=["new"]
            )
            stored.append(number)

    with pytest.raises(StorageError, match="disk is full"):
        fill()
    assert len(stored) > 2
    for _ in range(3):
        with pytest.raises(StorageError, match="disk is full"):
            lab.add_deployment(registry, at.model, "large", lock="x" * 6_000_000)
        assert registry.get_deployments(version="large") == []
        assert registry.get_live_deployment(at.model).deployment_id == stored[-1]
        lab.check_ledger(registry, engine)
    filler.unlink()
    last = lab.add_deployment(registry, at.model, "large", lock="x" * 500_000)
    assert registry.get_live_deployment(at.model).deployment_id == last
    lab.check_ledger(registry, engine)
    registry.close()
