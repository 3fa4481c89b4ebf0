"""Composed flows against a Prefect server on PostgreSQL, with a process worker."""

from __future__ import annotations

import contextvars
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelling

from prefect_lume.composer import FlowOfFlows, Subflow
from prefect_lume.config import open_context
from prefect_lume.errors import NotFoundError, SubflowError
from prefect_lume.models import Model

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.service("prefect"),
    pytest.mark.timeout(600),
]

FLOWS = Path(__file__).parents[1] / "composer_flows"


@pytest.fixture(scope="module")
def flows() -> ModuleType:
    """The module of small flows, imported as a user's would be."""
    if str(FLOWS) not in sys.path:
        sys.path.insert(0, str(FLOWS))
    return importlib.import_module("lume_chain_flows")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A process work pool with one worker, which runs until the module is done."""
    name = f"composer-{uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("worker")
    env = os.environ | {
        "PREFECT_API_URL": os.environ["LUME_TEST_PREFECT_API_URL"],
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    command = [sys.executable, "-m", "prefect"]
    create = [*command, "work-pool", "create", name, "--type", "process"]
    subprocess.run(create, env=env, check=True, capture_output=True)
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [*command, "worker", "start", "--pool", name, "--type", "process"],
            env=env,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        yield name
        os.killpg(worker.pid, signal.SIGTERM)
        try:
            worker.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


@pytest.fixture
def project() -> str:
    """A project of the test's own, so that its Prefect deployments are, too."""
    return f"project-{uuid4().hex[:8]}"


def mapped(
    flow: str, task: str | None = None, how: str = "raw", **more: Any
) -> dict[str, Any]:
    """Say where a parameter comes from: subflow, task, way, and more."""
    return {
        "parent_flow_name": flow,
        "parent_task_name": task,
        "map_type": how,
        **more,
    }


def outcomes(runs: dict[str, str]) -> dict[str, Any]:
    """Return what the flow of each subflow returned."""
    with get_client(sync_client=True) as client:
        return {
            name: client.read_flow_run(UUID(run_id)).state.result()
            for name, run_id in runs.items()
        }


def test_both_ways_give_identical_values(
    flows: ModuleType, pool: str, project: str, tmp_path: Path
) -> None:
    """Raw, file and db mappings, in process and on a work pool; siblings overlap."""
    folder = str(tmp_path)
    pair = [
        Subflow(
            flows.meet,
            name,
            position=3,
            parameters={"me": name, "other": other, "patience": 120.0},
        )
        for name, other in [("left", "right"), ("right", "left")]
    ]
    chain = FlowOfFlows.of(
        f"both {project}",
        project,
        [
            flows.generate,
            Subflow(
                flows.consume,
                position=2,
                mapped_parameters={
                    "values": mapped("generate", "numbers"),
                    "note": mapped("generate", "save_text", "file"),
                    "result": mapped("generate", "store_numbers", "db"),
                    "peak": mapped(
                        "generate",
                        "store_numbers",
                        "db",
                        attribute="outputs",
                        attribute_index=["nested", "peak"],
                    ),
                    "made": mapped("generate"),
                },
            ),
            *pair,
        ],
    )
    parent = chain.compose()
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()

    def run(where: str, how: str) -> dict[str, Any]:
        here = f"{folder}/{where}"
        return outcomes(
            parent(
                generate__n=5,
                left__folder=here,
                right__folder=here,
                run_subflows=how,
            )
        )

    in_process = run("here", "in-process")
    assert in_process["consume"]["values"] == [0.1 * n for n in range(5)]
    names = chain.deploy_subflows(pool)
    assert names == [f"{name}/{project}" for name in ("generate", "consume", "meet")]
    assert chain.deploy_subflows(pool) == names
    assert run("there", "deployments") == in_process


def test_a_retry_repeats_only_what_failed_on_the_work_pool(
    flows: ModuleType, pool: str, project: str, tmp_path: Path
) -> None:
    """A finished remote subflow is not run again; a failed one is, as a new run."""
    folder = str(tmp_path)
    chain = FlowOfFlows.of(
        f"retried {project}",
        project,
        [
            Subflow(flows.count, "one", parameters={"folder": folder, "name": "one"}),
            Subflow(
                flows.count,
                "two",
                parameters={"folder": folder, "name": "two", "fail_first": True},
                mapped_parameters={"value": mapped("one")},
            ),
        ],
    )
    chain.deploy_subflows(pool)
    parent = chain.compose().with_options(retries=1)
    assert outcomes(parent(run_subflows="deployments")) == {"one": 1, "two": 2}


def test_failures_name_the_remote_subflow_and_its_cause(
    flows: ModuleType, pool: str, project: str, tmp_path: Path
) -> None:
    """A remote failure, and a value that was not stored, say what happened."""
    chain = FlowOfFlows.of(
        f"failing {project}",
        project,
        [
            Subflow(
                flows.count,
                "bad",
                position=1,
                parameters={
                    "folder": str(tmp_path),
                    "name": "bad",
                    "fail_first": True,
                },
            ),
            Subflow(flows.opaque, position=1),
        ],
    )
    chain.deploy_subflows(pool)
    with pytest.raises(SubflowError) as caught:
        chain.compose()(run_subflows="deployments")
    assert caught.value.failures == {"bad": "RuntimeError: bad fails the first time"}


def test_cancelling_the_parent_cancels_remote_subflows(
    flows: ModuleType, pool: str, project: str
) -> None:
    """The worker is asked to cancel the subflow, and its process ends."""
    chain = FlowOfFlows.of(f"cancelled {project}", project, [flows.wait])
    chain.deploy_subflows(pool)
    parent = chain.compose()
    states: list[Any] = []

    def run_parent() -> None:
        how = {"run_subflows": "deployments", "return_state": True}
        states.append(parent(wait__seconds=300, **how))

    # A thread of its own would not see which server this test uses.
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(run_parent,), daemon=True
    )
    thread.start()
    with get_client(sync_client=True) as client:
        run = _until(lambda: _run_of(client, parent.name))
        child = _until(lambda: _running_child(client, run.id))
        client.set_flow_run_state(run.id, Cancelling(), force=True)
        thread.join(timeout=180)
        assert states[0].is_cancelled()

        def cancelled() -> bool:
            return bool(client.read_flow_run(child.id).state.is_cancelled())

        _until(cancelled)


def test_a_registered_package_runs_unpacked_in_both_ways(
    pool: str, project: str, tmp_path: Path
) -> None:
    """From the registry: verified, unpacked, run here and on the pool, with provenance.

    The package is not installed, so both processes take it from its source.
    """
    package = _package(tmp_path, f"lume_pkg_{uuid4().hex[:6]}", project)
    model = Model.create_model(
        author="a",
        laboratory="l",
        facility="f",
        beampath="b",
        description=project,
    )
    open_context().scheduling_service().create_project(project, "A test.")
    deployment = model.store_deployment(str(package), project_name=project)
    text = f"""
    name: registered {project}
    project_name: {project}
    composing_flows:
      - name: {project} first
      - name: second
        flow_name: {project} second
        mapped_parameters:
          value: {{parent_flow_name: {project} first, parent_task_name: tripled}}
    """
    chain = FlowOfFlows.from_yaml(text)
    parent_id = chain.register()
    again = FlowOfFlows.from_registry(f"registered {project}", project)
    assert again.spec == chain.spec
    registry = open_context().model_db_service()
    record = registry.get_flow_of_flows(parent_flow_id=parent_id)
    assert [subflow.name for subflow in record.subflows] == [
        f"{project} first",
        "second",
    ]
    parent = again.compose()
    expected = {
        f"{project} first": None,
        "second": [21, deployment.deployment_id],
    }
    slug = next(name for name in parent.parameters.properties if name.endswith("__x"))
    assert outcomes(parent(**{slug: 7})) == expected
    again.deploy_subflows(pool)
    assert outcomes(parent(**{slug: 7}, run_subflows="deployments")) == expected


def test_an_unregistered_subflow_cannot_be_registered(
    flows: ModuleType, project: str
) -> None:
    """register() names the flow that the registry does not know, and writes nothing."""
    chain = FlowOfFlows.of(f"new {project}", project, [flows.generate])
    with pytest.raises(NotFoundError, match=f"{project}/generate"):
        chain.register()
    with pytest.raises(NotFoundError):
        FlowOfFlows.from_registry(f"new {project}", project)


def test_prefect_deploy_finds_the_parent_in_a_file(
    pool: str, project: str, tmp_path: Path
) -> None:
    """`prefect deploy file.py:parent` keeps the schema, and a worker runs it."""
    (tmp_path / "chain.py").write_text(
        f"import sys\n"
        f"sys.path.insert(0, {str(FLOWS)!r})\n"
        f"import lume_chain_flows as flows\n"
        f"from prefect_lume.composer import FlowOfFlows, Subflow\n"
        f"chain = FlowOfFlows.of('filed {project}', {project!r}, [\n"
        f"    flows.generate,\n"
        f"    Subflow(flows.echo, mapped_parameters={{\n"
        f"        'value': {{'parent_flow_name': 'generate',\n"
        f"                   'parent_task_name': 'numbers'}}}}),\n"
        f"])\n"
        f"parent = chain.compose()\n"
    )
    (tmp_path / "prefect.yaml").write_text(
        f"pull:\n"
        f"  - prefect.deployments.steps.set_working_directory:\n"
        f"      directory: {tmp_path}\n"
        f"deployments:\n"
        f"  - name: filed\n"
        f"    entrypoint: chain.py:parent\n"
        f"    work_pool: {{name: {pool}}}\n"
    )
    env = os.environ | {"PREFECT_API_URL": os.environ["LUME_TEST_PREFECT_API_URL"]}
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"filed {project}/filed")
        properties = deployment.parameter_openapi_schema["properties"]
        assert properties["generate__kind"]["enum"] == ["linear", "square"]
        assert properties["generate__n"]["default"] == 4
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters={"generate__n": 2}
        )

        def ended() -> Any:
            state = client.read_flow_run(run.id).state
            return state if state is not None and state.is_final() else None

        assert _until(ended).is_completed()
        children = _children(client, run.id)
        values = {child.name: child.parameters for child in children}
        assert values["echo"] == {"value": [0.0, 0.1]}


def _package(folder: Path, name: str, project: str) -> Path:
    root = folder / name
    (root / name).mkdir(parents=True)
    (root / "environment.yml").write_text("dependencies: [python]\n")
    (root / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1.2"\n'
        f'[project.entry-points.orchestration]\n"{name}.flow" = "{name}.flow"\n'
        f'[build-system]\nrequires = ["hatchling"]\n'
        f'build-backend = "hatchling.build"\n'
    )
    (root / name / "__init__.py").write_text('__version__ = "1.2"\n')
    (root / name / "flow.py").write_text(
        f"from prefect import flow, task\n"
        f"from prefect_lume.tasks import load_result, store_result\n"
        f"@task(persist_result=False)\n"
        f"def tripled(x: int) -> int:\n"
        f"    return 3 * x\n"
        f"@flow(name='{project} first')\n"
        f"def first(x: int) -> None:\n"
        f"    tripled(x)\n"
        f"@flow(name='{project} second')\n"
        f"def second(value: int) -> list[int]:\n"
        f"    stored = load_result(store_result({{'v': value}}, {{}}))\n"
        f"    return [value, stored.deployment_id]\n"
    )
    return root


def _until(look: Callable[[], Any], seconds: float = 180.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError("it did not happen in time")


def _run_of(client: Any, flow_name: str) -> Any:
    found = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])),
        sort=FlowRunSort.ID_DESC,
        limit=50,
    )
    running = [run for run in found if run.state.is_running()]
    return running[0] if running else None


def _children(client: Any, run_id: Any) -> list[Any]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id])
        ),
        sort=FlowRunSort.ID_DESC,
        limit=50,
    )


def _running_child(client: Any, run_id: Any) -> Any:
    running = [run for run in _children(client, run_id) if run.state.is_running()]
    return running[0] if running else None
