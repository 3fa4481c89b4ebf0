"""The database or the Prefect server goes away: all is recorded once it is back.

``LUME_RECORDER_FULL=1`` lets the database be away for a minute.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage


def _told(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


@pytest.mark.service("mariadb")
def test_what_passed_while_the_database_was_down_is_recorded(
    lab: Any,
    prefect_api_url: str,
    own_server: Callable[[str], AbstractContextManager[Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The database is killed while changes pass; once it is back, all are recorded."""
    since = lab.since()
    with own_server("mariadb") as server:
        storage = lab.new_storage(server.url)
        first, second, third = (lab.make_events(500) for _ in range(3))
        with lab.recording(prefect_api_url, storage, since=since) as service:
            lab.post(prefect_api_url, first)
            lab.wait_for(lambda: service.statistics.recorded > 100)
            server.kill()
            lab.post(prefect_api_url, second)
            lab.wait_for(lambda: _told(caplog, "pipelines cannot be used") > 0)
            time.sleep(60.0 if lab.is_full else 0.0)
            server.restart()
            lab.post(prefect_api_url, third)
            events = [*first, *second, *third]
            ids = lab.run_ids(events)
            lab.wait_for(lambda: lab.count(storage, ids) >= len(events))
            lab.wait_for(lambda: _told(caplog, "can be used again") > 0)
        lab.assert_complete(storage, prefect_api_url, events)
    # Once by each of its two threads, if both met with it.
    down = _told(caplog, "The storage of pipelines cannot be used")
    assert down in (1, 2)
    assert _told(caplog, "The storage of pipelines can be used again") <= down


def test_a_recorder_without_a_database_stops_when_it_is_told_to(
    lab: Any, prefect_api_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits for the database, but not longer than it is wanted."""
    url = f"mysql+pymysql://nobody:none@127.0.0.1:{_free_port()}/none"
    from prefect_lume.pipelines.orm import OrmPipelineResultsStorage

    storage = OrmPipelineResultsStorage(url=url)
    # The end of this fails the test if it does not stop.
    with lab.recording(prefect_api_url, storage, since=lab.since()):
        lab.wait_for(lambda: _told(caplog, "pipelines cannot be used") > 0)


@contextmanager
def _own_prefect(home: Path, port: int, patience: float) -> Iterator[str]:
    """Run a Prefect server of the test's own on SQLite."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", f"--port={port}"]
    url = f"http://127.0.0.1:{port}/api"
    with (home / "server.log").open("ab") as log:
        server = subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + patience
        while not _is_ready(url):
            assert time.monotonic() < deadline, (home / "server.log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.service("prefect")
def test_a_prefect_server_that_restarts_is_followed_further(
    lab: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is killed and started again: all that it has of events is recorded."""
    storage = MemoryPipelineResultsStorage()
    first, second = lab.make_events(600), lab.make_events(600)
    text = "The Prefect server cannot be used"
    port = _free_port()
    with ExitStack() as stack:
        with _own_prefect(tmp_path, port, lab.patience) as url:
            stack.enter_context(lab.recording(url, storage))
            lab.post(url, first)
            ids = lab.run_ids(first)
            lab.wait_for(lambda: lab.count(storage, ids) == len(first))
            # A server that is busy may not answer either.
            before = _told(caplog, text)
        lab.wait_for(lambda: _told(caplog, text) > before)
        with _own_prefect(tmp_path, port, lab.patience) as url:
            # Once by each of its two threads, however often it was tried.
            assert _told(caplog, text) - before in (1, 2)
            lab.post(url, second)
            ids = lab.run_ids(second)
            lab.wait_for(lambda: lab.count(storage, ids) == len(second))
            stack.close()
            lab.assert_complete(storage, url, [*first, *second])
