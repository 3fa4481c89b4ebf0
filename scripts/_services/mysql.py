"""MariaDB of the host and MySQL of Debian sid."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence

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
from _services.process import succeeds

_LOGINS = {USER: PASSWORD, UNICODE_USER: UNICODE_PASSWORD}


class _MySQLFamily(Database):
    user = "mysql"
    client: str
    server: str
    extra: tuple[str, ...] = ()

    def set_up_users(self) -> None:
        """Write the statements that the server runs at each start."""
        lines = []
        for user, password in _LOGINS.items():
            lines += [
                f"CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}';",
                f"ALTER USER '{user}'@'%' IDENTIFIED BY '{password}';",
                f"GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%' WITH GRANT OPTION;",
            ]
        # Its password is empty after --initialize-insecure.
        lines.append("ALTER USER 'root'@'localhost' ACCOUNT LOCK;")
        script = self.home / "users.sql"
        script.write_text("\n".join(lines) + "\n", "utf-8")
        script.chmod(0o644)

    def command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return mysqld with everything said on its command line."""
        return self.inside(
            self.server,
            "--no-defaults",
            "--datadir=/srv/data",
            "--tmpdir=/srv/tmp",
            "--socket=/srv/run/server.sock",
            "--pid-file=/srv/run/server.pid",
            "--init-file=/srv/users.sql",
            "--bind-address=127.0.0.1",
            f"--port={port}",
            "--character-set-server=utf8mb4",
            "--skip-log-bin",
            # Committed data survive a kill -9 of the server, not a power cut.
            "--innodb-flush-log-at-trx-commit=2",
            "--performance-schema=OFF",
            *self.extra,
        ), CLEAN_ENV

    def answers(self, port: int) -> bool:
        """Log in with both users over TCP."""
        return all(
            succeeds(
                self.inside(
                    self.client,
                    "--no-defaults",
                    "--host=127.0.0.1",
                    f"--port={port}",
                    f"--user={user}",
                    "--execute=SELECT 1",
                ),
                env={**CLEAN_ENV, "MYSQL_PWD": password},
            )
            for user, password in _LOGINS.items()
        )

    def url(self, port: int) -> str:
        """Return a SQLAlchemy URL without a database."""
        return f"mysql+pymysql://{login()}@127.0.0.1:{port}/"


class MariaDB(_MySQLFamily):
    """MariaDB as this Debian packages it."""

    name = "mariadb"
    variable = "LUME_TEST_MARIADB_URL"
    server = "/usr/sbin/mariadbd"
    client = "/usr/bin/mariadb"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.host = machine.host

    def prepare(self) -> None:
        """Install the package and make the data folder."""
        self.machine.apt.ensure("mariadbd", "mariadb-server")
        self.make_data()
        self.set_up_users()

    def data_name(self) -> str:
        """Return the folder's name with MariaDB's major version."""
        return f"mariadb-{_version([self.server, '--version'])}"

    def initialise(self) -> Sequence[str]:
        """Return mariadb-install-db."""
        return (
            "mariadb-install-db",
            "--no-defaults",
            "--datadir=/srv/data",
            "--tmpdir=/srv/tmp",
            "--skip-test-db",
        )


class MySQL(_MySQLFamily):
    """The real MySQL, with its own authentication (caching_sha2_password)."""

    name = "mysql"
    variable = "LUME_TEST_MYSQL_URL"
    server = "/usr/sbin/mysqld"
    client = "/usr/bin/mysql"
    extra = ("--mysqlx=OFF", "--secure-file-priv=NULL")

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.host = machine.sid

    def prepare(self) -> None:
        """Build sid and make the data folder."""
        if self.machine.sid.ensure():
            self.machine.say(self.name, "Debian sid was built")
        self.make_data()
        self.set_up_users()

    def data_name(self) -> str:
        """Return the folder's name with MySQL's version."""
        chroot = ["chroot", str(self.machine.sid.sid)]
        return f"mysql-{_version([*chroot, self.server, '--version'])}"

    def initialise(self) -> Sequence[str]:
        """Return mysqld --initialize-insecure."""
        return (
            self.server,
            "--no-defaults",
            "--initialize-insecure",
            "--datadir=/srv/data",
            "--tmpdir=/srv/tmp",
        )


def _version(command: Sequence[str]) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Ver (\d+\.\d+)", said)
    return found[1] if found else "unknown"
