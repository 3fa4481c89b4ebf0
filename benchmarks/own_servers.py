"""Database servers of one's own, to be killed: started, killed and restarted by name.

They use the recipes of ``scripts/services`` and the programs that it has fetched, with
data folders and ports of their own: servers that run for the tests are not touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import NullPool, create_engine, make_url

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from _services import process
from _services.base import Database, Machine, Service
from _services.cache import Cache, default_root
from _services.debian import Apt, Host, Sid
from _services.mongodb import MongoDB
from _services.mysql import MariaDB, MySQL
from _services.postgres import DocumentDB, PostgreSQL

DATABASE = "survival"

#: Name → the servers it is made of, and which of them is killed.
SERVERS: dict[str, tuple[tuple[type[Service], ...], type[Service]]] = {
    "postgresql": ((PostgreSQL,), PostgreSQL),
    "mariadb": ((MariaDB,), MariaDB),
    "mysql": ((MySQL,), MySQL),
    "mongodb": ((DocumentDB, MongoDB), DocumentDB),
    "ferretdb": ((DocumentDB, MongoDB), MongoDB),
}


class OwnServer:
    """A server that nobody else uses."""

    def __init__(self, name: str, folder: Path) -> None:
        kinds, victim = SERVERS[name]
        machine = _machine(folder)
        self.parts = [kind(machine) for kind in kinds]
        (self._victim,) = (p for p in self.parts if type(p) is victim)

    def start(self) -> None:
        """Start it with an empty database."""
        for part in self.parts:
            part.fetch()
            part.start()
        if not isinstance(self.parts[-1], MongoDB):
            server = create_engine(
                self._url(), poolclass=NullPool, isolation_level="AUTOCOMMIT"
            )
            with server.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {DATABASE}")

    @property
    def url(self) -> str:
        """The URL of the database."""
        url = self._url()
        if url.startswith("mongodb"):
            return url.replace("/?", f"/{DATABASE}?")
        return (
            make_url(url).set(database=DATABASE).render_as_string(hide_password=False)
        )

    def _url(self) -> str:
        entry = self.parts[-1].record()
        if entry is None:
            raise RuntimeError(f"{self.parts[-1].name} does not run")
        return self.parts[-1].url(entry.port)

    def kill(self) -> None:
        """End the server as a power cut would: its processes get SIGKILL."""
        entry = self._victim.record()
        if entry is None:
            raise RuntimeError(f"{self._victim.name} does not run")
        os.kill(entry.pid, signal.SIGKILL)
        if isinstance(self._victim, Database):
            # PostgreSQL's workers, which would otherwise finish what they do.
            for pid in process.working_in(self._victim.home / "data"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start it again on the same port; what depends on it goes on by itself."""
        self._victim.start()

    def stop(self) -> None:
        """Stop it."""
        for part in reversed(self.parts):
            part.stop()


def available(name: str) -> str:
    """Return why a server cannot be started here, or an empty text."""
    if os.geteuid():
        return "starting servers needs a superuser"
    shared, (kinds, _) = _shared(), SERVERS[name]
    needed = {
        PostgreSQL: any(Path("/usr/lib/postgresql").glob("*/bin/postgres")),
        MariaDB: Path("/usr/sbin/mariadbd").is_file(),
        MySQL: (shared / "sid").is_dir(),
        DocumentDB: (shared / "sid").is_dir(),
        MongoDB: any((shared / "bin").glob("ferretdb-*")),
    }
    lacking = [kind.__name__ for kind in kinds if not needed[kind]]
    hint = "run scripts/services start first"
    return f"{' and '.join(lacking)} is not installed: {hint}" if lacking else ""


@contextmanager
def own_server(name: str) -> Iterator[OwnServer]:
    """Yield a running server; it is stopped, and its data removed, at the end."""
    folder = Path(tempfile.mkdtemp(prefix="lume-own-servers-"))
    server = OwnServer(name, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _shared() -> Path:
    state = os.environ.get("LUME_TEST_SERVICES_STATE")
    return Path(state).parent if state else default_root()


def _machine(folder: Path) -> Machine:
    # Only the programs are shared; they are not written to.
    for name in ("sid", "bin"):
        if (_shared() / name).is_dir():
            (folder / name).symlink_to(_shared() / name)
    cache = Cache(folder)
    apt = Apt(cache)
    return Machine(
        cache, Host(cache), Sid(cache, apt), apt, sys.executable, lambda *_: None
    )
