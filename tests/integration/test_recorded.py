"""Recorded flows against a Prefect server on PostgreSQL: every change, once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow, get_client, task
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import Abort, CancelledRun
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Cancelling
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from prefect.testing.utilities import prefect_test_harness

from prefect_lume import recorded
from prefect_lume.errors import StorageError
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.inprocess import tee
from prefect_lume.recorder.inprocess.recording import open_recordings
from prefect_lume.recorder.service.events import EventReader
from prefect_lume.recorder.translation.translating import Translator

#: Seconds for which something is waited for that must come, on a slow machine too.
PATIENCE = 180
EXAMPLE = Path(__file__).parents[2] / "examples" / "recorded"


@task
def plus(x, y=1):
    """Add."""
    return x + y


@task
def fails():
    """Fail."""
    raise ValueError("no beam")


@pytest.fixture(autouse=True)
def _nothing_left():
    """After each test nothing listens to this process any more."""
    yield
    _wait_for(lambda: not open_recordings())
    assert not tee.is_listening()


@pytest.fixture
def own_server():
    """A Prefect server that no other test keeps busy, and that keeps no other busy."""
    with prefect_test_harness(server_startup_timeout=PATIENCE):
        yield PREFECT_API_URL.value()


@pytest.fixture
def storage():
    """A storage in memory."""
    return MemoryPipelineResultsStorage()


def task_changes(storage, run_id=None):
    """Return how many changes of task runs are kept."""
    results = storage.get_task_results(run_id=run_id)
    history = storage.get_history([result.get_id() for result in results])
    return sum(map(len, history.values()))


def rows(storage, *, without=()):
    """Return all rows by kind and id, some fields left out."""
    return {
        (kind, row.id): {
            name: getattr(row, name)
            for name in row.__dataclass_fields__
            if name not in without
        }
        for kind in Kind
        for row in storage.find(kind)
    }


@pytest.mark.usefixtures("own_server")
class TestTasks:
    """Nothing is missing, however many task runs there are and wherever they run."""

    def test_three_runs_of_a_thousand_tasks(self, storage):
        """3,000 of 3,000 changes are recorded, with the objects of the `.map`."""

        @recorded(storage=storage)
        @flow
        def thousand():
            mapped = plus.map(list(range(500)))
            single = [plus.submit(x) for x in range(500)]
            for future in (*mapped, *single):
                future.wait()
            return flow_run.id

        for _ in range(3):
            run_id = thousand()
            results = storage.get_task_results(run_id=run_id)
            assert len(results) == 1000
            assert task_changes(storage, run_id) == 3000
            assert {r.get_status() for r in results} == {"DONE"}
            objects = {r.get_index(): r.get_task_object() for r in results}
            assert objects == {None: None} | {i: i for i in range(500)}
            execution = storage.get_pipeline_execution(run_id)
            assert execution.get_status() == "DONE"
            names = [state.state_name for state in execution.get_states()]
            assert names == ["Pending", "Running", "Completed"]

    def test_task_runner_elsewhere(self, storage):
        """Of tasks that this process hears nothing of, the API tells at the end."""

        class Deaf(ThreadPoolTaskRunner):
            """Says that what it does is not heard here, as Dask's does."""

        elsewhere = type("Elsewhere", (Deaf,), {})

        @recorded(storage=storage)
        @flow(task_runner=elsewhere())
        def remote():
            with unheard():
                return plus.map([1, 2]).result()

        assert remote() == [2, 3]
        # The flow waits for the server for a limited time only; the recording goes on.
        _wait_for(lambda: not open_recordings())
        results = storage.get_task_results()
        assert sorted(r.get_task_object() for r in results) == [1, 2]
        assert {r.get_status() for r in results} == {"DONE"}


@pytest.mark.usefixtures("prefect_server")
class TestComplete:
    """Nothing is missing of flows below flows."""

    def test_async_flow_with_concurrent_runs(self, storage):
        """Runs of one async flow side by side are each recorded as their own."""

        @recorded(storage=storage)
        @flow
        async def three(base):
            futures = plus.map([base, base + 1, base + 2])
            return futures.result()

        async def all_of_them():
            return await asyncio.gather(three(0), three(10), three(20))

        assert asyncio.run(all_of_them())[1] == [11, 12, 13]
        executions = storage.get_pipeline_executions()
        assert [e.get_status() for e in executions] == ["DONE"] * 3
        for execution in executions:
            base = execution.get_input_data()["base"]
            found = storage.get_task_results(run_id=execution.get_run_id())
            objects = {r.get_index(): r.get_task_object() for r in found}
            assert objects == {0: base, 1: base + 1, 2: base + 2}

    def test_subflows_below(self, storage):
        """Subflows in the process are executions below, decorated or not."""

        @flow
        def quiet():
            """Run nothing."""

        @flow
        def lower(x):
            quiet()
            return plus(x)

        @recorded(storage=storage)
        @flow
        def middle(x):
            return lower(x)

        @recorded(storage=storage)
        @flow
        def upper():
            return middle(1)

        assert upper() == 2
        found = {e.get_pipeline_id(): e for e in storage.get_pipeline_executions()}
        assert {e.get_status() for e in found.values()} == {"DONE"}
        parents = {
            name: e.get_parent() and e.get_parent().get_pipeline_id()
            for name, e in found.items()
        }
        assert parents == {
            "upper": None,
            "middle": "upper",
            "lower": "middle",
            "quiet": "lower",
        }
        names = [s.state_name for s in found["quiet"].get_states()]
        assert names == ["Pending", "Running", "Completed"]

    def test_tasks_that_nobody_waits_for(self, storage):
        """Tasks that end after their flow said it has are recorded as well."""

        @task
        def slow():
            time.sleep(1)

        @recorded(storage=storage)
        @flow
        def hasty():
            slow.submit()
            slow.submit()
            time.sleep(0.3)

        hasty()
        statuses = [r.get_status() for r in storage.get_task_results()]
        assert statuses == ["DONE", "DONE"]


def _wait_for(done):
    deadline = time.monotonic() + PATIENCE
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done()


def unheard():
    """Let the events of this process pass by, and its task runners look remote."""
    patch = pytest.MonkeyPatch.context()

    class Both:
        def __enter__(self):
            context = patch.__enter__()
            context.setattr(tee, "_listeners", ())
            context.setattr(
                "prefect_lume.recorder.inprocess.mapping.ThreadPoolTaskRunner",
                ProcessPoolTaskRunner,
            )

        def __exit__(self, *args):
            patch.__exit__(*args)

    return Both()


@pytest.mark.usefixtures("prefect_server")
class TestBehaviour:
    """The flow is what it was."""

    def test_retried_flow(self, storage):
        """A retried flow has all its states; the failed attempt is superseded."""
        attempts = []

        @recorded(storage=storage)
        @flow(retries=1)
        def again():
            attempts.append(1)
            if len(attempts) == 1:
                fails.submit().wait()
                raise RuntimeError("once")
            return plus(1)

        assert again() == 2
        (execution,) = storage.get_pipeline_executions()
        assert execution.get_status() == "DONE"
        names = [state.state_name for state in execution.get_states()]
        assert names == ["Pending", "Running", "AwaitingRetry", "Running", "Completed"]
        found = {
            r.get_pipeline_task(): (r.get_status(), r.row.superseded)
            for r in storage.get_task_results()
        }
        assert found == {"fails": ("RUNTIME_ERROR", True), "plus": ("DONE", False)}

    def test_failed_flow(self, storage):
        """A flow that fails raises what it raised, and is recorded as failed."""

        @recorded(storage=storage)
        @flow
        def broken():
            fails()

        with pytest.raises(ValueError, match="no beam"):
            broken()
        (execution,) = storage.get_pipeline_executions()
        assert execution.get_status() == "RUNTIME_ERROR"
        assert "no beam" in execution.get_message()

    def test_generators(self, storage):
        """Generator flows, sync and async, yield what they did."""

        @recorded(storage=storage)
        @flow
        def numbers():
            yield plus(0)
            yield plus(1)

        @recorded(storage=storage)
        @flow
        async def later():
            yield 1
            yield 2

        async def collect():
            return [x async for x in later()]

        assert list(numbers()) == [1, 2]
        assert asyncio.run(collect()) == [1, 2]
        found = {
            e.get_pipeline_id(): e.get_status()
            for e in storage.get_pipeline_executions()
        }
        assert found == {"numbers": "DONE", "later": "DONE"}

    def test_options_keep_the_recording(self, storage):
        """`with_options` gives a recorded flow, whatever hooks and runner it gets."""
        seen = []

        @recorded(storage=storage)
        @flow
        def plain():
            return plus.map([1]).result()

        changed = plain.with_options(
            name="changed",
            task_runner=ThreadPoolTaskRunner(max_workers=1),
            on_running=[lambda *_: seen.append("running")],
            on_completion=[lambda *_: seen.append("completed")],
        )
        assert changed() == [2]
        assert seen == ["running", "completed"]
        (execution,) = storage.get_pipeline_executions()
        assert execution.get_pipeline_id() == "changed"
        assert execution.get_status() == "DONE"
        (result,) = storage.get_task_results()
        assert result.get_task_object() == 1

    def test_other_flows_are_not_recorded(self, storage):
        """What runs beside a recorded flow in the same process is not recorded."""

        @flow
        def private():
            return plus(1)

        @recorded(storage=storage)
        @flow
        def public():
            thread = threading.Thread(target=private)
            thread.start()
            thread.join()
            return plus(2)

        public()
        (execution,) = storage.get_pipeline_executions()
        assert execution.get_pipeline_id() == "public"
        assert len(storage.get_task_results()) == 1

    @pytest.mark.parametrize("state", [Cancelled, Cancelling])
    def test_cancelled_from_outside(self, storage, state):
        """A run that is cancelled through the API while it runs ends as cancelled."""

        @recorded(storage=storage)
        @flow
        def stopped():
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(flow_run.id, state(message="by hand"))
                if state is Cancelling:
                    client.set_flow_run_state(flow_run.id, Cancelled(message="by hand"))
            return plus(1)

        _ignore(stopped)
        _wait_for(lambda: not open_recordings())
        (execution,) = storage.get_pipeline_executions()
        assert execution.get_status() == "CANCELLED"
        assert execution.get_message() == "by hand"


def _ignore(run):
    try:
        run(return_state=True)
    except (Abort, CancelledRun):
        return


@pytest.mark.usefixtures("prefect_server")
class TestBothWays:
    """In process and by the server's events: the same."""

    def test_events_add_nothing(self, storage):
        """Feeding the server's events of a recorded run changes nothing."""
        since = datetime.now(UTC) - timedelta(seconds=5)

        @flow
        def below():
            return plus(1)

        @recorded(storage=storage)
        @flow(retries=1)
        def both():
            below()
            done = plus.map([1, 2, 3]).result()
            if flow_run.run_count == 1:
                raise RuntimeError("again")
            return done

        both()
        expected = storage.count_states()
        other = MemoryPipelineResultsStorage()
        with get_client(sync_client=True) as client:
            executions = storage.get_pipeline_executions()
            ids = {e.get_run_id() for e in executions}
            translator = Translator(FlowRunDirectory(client))
            deadline = time.monotonic() + PATIENCE
            while other.count_states() < expected and time.monotonic() < deadline:
                time.sleep(1)
                until = datetime.now(UTC) + timedelta(seconds=5)
                for page in EventReader(client).read(since, until):
                    mine = [e for e in page if ids & _runs(e)]
                    batch = translator.translate(mine)
                    other.record(batch)
                    assert storage.record(batch) == 0
        assert other.count_states() == expected
        in_process = {"index", "task_object"}
        assert rows(storage, without=in_process) == rows(other, without=in_process)
        noted = [r.get_task_object() for r in storage.get_task_results()]
        assert sorted(x for x in noted if x is not None) == [1, 1, 2, 2, 3, 3]


def _runs(event):
    ids = [event["resource"]["prefect.resource.id"]]
    ids += [related["prefect.resource.id"] for related in event["related"]]
    return {id_.removeprefix("prefect.flow-run.") for id_ in ids}


class Unusable(MemoryPipelineResultsStorage):
    """A storage whose database is away for a while."""

    def __init__(self, failures):
        super().__init__()
        self.failures = failures

    def record(self, batch):
        """Fail so many times."""
        if self.failures > 0:
            self.failures -= 1
            raise StorageError("The database is away.")
        return super().record(batch)


@pytest.mark.usefixtures("prefect_server")
class TestFaults:
    """Recording never breaks a flow."""

    def test_storage_that_comes_back(self, caplog):
        """What could not be written is kept, and written when that is possible."""
        storage = Unusable(failures=2)

        @recorded(storage=storage)
        @flow
        def patient():
            return plus.map([1, 2, 3]).result()

        assert patient() == [2, 3, 4]
        assert task_changes(storage) == 9
        warnings = [r for r in caplog.records if "cannot be recorded" in r.message]
        assert len(warnings) == 1
        assert "The database is away." in warnings[0].message

    def test_storage_that_is_gone(self, caplog, monkeypatch):
        """The flow returns all the same; its log says how much is not recorded."""
        monkeypatch.setattr("prefect_lume.recorder.inprocess.recording.LIMIT", 2.0)
        storage = Unusable(failures=10**9)

        @recorded(storage=storage)
        @flow
        def lonely():
            return plus.map([1, 2, 3]).result()

        assert lonely() == [2, 3, 4]
        (error,) = [r for r in caplog.records if "are not recorded" in r.message]
        assert "prefect-lume runs record" in error.message
        assert int(error.message.split()[0]) >= 9
        for recording in open_recordings():
            recording.close()

    def test_storage_of_a_wrong_name(self, caplog):
        """A storage that does not exist is named in the log; the flow runs."""

        @recorded(storage="prefect_lume.pipelines.memory.MemoryStorage")
        @flow
        def mistaken():
            return 1

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("prefect_lume.recorder.inprocess.recording.LIMIT", 1.0)
            assert mistaken() == 1
        (warning, *_) = [r for r in caplog.records if "cannot be recorded" in r.message]
        assert "MemoryPipelineResultsStorage" in warning.message
        for recording in open_recordings():
            recording.close()


IN_PROCESSES = """
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner

from prefect_lume import recorded


@task
def plus(x, y):
    return x + y


@recorded
@flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
def in_processes():
    return plus.map([1, 2, 3], 5).result()


if __name__ == "__main__":
    assert in_processes() == [6, 7, 8]
"""


class TestElsewhere:
    """In processes that end with the run."""

    def run(self, home, *command, **environment):
        """Run a Python command with the embedded storage in a folder."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=EXAMPLE,
            env={**os.environ, "PREFECT_LUME_HOME": str(home), **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )

    def embedded(self, home, monkeypatch):
        """Return the storage that is embedded in a folder."""
        from prefect_lume.config import current_context

        monkeypatch.setenv("PREFECT_LUME_HOME", str(home))
        return current_context().pipeline_storage()

    def test_script_without_a_server(self, tmp_path, monkeypatch):
        """With nothing configured, a script records into the embedded storage."""
        self.run(tmp_path, "scan.py", PREFECT_HOME=str(tmp_path / "prefect"))
        storage = self.embedded(tmp_path, monkeypatch)
        (execution,) = storage.get_pipeline_executions()
        assert execution.get_status() == "DONE"
        found = storage.get_task_results(run_id=execution.get_run_id())
        objects = {r.get_index(): r.get_task_object() for r in found}
        assert objects == {0: 1e-9, 1: 2e-9, 2: 4e-9, None: None}
        assert task_changes(storage) == 12

    def test_processes(self, tmp_path, monkeypatch, own_server):
        """What tasks in other processes do is recorded, with their objects."""
        script = tmp_path / "in_processes.py"
        script.write_text(IN_PROCESSES)
        self.run(tmp_path, str(script), PREFECT_API_URL=own_server)
        storage = self.embedded(tmp_path, monkeypatch)
        found = {r.get_task_object(): r for r in storage.get_task_results()}
        assert sorted(found) == [1, 2, 3]
        assert {r.get_status() for r in found.values()} == {"DONE"}
        assert task_changes(storage) == 9

    def test_deployment_in_a_process_of_its_own(
        self, tmp_path, monkeypatch, prefect_server
    ):
        """A run of a deployment, in a process that a worker starts, is recorded."""
        name = f"recorded-{uuid.uuid4().hex[:8]}"
        with get_client(sync_client=True) as client:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        deployed = flow.from_source(str(EXAMPLE), entrypoint="scan.py:scan")
        deployment_id = deployed.deploy(
            name=name, work_pool_name=name, print_next_steps=False, ignore_warnings=True
        )
        with get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(deployment_id)
        self.run(
            tmp_path,
            *("-m", "prefect", "flow-run", "execute", str(run.id)),
            PREFECT_API_URL=prefect_server,
        )
        storage = self.embedded(tmp_path, monkeypatch)
        execution = storage.get_pipeline_execution(str(run.id))
        assert execution.get_status() == "DONE"
        assert execution.get_prefect_deployment_id() == str(deployment_id)
        assert task_changes(storage) == 12
