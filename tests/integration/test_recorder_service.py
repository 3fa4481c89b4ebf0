"""The recorder follows a real server: every state of every run, gaps filled."""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client

from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.lookups import post
from prefect_lume.recorder.service.recorder import RecorderService
from prefect_lume.recorder.translation.history import read_run

PATIENCE = 180.0


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        yield made


@task(retries=1, retry_delay_seconds=0)
def shaky(n: int, _seen: list[int] = []) -> int:  # noqa: B006 - it is to remember.
    if n not in _seen:
        _seen.append(n)
        raise ValueError("the first time it fails")
    return n


@task
def steady(n: int) -> int:
    return n


def run_flow(rest: float = 0.0) -> str:
    """Run a flow of its own name, which rests at its end; return the id of its run."""
    name = f"followed-{uuid4().hex[:8]}"

    @flow(name=name)
    def followed() -> list[int]:
        shaky(uuid4().int)
        results = steady.map([1, 2, 3]).result()
        time.sleep(rest)
        return results

    state = followed(return_state=True)
    assert state.is_completed()
    assert state.state_details.flow_run_id is not None
    return str(state.state_details.flow_run_id)


def make_service(client: Any, storage: Any, since: datetime) -> RecorderService:
    return RecorderService(
        client,
        storage,
        FlowRunDirectory(client),
        source="here",
        since=since,
        settle=2.0,
        reconcile_every=None,
    )


def step_until(service: RecorderService, done: Any) -> None:
    """Let the service run until something holds."""
    stop = threading.Event()
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(service.run, stop)
    )
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not done() and time.monotonic() < deadline:
        time.sleep(0.3)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert done()


def states_in_prefect(client: Any, run_id: str) -> set[str]:
    batch = read_run(client, FlowRunDirectory(client), run_id)
    return {change.id for change in batch.changes}


def states_in(storage: Any, run_id: str) -> set[str]:
    targets = [run_id]
    targets += [row.id for row in storage.find(Kind.TASK_RESULT, {"run_id": run_id})]
    return {c.id for found in storage.get_history(targets).values() for c in found}


def assert_same_states(client: Any, storage: Any, run_id: str) -> None:
    """Check that the API has what was recorded; it may take it in later."""
    deadline = time.monotonic() + PATIENCE
    recorded = states_in(storage, run_id)
    while states_in_prefect(client, run_id) != recorded:
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.5)


def is_done(storage: Any, run_id: str) -> bool:
    found = storage.find(Kind.EXECUTION, {"id": run_id})
    found += storage.find(Kind.TASK_RESULT, {"run_id": run_id})
    # The flow run and its four task runs: events of these may come after its own.
    return [row.status for row in found] == 5 * [PipelineTaskStatus.DONE]


def test_every_state_of_a_run_is_recorded(client: SyncPrefectClient) -> None:
    """Retries and mapped tasks included: what Prefect has, the storage has."""
    storage = MemoryPipelineResultsStorage()
    service = make_service(client, storage, datetime.now(UTC))
    run_id = run_flow()
    step_until(service, lambda: is_done(storage, run_id))
    assert_same_states(client, storage, run_id)
    assert len(storage.find(Kind.TASK_RESULT, {"run_id": run_id})) == 4
    names = {
        change.state_name
        for row in storage.find(Kind.TASK_RESULT, {"run_id": run_id})
        for change in storage.get_history([row.id])[row.id]
    }
    assert "Retrying" in names


def test_what_no_event_told_is_filled_when_the_run_has_ended(
    client: SyncPrefectClient,
) -> None:
    """Of a run of which only the end is seen, the API tells the rest."""
    # A recorder reads whole seconds: all but the end has to lie in an earlier one.
    run_id = run_flow(rest=1.5)
    end = client.read_flow_run(UUID(run_id)).end_time
    assert end is not None
    storage = MemoryPipelineResultsStorage()
    service = make_service(client, storage, end - timedelta(milliseconds=1))
    step_until(service, lambda: service.statistics.filled > 0)
    step_until(service, lambda: is_done(storage, run_id))
    assert_same_states(client, storage, run_id)


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.3)


def events_of(run_id: str) -> int:
    """Return how many events the server has of a flow run and its task runs."""
    now = datetime.now(UTC)
    span = {"since": (now - timedelta(hours=1)).isoformat(), "until": now.isoformat()}
    resource = [f"prefect.flow-run.{run_id}"]
    with get_client(sync_client=True) as client:
        kinds: list[Any] = [
            {"event": {"prefix": ["prefect.flow-run."]}, "resource": {"id": resource}},
            {"event": {"prefix": ["prefect.task-run."]}, "related": {"id": resource}},
        ]
        asked = [{"filter": {**kind, "occurred": span}, "limit": 0} for kind in kinds]
        return sum(post(client, "/events/filter", body)["total"] for body in asked)


def has_position(database: Path) -> bool:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        try:
            found = connection.execute("SELECT count(*) FROM recorder_position")
        except sqlite3.OperationalError:
            # It is being made.
            return False
        return bool(found.fetchone()[0])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect_lume.cli", "runs", "record", *arguments]


def environment(prefect_url: str, home: Path) -> dict[str, str]:
    return os.environ | {"PREFECT_API_URL": prefect_url, "PREFECT_LUME_HOME": str(home)}


def test_the_command_records_once(prefect_server: str, tmp_path: Path) -> None:
    """With --once it records what there is and ends; --json says how much."""
    since = datetime.now(UTC).isoformat()
    run_id = run_flow()
    # Sixteen of them, and Prefect keeps them a while before others can read them.
    wait_for(lambda: events_of(run_id) >= 16)
    done = subprocess.run(
        command("--once", "--json", "--since", since),
        env=environment(prefect_server, tmp_path),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert json.loads(done.stdout)["recorded"] >= 16
    from prefect_lume.pipelines.orm import OrmPipelineResultsStorage

    storage = OrmPipelineResultsStorage(url=f"sqlite:///{tmp_path / 'lume.db'}")
    assert is_done(storage, run_id)


def test_the_command_ends_cleanly_when_it_is_told_to(
    prefect_server: str, tmp_path: Path
) -> None:
    """SIGTERM: it finishes what it records, says how much, and returns 0."""
    process = subprocess.Popen(
        command("--since", "1s"),
        env=environment(prefect_server, tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    database = tmp_path / "lume.db"
    try:
        wait_for(lambda: database.exists() and has_position(database))
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0
    assert output.startswith("Recorded: ")


def test_without_a_server_there_is_nothing_to_follow(tmp_path: Path) -> None:
    """A temporary server is refused, with the way out."""
    env = environment("", tmp_path)
    del env["PREFECT_API_URL"]
    done = subprocess.run(
        command("--once"),
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "PREFECT_API_URL is not set" in done.stderr
