"""Pipelines over objects, and recorded flows, as deployments on a process worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.states import Cancelling

from prefect_lume import LumeServices, recorded, run_pipeline
from prefect_lume.config import Context
from prefect_lume.errors import SubflowError
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.service.events import EventReader
from prefect_lume.recorder.service.reconciling import reconcile
from prefect_lume.recorder.translation.translating import Translator
from prefect_lume.testing.pipelines_generated import differences, rows_of

FLOWS = """
import os
import time
from pathlib import Path

from prefect import flow, task

from prefect_lume import recorded


@task
def double(x):
    return 2 * x


@flow(persist_result=True)
def simulate(charge: int, steps: int = 1) -> int:
    if charge == 13:
        raise ValueError("an unlucky charge")
    return double(charge) * steps


@task
def wait(seconds):
    time.sleep(seconds)


@recorded
@flow
def patient(pid_file: str):
    double(1)
    Path(pid_file).write_text(str(os.getpid()))
    wait(300)
"""

pytestmark = [pytest.mark.service("prefect"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the worker's processes record."""
    return tmp_path_factory.mktemp("lume")


@pytest.fixture(scope="module")
def deployments(tmp_path_factory, home):
    """The name of deployments of both flows, which a process worker runs."""
    name = f"pipelines-{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("flows")
    (folder / "deployed_flows.py").write_text(FLOWS)
    url = os.environ["LUME_TEST_PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: url}):
        with get_client(sync_client=True) as client:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        for flow_name in ("simulate", "patient"):
            entrypoint = f"deployed_flows.py:{flow_name}"
            flow.from_source(str(folder), entrypoint=entrypoint).deploy(
                name=name,
                work_pool_name=name,
                print_next_steps=False,
                ignore_warnings=True,
            )
    environment = {
        **os.environ,
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(get_current_settings().home),
        "PREFECT_LUME_HOME": str(home),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", name]
    worker = subprocess.Popen(
        [*command, "--type", "process", "--install-policy", "never"], env=environment
    )
    yield name
    worker.terminate()
    worker.wait(timeout=180)


@pytest.fixture
def storage():
    """A storage in memory."""
    return MemoryPipelineResultsStorage()


def wait_for(found, seconds=180):
    """Return what is found as soon as there is something."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, "It takes too long."
        time.sleep(0.2)
    return answer


def from_events(expected, since, ids):
    """Return a storage with what the server's events tell of some flow runs."""
    storage = MemoryPipelineResultsStorage()
    with get_client(sync_client=True) as client:
        translator = Translator(FlowRunDirectory(client))

        def read():
            until = datetime.now(UTC) + timedelta(seconds=5)
            for page in EventReader(client).read(since, until):
                mine = [event for event in page if ids & _flow_runs(event)]
                storage.record(translator.translate(mine))
            return storage.count_states() >= expected

        wait_for(read)
    return storage


def assert_equal(mine, theirs, run_id, *without):
    """Compare rows of a run, but for what building and heartbeats alone tell."""
    built = {"runner", "created", "closed", "last_seen", *without}
    found = differences(rows_of(mine, run_id), rows_of(theirs, run_id))
    lines = [line for line in found if line.split()[2] not in built]
    # Of an object that the deployment does not take, there is no flow run.
    assert [line for line in lines if "only in the first" not in line] == []


def _flow_runs(event):
    ids = [event["resource"]["prefect.resource.id"]]
    ids += [related["prefect.resource.id"] for related in event["related"]]
    return {id_.removeprefix("prefect.flow-run.") for id_ in ids}


def test_objects_run_on_a_work_pool(prefect_server, deployments, storage):
    """Results, statuses, tasks and parents are there, and equal to the events' rows."""
    since = datetime.now(UTC) - timedelta(seconds=5)
    caught = []

    @recorded(storage=storage)
    @flow
    def outer():
        try:
            run_pipeline(
                f"simulate/{deployments}",
                [2, "many", 13, 5],
                parameters={"steps": 10},
                storage=storage,
            )
        except SubflowError as error:
            caught.append(error)
        else:
            caught.append(None)
        return flow_run.id

    outer_id = outer()
    (error,) = caught
    assert sorted(error.failures) == ["object 1", "object 2"]
    assert "unlucky" in error.failures["object 2"]
    (execution,) = storage.get_pipeline_executions("simulate")
    assert execution.get_parent_run_id() == outer_id
    assert execution.get_status().is_failed
    results = execution.get_pipeline_results()
    assert [r.get_pipeline_object() for r in results] == [2, "many", 13, 5]
    statuses = [r.get_status() for r in results]
    assert statuses == ["DONE", "VALIDATION_ERROR", "RUNTIME_ERROR", "DONE"]
    assert results[1].get_task_executions() == []
    # The server takes in what ran elsewhere with some delay.
    wait_for(lambda: len(storage.get_task_results(execution.get_run_id())) == 2)
    for result in (results[0], results[3]):
        (executed,) = result.get_task_executions()
        assert executed.get_pipeline_task() == "double"
        assert [r.get_status() for r in executed.get_task_results()] == ["DONE"]
    assert list(storage.get_pipeline_digest()) == ["outer", "simulate"]

    ids = {outer_id, execution.get_run_id()}
    ids |= {r.get_flow_run_id() for r in results} - {None}
    # Prefect made no flow run for the object that the deployment does not take.
    told = storage.count_states() - len(results[1].get_states())
    other = from_events(told, since, ids)
    assert other.count_states() == told
    assert list(other.get_pipeline_digest()) == ["outer", "simulate"]
    for id_ in (outer_id, execution.get_run_id()):
        # How the object that did not validate ended bears on all above it.
        assert_equal(storage, other, id_, "message", "completed", "last_at", "status")


def test_what_it_returned_is_read(prefect_server, deployments, storage):
    """What a deployment persisted is returned; the events alone tell the same rows."""
    since = datetime.now(UTC) - timedelta(seconds=5)
    found = run_pipeline(
        f"simulate/{deployments}", [3, 1], parameters={"steps": 2}, storage=storage
    )
    assert found == [12, 4]
    (execution,) = storage.get_pipeline_executions("simulate")
    assert execution.get_status() == "DONE"
    assert execution.get_parent_run_id() is None
    results = execution.get_pipeline_results()
    ids = {execution.get_run_id(), *(r.get_flow_run_id() for r in results)}
    wait_for(lambda: len(storage.get_task_results()) == 2)
    told = storage.count_states()
    other = from_events(told, since, ids)
    assert other.count_states() == told
    assert_equal(storage, other, execution.get_run_id())


def test_cancelled_and_killed(prefect_server, deployments, home, tmp_path):
    """The worker records how they ended; reconciliation closes what they left."""
    files = {name: tmp_path / name for name in ("cancelled", "killed")}
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"patient/{deployments}")
        runs = {
            name: client.create_flow_run_from_deployment(
                deployment.id, parameters={"pid_file": str(file)}
            ).id
            for name, file in files.items()
        }
        wait_for(lambda: all(_text(file) for file in files.values()), 90)
        storage = Context(LumeServices(home=str(home))).pipeline_storage()

        def statuses_of(run_id):
            found = storage.get_task_results(str(run_id))
            return {r.get_pipeline_task(): r.get_status() for r in found}

        # The recording in the process writes about once a second.
        recorded = {"double": "DONE", "wait": "RUNNING"}
        wait_for(lambda: all(statuses_of(r) == recorded for r in runs.values()), 90)
        client.set_flow_run_state(runs["cancelled"], Cancelling(message="by hand"))
        os.kill(int(_text(files["killed"])), signal.SIGKILL)

        def state_names():
            found = {name: client.read_flow_run(id_) for name, id_ in runs.items()}
            return {name: run.state_name for name, run in found.items()}

        expected = {"cancelled": "Cancelled", "killed": "Crashed"}
        wait_for(lambda: state_names() == expected, 60)
        crashed = storage.get_pipeline_execution(str(runs["killed"]))
        wait_for(lambda: crashed.refresh() or crashed.get_status().is_final)
        assert crashed.row.state_name == "Crashed"
        # Prefect says that a run is cancelled only after its process has ended.
        reconcile(client, storage, FlowRunDirectory(client), settled=timedelta(0))
    statuses = {
        name: storage.get_pipeline_execution(str(id_)).get_status()
        for name, id_ in runs.items()
    }
    assert statuses == {"cancelled": "CANCELLED", "killed": "RUNTIME_ERROR"}
    for name, id_ in runs.items():
        found = {r.get_pipeline_task(): r for r in storage.get_task_results(str(id_))}
        assert found["double"].get_status() == "DONE", name
        assert found["wait"].get_status().is_failed, name
        assert found["wait"].get_message(), name
        (result,) = storage.get_pipeline_results(str(id_))
        assert result.get_status() == statuses[name]


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""
