"""What every service has in common: one life cycle, filled in by each server."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from _services import process
from _services.cache import Cache, Record, ServiceError
from _services.debian import CLEAN_ENV, Apt, Host, Sid

USER = "lume"
PASSWORD = "p@ss/w:rd%#+&?="  # Awkward in a URL on purpose.
UNICODE_USER = "lume_utf8"
UNICODE_PASSWORD = "p@ss/w:rd%#é✓"
"""A second login for tests of passwords beyond ASCII. It is not the main one because
PyMySQL, given text, sends it as Latin-1, and so needs care from its caller."""


def login(user: str = USER, password: str = PASSWORD) -> str:
    """Return `user:password` as it stands in a URL."""
    return f"{quote(user, safe='')}:{quote(password, safe='')}"


@dataclass(frozen=True)
class Machine:
    """What services are built with."""

    cache: Cache
    host: Host
    sid: Sid
    apt: Apt
    python: str
    say: Callable[[str, str], None]
    """Prints one progress line: service, message."""


class Service(ABC):
    """A server that can be prepared, started, checked and stopped."""

    name: str
    variable: str | None = None
    """The environment variable that carries its URL, if tests use it directly."""
    needs: tuple[str, ...] = ()
    patience: float = 60.0
    """Seconds from the start of the process to its first answer."""
    stop_signal = signal.SIGTERM

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.cache = machine.cache
        self.log = machine.cache.log(self.name)

    def fetch(self) -> None:  # noqa: B027  # Most need nothing here.
        """Get what takes long and needs no other service; quick when done."""

    @abstractmethod
    def prepare(self) -> None:
        """Install what is missing and make the data folder; quick when done."""

    @abstractmethod
    def command(self, port: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the command line and the environment of the server."""

    @abstractmethod
    def answers(self, port: int) -> bool:
        """Say whether the server does its work: a login and a query."""

    @abstractmethod
    def url(self, port: int) -> str:
        """Return what tests connect to."""

    def make_ready(self, port: int) -> None:  # noqa: B027  # Most need nothing here.
        """Do what can only be done in the running server (users, extensions)."""

    def facts(self) -> dict[str, str]:
        """Return what must be unchanged for a running server to be kept."""
        return {}

    def record(self) -> Record | None:
        """Return the record of the process, if it is running."""
        entry = self.cache.records().get(self.name)
        return entry if process.alive(entry) else None

    def healthy(self) -> bool:
        """Say whether the server runs and answers."""
        entry = self.record()
        return entry is not None and self.answers(entry.port)

    def start(self) -> str:
        """Make the server run and answer; return one line about what was done."""
        begun = time.monotonic()
        old = self.cache.records().get(self.name)
        if old and self.healthy() and old.facts | self.facts() == old.facts:
            return f"already running on port {old.port}"
        if old:
            self.stop()
        self.prepare()
        # After a crash the same port again: those who hold its URL can go on.
        port = self._launch(process.free_port(old.port if old else None))
        self.make_ready(port)
        if not self.answers(port):
            message = f"{self.name} runs but refuses its own test login"
            raise ServiceError(message, self.log)
        return f"started in {time.monotonic() - begun:.1f} s on port {port}"

    def stop(self) -> bool:
        """Stop the server if this script started it; return whether it ran."""
        entry = self.cache.records().get(self.name)
        if entry is None:
            return False
        was_running = process.alive(entry)
        process.stop(entry, self.stop_signal)
        self.cache.record(self.name, None)
        return was_running

    def listening(self, port: int) -> bool:
        """Say whether the server accepts connections (before its users exist)."""
        return self.answers(port)

    def _wait_until_listening(self, entry: Record) -> bool:
        def decided() -> bool:
            return not process.alive(entry) or self.listening(entry.port)

        return process.wait_for(decided, self.patience) and process.alive(entry)

    def _launch(self, port: int) -> int:
        for attempt in (1, 2, 3):
            command, env = self.command(port)
            entry = process.spawn(command, port=port, log=self.log, env=env)
            entry.facts.update(self.facts())
            self.cache.record(self.name, entry)
            if self._wait_until_listening(entry):
                return port
            died = not process.alive(entry)
            self.stop()
            if not died:
                message = f"{self.name} did not answer within {self.patience:.0f} s"
                raise ServiceError(message, self.log)
            # What a killed server left behind may hold its data or port for a moment;
            # if that is not it, somebody else has taken the port.
            time.sleep(1.0)
            port = port if attempt == 1 else process.free_port()
        message = f"{self.name} ended right after its start"
        raise ServiceError(message, self.log)


class Database(Service):
    """A server with a data folder, run by an unprivileged user."""

    user: str
    host: Host

    @property
    def home(self) -> Path:
        """The folder that the server sees as /srv."""
        return self.cache.folder("data") / self.data_name()

    @abstractmethod
    def data_name(self) -> str:
        """Return the name of the data folder, with the version of its format."""

    @abstractmethod
    def initialise(self) -> Sequence[str]:
        """Return the command that makes the data folder `/srv/data`."""

    def inside(self, *command: str, home: Path | None = None) -> list[str]:
        """Return a command run as the server's user with its folder at /srv."""
        return self.host.inside(command, data=home or self.home, user=self.user)

    def make_data(self) -> None:
        """Make the data folder unless it exists; never leaves half of one."""
        if not self.home.exists():
            part = self.home.with_name(self.home.name + ".part")
            process.run(["rm", "-rf", str(part)], self.log)
            for name in ("run", "tmp"):
                (part / name).mkdir(parents=True)
            self.host.own(part, self.user)
            process.run(
                self.inside(*self.initialise(), home=part),
                self.log,
                env=CLEAN_ENV,
                what=f"making the data folder of {self.name}",
            )
            part.rename(self.home)
        self.host.own(self.home, self.user)
        self._claim_data()
        # The process id in a lock file may be another process's by now, which would
        # stop the start.
        for leftover in (self.home / "run").iterdir():
            leftover.unlink()

    def _claim_data(self) -> None:
        # The children of a server that was killed need a moment to notice.
        data = self.home / "data"
        if not process.wait_for(lambda: not process.working_in(data), 10.0):
            pids = " ".join(map(str, process.working_in(data)))
            message = (
                f"{self.cache.state_file} does not know them, but these processes use"
                f" {data}: end them first (kill {pids})"
            )
            raise ServiceError(message)
