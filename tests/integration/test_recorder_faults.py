"""The recorder, its storage, its server and its flows are killed: nothing is lost.

``LUME_RECORDER_FULL=1`` runs at full size: 20,000 changes, 50 kills.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_lume import migrations
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.orm import OrmPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.service.events import Event, EventReader
from prefect_lume.recorder.service.reconciling import reconcile
from prefect_lume.recorder.service.recorder import RecorderService
from prefect_lume.recorder.translation.translating import Translator
from prefect_lume.storage import sql
from prefect_lume.testing.generated_events import generated_events

FULL = os.environ.get("LUME_RECORDER_FULL", "") not in ("", "0")
TASKS = 37
CHANGES_EACH = 3 + 3 * TASKS
PATIENCE = 120.0


def make_events(changes: int, per_second: float = 2000.0) -> list[Event]:
    """Return about so many events of runs that exist nowhere else."""
    seed = uuid4().int % 2**31
    runs = changes // CHANGES_EACH
    return list(generated_events(runs, TASKS, seed=seed, per_second=per_second))


def post(url: str, events: list[Event]) -> None:
    """Let a server have events, as clients do."""
    with httpx.Client(timeout=60) as client:
        for start in range(0, len(events), 250):
            client.post(f"{url}/events", json=events[start : start + 250])


def new_storage(url: str) -> OrmPipelineResultsStorage:
    engine = sql.get_engine(url)
    migrations.upgrade(engine)
    return OrmPipelineResultsStorage(engine)


def make_service(
    client: SyncPrefectClient, storage: PipelineStorage, source: str, **options: Any
) -> RecorderService:
    # The server has the events of these runs, and not the runs.
    options = {
        "poll": 0.2,
        "sweep_every": 2.0,
        "settle": 0.5,
        "reconcile_every": None,
    } | options
    directory = FlowRunDirectory(client)
    return RecorderService(client, storage, directory, source=source, **options)


@contextmanager
def recording(
    api: str, storage: PipelineStorage, source: str = "here", **options: Any
) -> Iterator[RecorderService]:
    """Run a recorder in a thread."""
    changed = {PREFECT_API_URL: api}
    with temporary_settings(changed), get_client(sync_client=True) as client:
        service = make_service(client, storage, source, **options)
        stop = threading.Event()
        thread = threading.Thread(target=service.run, args=(stop,))
        thread.start()
        try:
            yield service
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()


def wait_for(done: Callable[[], bool], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)


def run_ids(events: list[Event]) -> list[str]:
    """Return the ids of the flow runs of events."""
    prefix = "prefect.flow-run."
    resources = (event["resource"]["prefect.resource.id"] for event in events)
    return sorted({id_.removeprefix(prefix) for id_ in resources if prefix in id_})


def count(storage: PipelineStorage, ids: list[str]) -> int:
    return sum(storage.count_states(id_) for id_ in ids)


def content(
    storage: PipelineStorage, ids: list[str]
) -> tuple[dict[Kind, list[Row]], dict[str, list[StateChange]]]:
    """Return all rows of these runs, and every change of them."""
    rows: dict[Kind, list[Row]] = {Kind.EXECUTION: [], **{k: [] for k in Kind}}
    for start in range(0, len(ids), 100):
        some = ids[start : start + 100]
        rows[Kind.EXECUTION] += storage.find(Kind.EXECUTION, {"id": some})
        for kind in (Kind.RESULT, Kind.TASK_EXECUTION, Kind.TASK_RESULT):
            rows[kind] += storage.find(kind, {"run_id": some})
    for found in rows.values():
        found.sort(key=lambda row: row.id)
    targets = [row.id for found in rows.values() for row in found]
    history: dict[str, list[StateChange]] = {}
    for start in range(0, len(targets), 500):
        history |= storage.get_history(targets[start : start + 500])
    return rows, {id_: changes for id_, changes in history.items() if changes}


def reference(api: str, events: list[Event]) -> MemoryPipelineResultsStorage:
    """Return a storage that was given the events once and in order."""
    storage = MemoryPipelineResultsStorage()
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as c:
        storage.record(Translator(FlowRunDirectory(c)).translate(events))
    return storage


def assert_complete(storage: PipelineStorage, api: str, events: list[Event]) -> None:
    """Check that the storage has what it would have if nothing had happened."""
    ids = run_ids(events)
    assert count(storage, ids) == len(events)
    rows, history = content(storage, ids)
    expected_rows, expected_history = content(reference(api, events), ids)
    assert rows == expected_rows
    assert history == expected_history
    assert {row.status for row in rows[Kind.EXECUTION]} == {PipelineTaskStatus.DONE}


def _record_until_killed(api: str, url: str, since: datetime) -> None:
    changed = {PREFECT_API_URL: api}
    with temporary_settings(changed), get_client(sync_client=True) as client:
        storage = OrmPipelineResultsStorage(sql.get_engine(url))
        # Only the first one reads from there on; the others go on where it was.
        known = storage.get_position("here")
        since_then = None if known else since
        service = make_service(client, storage, "here", since=since_then, batch=200)
        service.run(threading.Event())


def test_a_recorder_killed_again_and_again_records_all_once(
    prefect_api_url: str, mariadb_url: str
) -> None:
    """Killed (-9) at random moments: nothing missing, nothing twice, the same rows."""
    changes, kills = (20_000, 50) if FULL else (2_000, 8)
    storage = new_storage(mariadb_url)
    since = datetime.now(UTC) - timedelta(seconds=5)
    events = make_events(changes)
    feeding = threading.Thread(target=post, args=(prefect_api_url, events))
    feeding.start()
    fork = multiprocessing.get_context("fork")
    moments = random.Random(5)
    arguments = (prefect_api_url, mariadb_url, since)
    for _ in range(kills):
        child = fork.Process(target=_record_until_killed, args=arguments)
        child.start()
        time.sleep(moments.uniform(0.05, 1.2))
        assert child.is_alive()
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    feeding.join()
    ids = run_ids(events)
    with recording(prefect_api_url, storage):
        wait_for(lambda: count(storage, ids) >= len(events))
    assert_complete(storage, prefect_api_url, events)


def test_two_recorders_one_of_them_in_disorder_make_the_same_rows(
    prefect_api_url: str, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that come shuffled and twice, beside a second recorder, do no harm."""
    storage = new_storage(mariadb_url)
    events = make_events(4_000 if FULL else 800)
    since = datetime.now(UTC) - timedelta(seconds=5)
    disorder = random.Random(7)

    class Disordered(EventReader):
        def _taken(self, response: httpx.Response) -> dict[str, Any]:
            answer = super()._taken(response)
            again = disorder.sample(answer["events"], len(answer["events"]) // 3)
            answer["events"] += again
            disorder.shuffle(answer["events"])
            return answer

    with recording(prefect_api_url, storage, "first", since=since):
        monkeypatch.setattr(
            "prefect_lume.recorder.service.recorder.EventReader", Disordered
        )
        with recording(prefect_api_url, storage, "second", since=since, batch=70):
            post(prefect_api_url, disorder.sample(events, len(events)))
            wait_for(lambda: count(storage, run_ids(events)) >= len(events))
            time.sleep(1.0)
    assert_complete(storage, prefect_api_url, events)


def _own_servers() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "own_servers.py"
    spec = importlib.util.spec_from_file_location("lume_own_servers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.service("mariadb")
def test_what_passed_while_the_database_was_down_is_recorded(
    prefect_api_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The database is killed while changes pass; once it is back, all are recorded."""
    servers = _own_servers()
    why_not = servers.available("mariadb")
    if why_not:
        pytest.skip(why_not)
    since = datetime.now(UTC) - timedelta(seconds=5)
    with servers.own_server("mariadb") as server:
        storage = new_storage(server.url)
        first, second, third = (make_events(500) for _ in range(3))
        with recording(prefect_api_url, storage, since=since) as service:
            post(prefect_api_url, first)
            wait_for(lambda: service.statistics.recorded > 100)
            server.kill()
            post(prefect_api_url, second)
            time.sleep(60.0 if FULL else 4.0)
            server.restart()
            post(prefect_api_url, third)
            events = [*first, *second, *third]
            ids = run_ids(events)
            wait_for(lambda: count(storage, ids) >= len(events))
        told = [record.message for record in caplog.records]
        assert sum("storage of pipelines cannot be used" in line for line in told) == 1
        assert sum("storage of pipelines can be used again" in li for li in told) == 1
        assert_complete(storage, prefect_api_url, events)


@contextmanager
def own_prefect(home: Path, port: int) -> Iterator[str]:
    """Run a Prefect server of the test's own on SQLite."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", f"--port={port}"]
    url = f"http://127.0.0.1:{port}/api"
    with (home / "server.log").open("ab") as log:
        server = subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: _is_ready(url))
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
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.service("prefect")
def test_a_prefect_server_that_restarts_is_followed_further(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is killed and started again: all that it has of events is recorded."""
    storage = MemoryPipelineResultsStorage()
    first, second = make_events(600), make_events(600)
    port = _free_port()
    with ExitStack() as stack:
        with own_prefect(tmp_path, port) as url:
            stack.enter_context(recording(url, storage))
            post(url, first)
            ids = run_ids(first)
            wait_for(lambda: count(storage, ids) == len(first))
        time.sleep(1.0)
        with own_prefect(tmp_path, port) as url:
            post(url, second)
            ids = run_ids(second)
            wait_for(lambda: count(storage, ids) == len(second))
            stack.close()
            told = [record.message for record in caplog.records]
            assert sum("Prefect server cannot be used" in line for line in told) == 1
            assert_complete(storage, url, [*first, *second])


FLOW = """
    import time
    from prefect import flow, task

    @task
    def wait(seconds):
        time.sleep(seconds)

    @flow(name="{name}")
    def hangs():
        wait(0)
        futures = wait.map([300, 300])
        futures.wait()

    if __name__ == "__main__":
        hangs()
"""


def _write_flow(folder: Path) -> tuple[Path, str]:
    name = f"hangs-{uuid4().hex[:8]}"
    path = folder / "hanging.py"
    path.write_text(textwrap.dedent(FLOW.format(name=name)))
    return path, name


def _running(storage: PipelineStorage, pipeline: str, tasks: int) -> str | None:
    """Return the id of a pipeline's run in which so many tasks run."""
    for row in storage.find(Kind.EXECUTION, {"pipeline_id": pipeline}):
        where = {"run_id": row.id, "status": PipelineTaskStatus.RUNNING}
        if len(storage.find(Kind.TASK_RESULT, where)) == tasks:
            return row.id
    return None


def _open(storage: PipelineStorage, run_id: str) -> list[Row]:
    status = [PipelineTaskStatus.PENDING, PipelineTaskStatus.RUNNING]
    found = storage.find(Kind.EXECUTION, {"id": run_id, "status": status})
    for kind in (Kind.RESULT, Kind.TASK_EXECUTION, Kind.TASK_RESULT):
        found += storage.find(kind, {"run_id": run_id, "status": status})
    return found


def test_a_flow_process_that_is_killed_leaves_nothing_running(
    prefect_api_url: str, tmp_path: Path
) -> None:
    """Nobody tells Prefect: the silence does, and the message says so."""
    storage = MemoryPipelineResultsStorage()
    path, name = _write_flow(tmp_path)
    env = os.environ | {"PREFECT_API_URL": prefect_api_url}
    since = datetime.now(UTC) - timedelta(seconds=5)
    process = subprocess.Popen(
        [sys.executable, str(path)], env=env, cwd=tmp_path, start_new_session=True
    )
    try:
        with recording(prefect_api_url, storage, since=since):
            wait_for(lambda: _running(storage, name, 2) is not None)
            os.killpg(process.pid, signal.SIGKILL)
            run_id = _running(storage, name, 2)
            assert run_id is not None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    changed = {PREFECT_API_URL: prefect_api_url}
    with temporary_settings(changed), get_client(sync_client=True) as client:
        directory = FlowRunDirectory(client)
        reconcile(client, storage, directory)
        assert len(_open(storage, run_id)) == 5
        time.sleep(3)
        done = reconcile(client, storage, directory, lost_after=timedelta(seconds=2))
    assert done.lost >= 1
    assert _open(storage, run_id) == []
    (execution,) = storage.find(Kind.EXECUTION, {"id": run_id})
    assert execution.status is PipelineTaskStatus.RUNTIME_ERROR
    assert "Nothing was heard" in execution.message
    assert "concluded, not reported" in execution.message
    assert execution.state_type == "RUNNING"


def test_a_flow_killed_under_a_worker_leaves_no_task_running(
    prefect_api_url: str, tmp_path: Path
) -> None:
    """The worker reports the flow run's crash; its tasks are closed after it."""
    storage = MemoryPipelineResultsStorage()
    path, name = _write_flow(tmp_path)
    pool = f"faults-{uuid4().hex[:8]}"
    env = os.environ | {
        "PREFECT_API_URL": prefect_api_url,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    prefect = [sys.executable, "-m", "prefect"]
    create = [*prefect, "work-pool", "create", pool, "--type", "process"]
    subprocess.run(create, env=env, check=True, capture_output=True)
    script = f"""
        from prefect import flow
        hangs = flow.from_source({str(tmp_path)!r}, "{path.name}:hangs")
        hangs.deploy("d", work_pool_name="{pool}", ignore_warnings=True)
        from prefect.deployments import run_deployment
        run_deployment("{name}/d", timeout=0)
    """
    deploy = [sys.executable, "-c", textwrap.dedent(script)]
    subprocess.run(deploy, env=env, check=True, capture_output=True, cwd=tmp_path)
    since = datetime.now(UTC) - timedelta(minutes=1)
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [*prefect, "worker", "start", "--pool", pool],
            env=env,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        with recording(prefect_api_url, storage, since=since):
            wait_for(lambda: _running(storage, name, 2) is not None)
            run_id = _running(storage, name, 2)
            assert run_id is not None
            _kill_children(worker.pid)
            wait_for(lambda: _status(storage, run_id).is_final)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    assert _open(storage, run_id)
    changed = {PREFECT_API_URL: prefect_api_url}
    with temporary_settings(changed), get_client(sync_client=True) as client:
        directory = FlowRunDirectory(client)
        done = reconcile(client, storage, directory, settled=timedelta())
    assert done.ended >= 1
    assert _open(storage, run_id) == []
    (execution,) = storage.find(Kind.EXECUTION, {"id": run_id})
    assert execution.state_type == "CRASHED"
    tasks = storage.find(Kind.TASK_RESULT, {"run_id": run_id})
    closed = [row for row in tasks if row.status is not PipelineTaskStatus.DONE]
    assert len(closed) == 2
    assert all("concluded, not reported" in row.message for row in closed)


def _status(storage: PipelineStorage, run_id: str) -> PipelineTaskStatus:
    return storage.find(Kind.EXECUTION, {"id": run_id})[0].status


def _kill_children(pid: int) -> None:
    """Kill the processes that a process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(text) for text in children.read_text().split()]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += [int(text) for text in (thread / "children").read_text().split()]
    assert found
    for child in set(found):
        os.kill(child, signal.SIGKILL)
