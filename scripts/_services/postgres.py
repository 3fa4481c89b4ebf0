"""PostgreSQL of the host, and PostgreSQL 18 with DocumentDB of Debian sid."""

from __future__ import annotations

import signal
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

from _services.base import (
    PASSWORD,
    UNICODE_PASSWORD,
    UNICODE_USER,
    USER,
    Database,
    Machine,
    login,
)
from _services.debian import CLEAN_ENV
from _services.process import run, succeeds


class _Postgres(Database):
    user = "postgres"
    stop_signal = signal.SIGINT  # "Fast": does not wait for clients to leave.
    rights: str
    host_auth: str
    settings: tuple[str, ...] = ()

    @property
    @abstractmethod
    def bin(self) -> str:
        """The folder of PostgreSQL's programs, as this Debian sees it."""

    def initialise(self) -> Sequence[str]:
        """Return initdb."""
        return (
            f"{self.bin}/initdb",
            "--pgdata=/srv/data",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth-local=trust",
            f"--auth-host={self.host_auth}",
        )

    def make_data(self) -> None:
        """Make the data folder; drop the pid file of a server that is gone."""
        super().make_data()
        (self.home / "data/postmaster.pid").unlink(missing_ok=True)

    def command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return postgres with everything said on its command line."""
        options = (
            "listen_addresses=127.0.0.1",
            f"port={port}",
            "unix_socket_directories=/srv/run",
            "max_connections=200",
            *self.settings,
        )
        flags = [part for option in options for part in ("-c", option)]
        return self.inside(f"{self.bin}/postgres", "-D", "/srv/data", *flags), CLEAN_ENV

    def sql(self, port: int, *statements: str) -> None:
        """Run statements as the superuser, over the socket."""
        run(
            self.inside(
                f"{self.bin}/psql",
                "--no-psqlrc",
                "--quiet",
                "--host=/srv/run",
                f"--port={port}",
                "--username=postgres",
                "--dbname=postgres",
                "--set=ON_ERROR_STOP=1",
            ),
            self.log,
            env=CLEAN_ENV,
            stdin="".join(f"{statement};\n" for statement in statements),
            what=f"setting up {self.name}",
        )

    def listening(self, port: int) -> bool:
        """Ask pg_isready, over the socket."""
        ask = (f"{self.bin}/pg_isready", "--quiet", "--host=/srv/run")
        return succeeds(self.inside(*ask, f"--port={port}"), env=CLEAN_ENV)

    def make_ready(self, port: int) -> None:
        """Make the users."""
        for user, password in ((USER, PASSWORD), (UNICODE_USER, UNICODE_PASSWORD)):
            self.sql(
                port,
                f"SELECT 'CREATE ROLE {user}' WHERE NOT EXISTS"
                f" (SELECT FROM pg_roles WHERE rolname = '{user}') \\gexec\n",
                f"ALTER ROLE {user} LOGIN {self.rights} PASSWORD '{password}'",
            )

    def answers(self, port: int) -> bool:
        """Log in over TCP."""
        return succeeds(
            self.inside(
                f"{self.bin}/psql",
                "--no-psqlrc",
                "--host=127.0.0.1",
                f"--port={port}",
                f"--username={USER}",
                "--dbname=postgres",
                "--command=SELECT 1",
            ),
            env={**CLEAN_ENV, "PGPASSWORD": PASSWORD},
        )


class PostgreSQL(_Postgres):
    """PostgreSQL as this Debian packages it; the Prefect server uses it too."""

    name = "postgresql"
    variable = "LUME_TEST_POSTGRESQL_URL"
    rights = "CREATEDB CREATEROLE"
    host_auth = "scram-sha-256"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.host = machine.host

    @cached_property
    def bin(self) -> str:
        """The folder of the newest PostgreSQL of the host."""
        apt = self.machine.apt
        server = apt.ensure_folder("/usr/lib/postgresql/*/bin/postgres", "postgresql")
        return str(server.parent)

    def prepare(self) -> None:
        """Install the package and make the data folder."""
        self.make_data()

    def data_name(self) -> str:
        """Return the folder's name with PostgreSQL's major version."""
        return f"postgresql-{self.bin.split('/')[-2]}"

    def url(self, port: int) -> str:
        """Return a SQLAlchemy URL of the maintenance database."""
        return f"postgresql+psycopg://{login()}@127.0.0.1:{port}/postgres"


class DocumentDB(_Postgres):
    """PostgreSQL 18 with DocumentDB: the engine beneath FerretDB."""

    name = "documentdb"
    bin = "/usr/lib/postgresql/18/bin"
    rights = "SUPERUSER"
    # FerretDB, pg_cron and DocumentDB itself come in as postgres without a password;
    # FerretDB checks the users' passwords.
    host_auth = "trust"
    settings = (
        "shared_preload_libraries=pg_cron,pg_documentdb_core,pg_documentdb",
        "cron.database_name=postgres",
    )

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.host = machine.sid

    def prepare(self) -> None:
        """Build sid and make the data folder."""
        if self.machine.sid.ensure():
            self.machine.say(self.name, "Debian sid was built")
        self.make_data()

    def data_name(self) -> str:
        """Return the folder's name with PostgreSQL's major version."""
        return "documentdb-18"

    def make_ready(self, port: int) -> None:
        """Make the extension and the users."""
        self.sql(port, "CREATE EXTENSION IF NOT EXISTS documentdb CASCADE")
        super().make_ready(port)

    def url(self, port: int) -> str:
        """Return the URL that FerretDB uses."""
        return f"postgres://postgres@127.0.0.1:{port}/postgres"
