"""A model runs as a Prefect deployment, on a work pool, and gives its results back."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from prefect_lume.composer import FlowOfFlows
from prefect_lume.composition import ComposingFlow, FlowOfFlowsSpec
from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import ConflictError, FlowRunError, InvalidInputError
from prefect_lume.models import Model
from prefect_lume.recorder.api.links import deployment_in
from prefect_lume.registry import DeploymentRecord

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.service("prefect"),
]

PROBE = Path(__file__).parents[1] / "model_packages" / "lume_probe"

Release = Callable[[str], DeploymentRecord]


@pytest.fixture
def project() -> str:
    """A project of the test's own, so that its Prefect deployments are, too."""
    return f"project-{uuid4().hex[:8]}"


@pytest.fixture
def services(tmp_path: Path, project: str) -> LumeServices:
    """Embedded services in a folder of their own, with a project."""
    services = LumeServices(home=str(tmp_path / "lume"))
    open_context(services).scheduling_service().create_project(project)
    return services


@pytest.fixture
def model(services: LumeServices) -> Model:
    """A registered model."""
    return Model.create_model(
        author="Jackie Garrahan",
        laboratory="slac",
        facility="lcls",
        beampath="cu_hxr",
        description="test_model",
        services=services,
    )


@pytest.fixture
def release(tmp_path: Path, model: Model, project: str) -> Iterator[Release]:
    """Registers versions of a package that no other test has imported."""
    name = f"lume_probe_{uuid4().hex[:8]}"
    before = list(sys.path)

    def store(version: str) -> DeploymentRecord:
        folder = tmp_path / version
        shutil.copytree(PROBE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "lume_probe").rename(folder / name)
        for path in (folder / "pyproject.toml", folder / name / "flow.py"):
            text = path.read_text().replace("lume_probe", name)
            path.write_text(text.replace('"1.0"', f'"{version}"'))
        return model.store_deployment(folder, project)

    yield store
    sys.path[:] = before


def deploy(services: LumeServices, project: str, pool: str) -> None:
    """Make the Prefect deployments of the probe's flows, as a composition does."""
    named = f"services-{uuid4().hex[:8]}"
    # What a worker knows the services by.
    services.save(named, _sync=True)  # type: ignore[call-arg]
    spec = FlowOfFlowsSpec(
        name=f"all of {project}",
        project_name=project,
        composing_flows=[ComposingFlow(name=name) for name in ("scan", "broken")],
    )
    FlowOfFlows(spec, services=named).deploy_subflows(pool)


def test_a_model_runs_on_a_work_pool(
    services: LumeServices,
    model: Model,
    release: Release,
    project: str,
    work_pool: str,
) -> None:
    """The loaded deployment's code runs there, and every result comes back."""
    first = release("1.0")
    deploy(services, project, work_pool)
    run = model.run({"number": 4}, flow_name="scan", run_on="deployment")
    assert run.state is not None
    assert run.state.is_completed()
    assert run.tags == [project]
    (result,) = model.get_results()
    assert result.flow_run_id == str(run.id)
    assert result.deployment_id == first.deployment_id
    # A later release, which the Prefect deployment was not made for.
    second = release("2.0")
    value = model.run_and_return({"number": 4}, flow_name="scan", run_on="deployment")
    assert value == {"total": 12, "version": "2.0"}
    named = {"prefect_deployment": f"scan/{project}"}
    doubled = model.run_and_return({"number": 4}, task_name="double", **named)
    assert doubled == [0, 2, 4, 6]
    assert {item.deployment_id for item in model.get_results()} == {
        second.deployment_id
    }
    model.load_deployment("1.0")
    assert model.run_and_return(**named)["version"] == "1.0"
    with pytest.raises(FlowRunError, match="RuntimeError: no beam"):
        model.run_and_return(flow_name="broken", run_on="deployment")
    # The project gets another name, and its Prefect deployments keep theirs.
    scheduling = open_context(services).scheduling_service()
    assert scheduling.rename_project(project, f"{project} renamed") == 2
    run = model.run(flow_name="scan", run_on="deployment", wait=False)
    assert run.tags == [f"{project} renamed"]


def test_a_prefect_deployment_of_the_users_own(
    model: Model, release: Release, project: str
) -> None:
    """It is linked by its job variables; one that says another number is refused."""
    deployment = release("1.0")
    number = deployment.deployment_id

    @flow(name="scan")
    def scan(number: int = 3) -> int:
        return number

    def make(name: str, env: dict[str, str]) -> None:
        with get_client(sync_client=True) as client:
            client.create_deployment(
                flow_id=client.create_flow(scan),
                name=f"{name}-{project}",
                entrypoint="elsewhere.py:scan",
                parameter_openapi_schema=scan.parameters.model_dump_for_openapi(),
                enforce_parameter_schema=True,
                job_variables={"env": env},
            )

    def run(name: str, **options: Any) -> Any:
        which = f"scan/{name}-{project}"
        return model.run(prefect_deployment=which, wait=False, **options)

    make("plain", {})
    started = run("plain", parameters={"number": 2})
    assert started.state is not None
    assert started.state.is_scheduled()
    assert deployment_in(started.job_variables) == number
    waited = model.run(prefect_deployment=f"scan/plain-{project}", timeout=0.5)
    assert waited.state is not None
    assert not waited.state.is_final()
    with pytest.raises(InvalidInputError, match="do not fit"):
        run("plain", parameters={"number": "many"})
    make("equal", {"PREFECT_LUME_DEPLOYMENT_ID": str(number)})
    assert deployment_in(run("equal").job_variables) == number
    make("other", {"PREFECT_LUME_DEPLOYMENT_ID": str(number + 1)})
    with pytest.raises(ConflictError, match=f"runs deployment {number + 1}"):
        run("other")
