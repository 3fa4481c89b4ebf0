"""Results that one process persists in the results database, another one reads."""

import json
import os
import subprocess
import sys
import uuid

import pytest
from prefect.client.orchestration import get_client
from pydantic import SecretStr
from sqlalchemy import make_url

from prefect_lume import LumeServices, MongoDBCredentials, MySQLCredentials, migrations
from prefect_lume.config import open_context
from prefect_lume.filesystems import LumeResultsStorage
from prefect_lume.results.stored_files import StoredFile

pytestmark = [pytest.mark.service("prefect"), pytest.mark.timeout(300)]

FLOWS = """
import sys
from pathlib import Path

import numpy as np
from prefect import flow, task

from prefect_lume.filesystems import LumeResultsStorage

storage = LumeResultsStorage.load(sys.argv[1])
ran = Path(sys.argv[2])


def key_of(context, parameters):
    return f"{storage.project_name}-{context.task.name}-{parameters['n']}"


@task(persist_result=True, cache_key_fn=key_of)
def square(n):
    with ran.open("a") as file:
        file.write(f"square {n}\\n")
    return n * n


@task(persist_result=True, cache_key_fn=key_of)
async def ramp(n):
    with ran.open("a") as file:
        file.write(f"ramp {n}\\n")
    return np.arange(float(n))


options = {
    "persist_result": True, "result_storage": storage, "result_serializer": "lume"
}


@flow(**options)
def sync_flow():
    return {"squares": [square(2), *square.map([3, 4]).result()]}


@flow(**options)
async def async_flow():
    return {"ramp": await ramp(100_000), "square": square(5)}
"""

WRITER = """
import asyncio, json
from flows import async_flow, sync_flow

states = [sync_flow(return_state=True), asyncio.run(async_flow(return_state=True))]
assert all(state.is_completed() for state in states), states
print(json.dumps([str(state.state_details.flow_run_id) for state in states]))
"""

READER = """
import asyncio, json, sys, time

import prefect_lume.filesystems
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

runs = json.loads(sys.argv[3])
with get_client(sync_client=True) as client:
    found = client.read_flow_run(runs[0]).state.result()
    assert found == {"squares": [4, 9, 16]}, found


async def read():
    async with get_client() as client:
        state = (await client.read_flow_run(runs[1])).state
        found = await state.aresult()
        assert found["ramp"].shape == (100_000,) and found["ramp"][-1] == 99_999.0
        assert found["square"] == 25
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=runs))
        until = time.monotonic() + 120
        while time.monotonic() < until:
            tasks = await client.read_task_runs(flow_run_filter=wanted)
            if len(tasks) == 5 and all(t.state.is_completed() for t in tasks):
                break
            await asyncio.sleep(0.2)
        values = [await t.state.aresult() for t in tasks]
        numbers = sorted(value for value in values if isinstance(value, int))
        assert numbers == [4, 9, 16, 25], numbers
        print(json.dumps({str(t.id): str(t.flow_run_id) for t in tasks}))


asyncio.run(read())
"""

UNTOUCHED = """
import asyncio, json, sys
from prefect import flow, task


@task
def double(n):
    return 2 * n


@flow
def plain(n: int):
    return [double(n), double(n + 1)]


@flow
async def plain_async(n: int):
    return {"twice": double(n)}


states = [plain(4, return_state=True), asyncio.run(plain_async(9, return_state=True))]
print(json.dumps([str(state.state_details.flow_run_id) for state in states]))
"""


@pytest.fixture(params=["sqlite", "mongodb", "postgresql"])
def services(request, tmp_path):
    """A results database that every process can reach."""
    home = str(tmp_path / "lume")
    if request.param == "sqlite":
        return LumeServices(home=home)
    url = request.getfixturevalue(f"{request.param}_url")
    if request.param == "mongodb":
        credentials = MongoDBCredentials(uri=SecretStr(url))
        return LumeServices(results_mongodb=credentials, home=home)
    parts = make_url(url)
    credentials = MySQLCredentials(
        driver=parts.drivername,
        host=parts.host,
        port=parts.port,
        username=parts.username or "",
        password=SecretStr(parts.password or ""),
        database=parts.database,
    )
    migrations.upgrade(credentials.get_engine())
    return LumeServices(results_sql=credentials, home=home)


@pytest.fixture
def block(services, prefect_server):
    """The name of a storage Block that is saved on the Prefect server."""
    name = f"storage-{uuid.uuid4().hex[:8]}"
    services.save(name)
    LumeResultsStorage(services=name, project_name=name).save(name)
    yield name
    LumeResultsStorage.delete(name, _sync=True)
    LumeServices.delete(name, _sync=True)


@pytest.fixture
def run(tmp_path, prefect_server):
    """Run code in a process with a Prefect home of its own; return what it printed."""
    (tmp_path / "flows.py").write_text(FLOWS)

    def run(home, code, *arguments, check=True, **environment):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PREFECT_API_URL": prefect_server,
                "PREFECT_HOME": str(tmp_path / home),
                "PREFECT_PROFILES_PATH": str(tmp_path / home / "profiles.toml"),
                "PREFECT_LUME_HOME": str(tmp_path / home / "lume"),
                "PYTHONPATH": str(tmp_path),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr[-3000:]
        return done

    return run


def last_line(done):
    """Return what a process printed last, which is JSON."""
    return last_lines(done, 1)[0]


def last_lines(done, count):
    """Return the last lines that a process printed, each of them JSON."""
    return [json.loads(line) for line in done.stdout.splitlines()[-count:]]


def test_another_process_reads_and_hits_the_cache(services, block, run, tmp_path):
    """Sync and async flows: another home reads all results, and repeats no task."""
    ran = tmp_path / "ran"
    runs = last_line(run("a", WRITER, block, ran))
    first = sorted(ran.read_text().splitlines())
    assert first == ["ramp 100000", "square 2", "square 3", "square 4", "square 5"]
    both = run("b", READER + WRITER, block, ran, json.dumps(runs))
    tasks, again = last_lines(both, 2)
    assert not set(again) & set(runs)
    assert sorted(ran.read_text().splitlines()) == first

    results = open_context(services).results_db_service()
    files = list(results.find(block, {"flow_run_id": {"$in": runs}}))
    assert len(files) == 7
    assert all(type(file) is StoredFile and file.flow_id for file in files)
    by_task = {f.task_run_id: f.flow_run_id for f in files if f.task_run_id}
    assert by_task == tasks
    for file in files:
        content = json.loads(file.outputs["content"])
        if file.task_run_id:
            assert content["metadata"]["serializer"] == {"type": "lume"}
            content = json.loads(content["result"])
        assert content["prefect_lume"] == 1


# One database is enough where no other process reads what was stored.
ONE = pytest.mark.parametrize(
    "services",
    [pytest.param("mongodb", marks=pytest.mark.service("mongodb"))],
    indirect=True,
)


@ONE
def test_user_code_need_not_know(services, block, run):
    """Named in the environment, it keeps the results of code without any of ours."""
    names = {
        "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": f"lume-results-storage/{block}",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    }
    runs = last_line(run("a", UNTOUCHED, **names))
    with get_client(sync_client=True) as client:
        found = [client.read_flow_run(run_id).state.result() for run_id in runs]
    assert found == [[8, 10], {"twice": 18}]
    results = open_context(services).results_db_service()
    assert results.count(block, {"flow_run_id": runs[0]}) == 3
    assert sorted(results.distinct(block, "flow_run_id")) == sorted(runs)


@ONE
def test_the_server_lists_the_block_for_its_ui(prefect_server, block):
    """The server knows name, description, example, logo and fields of the Block."""
    with get_client(sync_client=True) as client:
        kind = client.read_block_type_by_slug("lume-results-storage")
        (document,) = [
            found
            for found in client.read_block_documents_by_type("lume-results-storage")
            if found.name == block
        ]
    assert kind.name == "LUME Results Storage"
    assert kind.description.startswith("Keeps what Prefect persists")
    assert 'LumeResultsStorage.load("BLOCK_NAME")' in kind.code_example
    assert str(kind.documentation_url).endswith("blocks.html#lumeresultsstorage")
    assert document.data == {"services": block, "project_name": block}
    fields = document.block_schema.fields["properties"]
    assert {"services", "project_name"} <= set(fields)
    assert set(document.block_schema.capabilities) == {"read-path", "write-path"}
