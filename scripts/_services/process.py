"""Processes: spawn, recognise, stop; ports; commands whose output goes to a log."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from _services.cache import Record, ServiceError

_handed_out: set[int] = set()
_ports_guard = threading.Lock()


def free_port(wanted: int | None = None) -> int:
    """Return a free loopback port, `wanted` if that one is free or soon will be."""
    # The children of a server that was killed may hold its port for a moment.
    if wanted and wait_for(lambda: _probe(wanted) is not None, 5.0):
        return wanted
    with _ports_guard:
        for _ in range(100):
            port = _probe(0)
            if port is not None and port not in _handed_out:
                _handed_out.add(port)
                return port
    raise ServiceError("no free loopback port was found")


def _probe(port: int) -> int | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
        found: int = probe.getsockname()[1]
        return found


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])


def alive(record: Record | None) -> bool:
    """Say whether the very process that was recorded still runs."""
    return record is not None and start_time(record.pid) == record.started


def spawn(
    command: Sequence[str], *, port: int, log: Path, env: Mapping[str, str]
) -> Record:
    """Start a server in a session of its own and return its record."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env),
            cwd="/",
            start_new_session=True,
        )
    # Reap it if it dies while this script still runs.
    threading.Thread(target=process.wait, daemon=True).start()
    return Record(process.pid, start_time(process.pid) or 0, port, str(log))


def stop(record: Record, how: signal.Signals, patience: float = 30.0) -> None:
    """End a recorded process: ask, wait, then kill it and what it left behind."""
    if alive(record):
        os.kill(record.pid, how)
        if not wait_for(lambda: not alive(record), patience):
            os.kill(record.pid, signal.SIGKILL)
            wait_for(lambda: not alive(record), 10.0)
    leftovers = [pid for pid in _session_members(record.pid) if start_time(pid)]
    for pid in leftovers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _session_members(session: int) -> list[int]:
    # `spawn` made the server a session leader; the kernel gives no process the
    # id of a session that still has members.
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if os.getsid(int(entry.name)) == session:
                members.append(int(entry.name))
    return members


def working_in(folder: Path) -> list[int]:
    """Return the processes whose working directory is this folder."""
    wanted = folder.stat()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.path.samestat((entry / "cwd").stat(), wanted):
                    found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition; return whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def run(
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = 1200.0,
    what: str = "",
) -> None:
    """Run a command to its end, output into the log; ServiceError if it fails."""
    name = what or Path(command[0]).name
    with log.open("ab") as output:
        try:
            subprocess.run(
                command,
                stdout=output,
                stderr=output,
                env=None if env is None else dict(env),
                timeout=timeout,
                check=True,
                **(
                    {"stdin": subprocess.DEVNULL}
                    if stdin is None
                    else {"input": stdin.encode()}
                ),
            )
        except FileNotFoundError:
            message = f"{command[0]} is not installed"
            raise ServiceError(message) from None
        except subprocess.TimeoutExpired:
            message = f"{name} did not end within {timeout:.0f} s"
            raise ServiceError(message, log) from None
        except subprocess.CalledProcessError as failure:
            message = f"{name} failed (exit status {failure.returncode})"
            raise ServiceError(message, log) from None


def succeeds(command: Sequence[str], env: Mapping[str, str] | None = None) -> bool:
    """Say whether a short command (a login, a ping) ends well."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=None if env is None else dict(env),
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def last_lines(log: Path, count: int = 25) -> str:
    """Return the end of a log file."""
    try:
        text = log.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-count:])
