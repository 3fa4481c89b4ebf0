"""The process of a flow is killed: nothing of its run stays running for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.lookups import post
from prefect_lume.recorder.service.reconciling import reconcile

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


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    """A client of the server that is in use."""
    with get_client(sync_client=True) as made:
        yield made


@pytest.fixture
def name(tmp_path: Path) -> str:
    """The name of a flow that does not end, in the file ``hanging.py``."""
    name = f"hangs-{uuid4().hex[:8]}"
    (tmp_path / "hanging.py").write_text(textwrap.dedent(FLOW.format(name=name)))
    return name


@contextmanager
def _process(
    command: list[str], api: str, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a session of its own, and end all that is left of it."""
    env = os.environ | {"PREFECT_API_URL": api, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in _children(process.pid):
                os.kill(child, signal.SIGKILL)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _hanging(storage: PipelineStorage, pipeline: str) -> str | None:
    """Return the id of a pipeline's run in which both tasks hang."""
    for row in storage.find(Kind.EXECUTION, {"pipeline_id": pipeline}):
        where = {"run_id": row.id, "status": PipelineTaskStatus.RUNNING}
        if len(storage.find(Kind.TASK_RESULT, where)) == 2:
            return row.id
    return None


def _children(pid: int) -> set[int]:
    """Return the ids of the processes that a process has started."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {int(i) for t in threads for i in (t / "children").read_text().split()}


def test_a_flow_process_that_is_killed_leaves_nothing_running(
    lab: Any, prefect_server: str, client: SyncPrefectClient, name: str, tmp_path: Path
) -> None:
    """Nobody tells Prefect: the silence does, and the message says so."""
    storage = MemoryPipelineResultsStorage()
    since = lab.since()
    command = [sys.executable, "hanging.py"]
    with (
        _process(command, prefect_server, tmp_path) as process,
        lab.recording(prefect_server, storage, since=since),
    ):
        lab.wait_for(lambda: _hanging(storage, name) is not None)
        run_id = _hanging(storage, name)
        assert run_id is not None
        os.killpg(process.pid, signal.SIGKILL)
    directory = FlowRunDirectory(client)
    reconcile(client, storage, directory)
    assert len(lab.still_open(storage, run_id)) == 5
    time.sleep(3)
    done = reconcile(client, storage, directory, lost_after=timedelta(seconds=2))
    assert done.lost >= 1
    assert lab.still_open(storage, run_id) == []
    (execution,) = storage.find(Kind.EXECUTION, {"id": run_id})
    assert execution.status is PipelineTaskStatus.RUNTIME_ERROR
    assert "Nothing was heard" in execution.message
    assert "concluded, not reported" in execution.message
    assert execution.state_type == "RUNNING"


@pytest.fixture
def pool(client: SyncPrefectClient, name: str, tmp_path: Path) -> Iterator[str]:
    """A work pool of processes, to which a run of the flow has been given."""
    pool = f"faults-{uuid4().hex[:8]}"
    post(client, "/work_pools/", {"name": pool, "type": "process"})
    flow_id = post(client, "/flows/", {"name": name})["id"]
    deployment = {
        "name": "faults",
        "flow_id": flow_id,
        "work_pool_name": pool,
        "path": str(tmp_path),
        "entrypoint": "hanging.py:hangs",
    }
    made = post(client, "/deployments/", deployment)
    post(client, f"/deployments/{made['id']}/create_flow_run", {})
    yield pool
    client.request("DELETE", f"/work_pools/{pool}")  # type: ignore[arg-type]


def test_a_flow_killed_under_a_worker_leaves_no_task_running(
    lab: Any,
    prefect_server: str,
    client: SyncPrefectClient,
    name: str,
    pool: str,
    tmp_path: Path,
) -> None:
    """The worker reports the flow run's crash; its tasks are closed after it."""
    storage = MemoryPipelineResultsStorage()
    since = lab.since()
    worker = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    with _process([sys.executable, *worker], prefect_server, tmp_path) as process:
        try:
            with lab.recording(prefect_server, storage, since=since):
                lab.wait_for(lambda: _hanging(storage, name) is not None)
                run_id = _hanging(storage, name)
                assert run_id is not None
                children = _children(process.pid)
                assert children
                for child in children:
                    os.kill(child, signal.SIGKILL)
                lab.wait_for(lambda: _is_final(storage, run_id))
        except AssertionError as problem:
            problem.add_note((tmp_path / "output.log").read_text())
            raise
    assert lab.still_open(storage, run_id)
    directory = FlowRunDirectory(client)
    done = reconcile(client, storage, directory, settled=timedelta())
    assert done.ended >= 1
    assert lab.still_open(storage, run_id) == []
    (execution,) = storage.find(Kind.EXECUTION, {"id": run_id})
    assert execution.state_type == "CRASHED"
    tasks = storage.find(Kind.TASK_RESULT, {"run_id": run_id})
    closed = [row for row in tasks if row.status is not PipelineTaskStatus.DONE]
    assert len(closed) == 2
    assert all("concluded, not reported" in row.message for row in closed)


def _is_final(storage: PipelineStorage, run_id: str) -> bool:
    return storage.find(Kind.EXECUTION, {"id": run_id})[0].status.is_final
