"""MongoDB's wire protocol: FerretDB on DocumentDB."""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from _services.base import Service, login
from _services.debian import CLEAN_ENV
from _services.process import run

VERSION = "v2.7.0"
MODULE = f"github.com/FerretDB/FerretDB/v2/cmd/ferretdb@{VERSION}"
# From this version on, go fetches by itself the newer toolchain a module asks for.
_OLDEST_GO = (1, 21)


class MongoDB(Service):
    """FerretDB, which speaks MongoDB's protocol with SCRAM."""

    name = "mongodb"
    variable = "LUME_TEST_MONGODB_URL"
    needs = ("documentdb",)

    @property
    def home(self) -> Path:
        """The folder that FerretDB sees as /srv."""
        return self.cache.folder("data") / "ferretdb"

    @property
    def binary(self) -> Path:
        """FerretDB as it was built."""
        return self.cache.folder("bin") / f"ferretdb-{VERSION}"

    def fetch(self) -> None:
        """Build FerretDB."""
        if not self.binary.is_file():
            self._build(self.binary)

    def prepare(self) -> None:
        """Hand FerretDB its own folder."""
        binary = self.binary
        self.home.mkdir(exist_ok=True)
        ours = self.home / "ferretdb"
        if not ours.is_file() or ours.stat().st_size != binary.stat().st_size:
            shutil.copyfile(binary, ours)
            ours.chmod(0o755)
        self.machine.host.own(self.home, "nobody")

    def command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return ferretdb, run as nobody."""
        command = (
            "/srv/ferretdb",
            f"--listen-addr=127.0.0.1:{port}",
            "--debug-addr=-",
            "--state-dir=/srv",
            "--telemetry=disable",
            "--log-level=WARN",
        )
        env = {
            **CLEAN_ENV,
            "DO_NOT_TRACK": "1",
            "FERRETDB_POSTGRESQL_URL": self._engine(),
        }
        return self.machine.host.inside(command, data=self.home, user="nobody"), env

    def facts(self) -> dict[str, str]:
        """Return where the engine is: another port asks for another start."""
        return {"engine": self._engine()}

    def answers(self, port: int) -> bool:
        """Send a `hello` and look for its `ok`."""
        try:
            return _hello(port)
        except OSError:
            return False

    def url(self, port: int) -> str:
        """Return a MongoDB URL without a database."""
        return f"mongodb://{login()}@127.0.0.1:{port}/?authSource=admin"

    def _engine(self) -> str:
        engine = self.cache.records().get("documentdb")
        return f"postgres://postgres@127.0.0.1:{engine.port if engine else 0}/postgres"

    def _build(self, binary: Path) -> None:
        log = self.cache.log("ferretdb-build")
        go = shutil.which("go")
        if go is None or _go_version(go) < _OLDEST_GO:
            found = "none" if go is None else ".".join(map(str, _go_version(go)))
            self.machine.say(
                self.name,
                f"needs Go {'.'.join(map(str, _OLDEST_GO))} or newer, this machine has"
                f" {found} (Debian's own may be too old): using the one of Debian sid",
            )
            built = self._build_in_sid(log)
        else:
            folder = self.cache.folder("bin", "part")
            env = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
            run([go, "install", MODULE], log, env=env, what=f"go install {MODULE}")
            built = folder / "ferretdb"
        built.replace(binary)

    def _build_in_sid(self, log: Path) -> Path:
        sid = self.machine.sid
        sid.ensure()
        sid.install("golang-go")
        passed = {k: v for k, v in os.environ.items() if k.startswith(("GO", "http"))}
        passed.pop("GOROOT", None)
        passed.pop("GOPATH", None)
        env = {
            **CLEAN_ENV,
            **passed,
            "GOBIN": "/srv",
            "GOFLAGS": "-modcacherw",
            "GOTOOLCHAIN": "auto",
            "CGO_ENABLED": "0",
        }
        run(
            sid.root_command(["go", "install", MODULE]),
            log,
            env=env,
            what=f"go install {MODULE} in sid",
        )
        return self.cache.folder("scratch") / "ferretdb"


def _go_version(go: str) -> tuple[int, ...]:
    said = subprocess.run(
        [go, "version"], capture_output=True, text=True, check=False, cwd="/"
    ).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else (0, 0)


def _hello(port: int) -> bool:
    # {hello: 1, $db: "admin"} in BSON, inside an OP_MSG (opcode 2013).
    body = b"\x10hello\0" + struct.pack("<i", 1)
    body += b"\x02$db\0" + struct.pack("<i", 6) + b"admin\0"
    document = struct.pack("<i", len(body) + 5) + body + b"\0"
    message = struct.pack("<I", 0) + b"\0" + document
    header = struct.pack("<iiii", 16 + len(message), 1, 0, 2013)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(header + message)
        answer = connection.recv(65536)
    if not answer:
        return False
    ok = answer.find(b"\x01ok\0")
    return ok > 0 and struct.unpack_from("<d", answer, ok + 4)[0] == 1.0
