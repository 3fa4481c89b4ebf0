"""The command line: start, stop, status, env."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from _services.base import Machine, Service
from _services.cache import Cache, ServiceError, default_root
from _services.debian import Apt, Host, Sid, check_mounts
from _services.mongodb import MongoDB
from _services.mysql import MariaDB, MySQL
from _services.postgres import DocumentDB, PostgreSQL
from _services.prefect_server import PrefectServer
from _services.process import last_lines

_Command = Callable[[Machine, dict[str, Service], argparse.Namespace], int]

KINDS: tuple[type[Service], ...] = (
    DocumentDB,
    MySQL,
    MongoDB,
    PostgreSQL,
    MariaDB,
    PrefectServer,
)
"""In the order in which they are begun: what takes longest comes first."""

DESCRIPTION = """\
Bring up the real servers that prefect-lume's tests use, on a Debian machine, as root:
MariaDB, MySQL 9, PostgreSQL, MongoDB's wire protocol (FerretDB on DocumentDB) and a
Prefect server on PostgreSQL. Everything lies in one cache folder, so the first start
takes minutes and the next ones seconds. All listen on free ports of 127.0.0.1.

  scripts/services start          # all of them (or name some)
  eval "$(scripts/services env)"  # tell the tests where they are
  pytest
  scripts/services stop
"""
EPILOG = """\
cache folder (data, logs, state.json): $LUME_SERVICES_CACHE, else
${XDG_CACHE_HOME:-~/.cache}/prefect-lume-services. To begin anew: stop, then remove it.
On other machines use docker compose; tests/README.md says how.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    machine = _machine(options)
    services = {kind.name: kind(machine) for kind in KINDS}
    try:
        status: int = options.run(machine, services, options)
    except ServiceError as problem:
        _explain("scripts/services", problem)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/services",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    known = [kind.name for kind in KINDS]

    def command(name: str, run: _Command, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run, python=None)
        return sub

    start = command("start", _start, "start services (default: all servers)")
    start.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"{', '.join(known)}; chromium is installed on request only",
    )
    start.add_argument("--python", help="the Python whose Prefect is started")
    stop = command("stop", _stop, "stop services (default: all of them)")
    stop.add_argument("names", nargs="*", metavar="name")
    status = command("status", _status, "say what runs; exit status 1 if not all do")
    status.add_argument("--json", action="store_true", help="for programs")
    command("env", _env, "print the export lines that the tests read")
    return parser


def _machine(options: argparse.Namespace) -> Machine:
    cache = Cache(default_root())
    host, apt = Host(cache), Apt(cache)
    return Machine(cache, host, Sid(cache, apt), apt, _python(options.python), _say)


def _python(chosen: str | None) -> str:
    candidates = []
    if venv := os.environ.get("VIRTUAL_ENV"):
        candidates.append(f"{venv}/bin/python")
    candidates.append(str(Path(__file__).parents[2] / ".venv/bin/python"))
    if chosen:
        return chosen
    # Not resolved: a virtual environment's Python is a link.
    return next(filter(os.path.exists, candidates), sys.executable)


_begun = time.monotonic()
_printing = threading.Lock()


def _say(name: str, message: str) -> None:
    with _printing:
        print(f"[{time.monotonic() - _begun:6.1f} s] {name:<10} {message}", flush=True)


def _explain(name: str, problem: ServiceError) -> None:
    with _printing:
        print(f"{name}: FAILED: {problem}", file=sys.stderr)
        if problem.log:
            print(f"--- the end of {problem.log}", file=sys.stderr)
            print(last_lines(problem.log), file=sys.stderr)
            print("---", file=sys.stderr, flush=True)


def _with_needs(names: Sequence[str], services: dict[str, Service]) -> list[str]:
    wanted = set(names)
    for name in names:
        wanted.update(services[name].needs)
    return [name for name in services if name in wanted]


def _check_names(names: Sequence[str], known: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        message = f"unknown: {', '.join(unknown)}; known are {', '.join(known)}"
        raise ServiceError(message)


def _check_machine() -> None:
    if platform.system() != "Linux" or not Path("/etc/debian_version").exists():
        message = "this is not a Debian machine; use docker compose (tests/README.md)"
        raise ServiceError(message)
    if os.geteuid() != 0:
        message = (
            "this needs root: it installs packages and uses a chroot; without root use"
            " docker compose (tests/README.md)"
        )
        raise ServiceError(message)
    check_mounts()


def _start(
    machine: Machine, services: dict[str, Service], options: argparse.Namespace
) -> int:
    _check_machine()
    _check_names(options.names, [*services, "chromium"])
    names = options.names or list(services)
    chromium = "chromium" in names
    chosen = _with_needs([n for n in names if n in services], services)
    failed: list[str] = []
    with machine.cache.locked(), ThreadPoolExecutor(len(chosen) + 1) as pool:
        running: dict[str, Future[None]] = {}
        for name in chosen:
            before = [running[need] for need in services[name].needs]
            running[name] = pool.submit(_start_one, services[name], before)
        if chromium:
            running["chromium"] = pool.submit(_install_chromium, machine)
        for name, future in running.items():
            if problem := future.exception():
                if not isinstance(problem, ServiceError):
                    raise problem
                failed.append(name)
                _explain(name, problem)
    if failed:
        print(f"not running: {', '.join(failed)}", file=sys.stderr)
        return 1
    print('now: eval "$(scripts/services env)"')
    return 0


def _start_one(service: Service, before: Sequence[Future[None]]) -> None:
    service.fetch()
    for future in before:
        if future.exception():
            message = f"what it needs ({', '.join(service.needs)}) did not start"
            raise ServiceError(message)
    service.machine.say(service.name, service.start())


def _install_chromium(machine: Machine) -> None:
    machine.say("chromium", machine.apt.ensure("chromium", "chromium"))


def _stop(
    machine: Machine, services: dict[str, Service], options: argparse.Namespace
) -> int:
    _check_names(options.names, services)
    names = set(options.names or services)
    names.update(
        service.name for service in services.values() if names & set(service.needs)
    )
    if not machine.cache.state_file.exists():
        print("nothing was started")
        return 0
    with machine.cache.locked():
        # Those that need others first.
        for service in sorted(services.values(), key=lambda s: not s.needs):
            if service.name in names and service.stop():
                _say(service.name, "stopped")
    return 0


def _report(services: dict[str, Service]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for service in services.values():
        entry = service.record()
        state = "stopped"
        if entry:
            state = "running" if service.answers(entry.port) else "not answering"
        rows.append(
            {
                "name": service.name,
                "state": state,
                "pid": entry.pid if entry else None,
                "port": entry.port if entry else None,
                "variable": service.variable,
                "log": str(service.log),
            }
        )
    return rows


def _status(
    machine: Machine, services: dict[str, Service], options: argparse.Namespace
) -> int:
    rows = _report(services)
    if options.json:
        report = {"cache": str(machine.cache.root), "services": rows}
        print(json.dumps(report, indent=2))
    else:
        print(f"cache folder: {machine.cache.root}")
        for row in rows:
            where = f"pid {row['pid']}, port {row['port']}" if row["pid"] else ""
            print(f"{row['name']:<11} {row['state']:<14} {where}")
    return 0 if all(row["state"] == "running" for row in rows) else 1


def _env(
    machine: Machine, services: dict[str, Service], _options: argparse.Namespace
) -> int:
    for service in services.values():
        if service.variable is None:
            continue
        if entry := service.record():
            print(f"export {service.variable}={shlex.quote(service.url(entry.port))}")
        else:
            print(f"{service.name} is not running", file=sys.stderr)
    state = shlex.quote(str(machine.cache.state_file))
    print(f"export LUME_TEST_SERVICES_STATE={state}")
    return 0
