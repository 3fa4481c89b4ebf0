"""A Prefect server of its own on PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from functools import cached_property

from _services.base import Service, login
from _services.cache import ServiceError
from _services.postgres import PostgreSQL

_ASK_VERSION = "import importlib.metadata as m; print(m.version('prefect'))"


class PrefectServer(Service):
    """`prefect server start` of the Python that runs the tests."""

    name = "prefect"
    variable = "LUME_TEST_PREFECT_API_URL"
    needs = ("postgresql",)
    patience = 180.0  # The first start migrates an empty database.

    @cached_property
    def version(self) -> str:
        """The version of Prefect that this Python has."""
        python = self.machine.python
        asked = subprocess.run(
            [python, "-c", _ASK_VERSION], capture_output=True, text=True, check=False
        )
        if asked.returncode:
            message = (
                f"{python} has no Prefect; install prefect-lume into it first, or name"
                " another Python with --python"
            )
            raise ServiceError(message)
        return asked.stdout.strip()

    def prepare(self) -> None:
        """Make its database, one per version of Prefect: there is no way back."""
        port = self._database_port()
        name = self._database()
        PostgreSQL(self.machine).sql(
            port,
            f"SELECT 'CREATE DATABASE {name} OWNER lume' WHERE NOT EXISTS"
            f" (SELECT FROM pg_database WHERE datname = '{name}') \\gexec\n",
        )

    def command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the server with an environment that knows no other Prefect."""
        home = self.cache.folder("data", "prefect")
        database = f"{login()}@127.0.0.1:{self._database_port()}/{self._database()}"
        env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        env |= {
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_HOME": str(home),
            "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
            "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),
            "PREFECT_UI_API_URL": self.url(port),
            "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}",
        }
        server = ["-m", "prefect", "server", "start", "--host=127.0.0.1"]
        return [self.machine.python, *server, f"--port={port}"], env

    def facts(self) -> dict[str, str]:
        """Return version and database: a change of either asks for another start."""
        known = {"database": str(self._database_port())}
        # A Python without Prefect is no reason to stop a server that runs.
        with contextlib.suppress(ServiceError):
            known["prefect"] = self.version
        return known

    def answers(self, port: int) -> bool:
        """Ask whether the server and its database are ready."""
        try:
            with urllib.request.urlopen(f"{self.url(port)}/ready", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def url(self, port: int) -> str:
        """Return the URL of the API."""
        return f"http://127.0.0.1:{port}/api"

    def _database(self) -> str:
        return "prefect_" + "".join(c if c.isalnum() else "_" for c in self.version)

    def _database_port(self) -> int:
        server = self.cache.records().get("postgresql")
        return server.port if server else 0
