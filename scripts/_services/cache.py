"""The cache folder: where everything lies, the state file, the lock."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path


class ServiceError(Exception):
    """A service could not be prepared, started or stopped.

    Attributes:
        log: the log file whose last lines explain it, if there is one.
    """

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


@dataclass
class Record:
    """What is known about one started process; kept in `state.json`."""

    pid: int
    started: int
    """Start time of the process in clock ticks: with the pid, its identity."""
    port: int
    log: str
    facts: dict[str, str] = field(default_factory=dict)
    """What a service wants to remember (its data folder, its Python)."""


class Cache:
    """The folder that holds chroot, data, binaries, logs and state."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or default_root()).absolute()
        self._guard = threading.Lock()

    @property
    def state_file(self) -> Path:
        """The file that names every process this script started."""
        return self.root / "state.json"

    def folder(self, *parts: str) -> Path:
        """Return a subfolder, made if need be."""
        path = self.root.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def log(self, name: str) -> Path:
        """Return the log file of a service or of a preparation step."""
        return self.folder("logs") / f"{name}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the cache against every other `start` and `stop`."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        with (self.root / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("waiting for another scripts/services to finish ...", flush=True)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def records(self) -> dict[str, Record]:
        """Return what was started, by service name."""
        try:
            raw = json.loads(self.state_file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            message = f"{self.state_file} is damaged; remove it and start again"
            raise ServiceError(message) from None
        return {name: Record(**entry) for name, entry in raw["services"].items()}

    def record(self, name: str, entry: Record | None) -> None:
        """Write (or, with None, remove) one service's record; atomic."""
        with self._guard:
            entries = self.records()
            if entry is None:
                entries.pop(name, None)
            else:
                entries[name] = entry
            text = json.dumps(
                {"services": {key: asdict(value) for key, value in entries.items()}},
                indent=2,
            )
            part = self.state_file.with_suffix(".part")
            part.touch(mode=0o600)
            part.write_text(text + "\n", "utf-8")
            part.replace(self.state_file)


def default_root() -> Path:
    """Return the cache folder that the environment asks for."""
    if chosen := os.environ.get("LUME_SERVICES_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "prefect-lume-services"
