"""Compositions are recorded by themselves: parent, subflows, and the way back."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from prefect_lume import FlowOfFlows, LumeServices, Model
from prefect_lume.config import open_context
from prefect_lume.provenance import produced_by, trace_result
from prefect_lume.recorder.inprocess.recording import open_recordings

EXAMPLE = Path(__file__).parents[2] / "examples" / "injector"
PROJECT = "injector"
PARAMETERS = {"generate__n_particle": 200, "generate__seed": 7, "transport__steps": 3}
SUBFLOWS = {"generate", "transport", "analyse_x", "analyse_y"}

pytestmark = [pytest.mark.service("prefect"), pytest.mark.timeout(400)]


def prepare(services):
    """Register the example, and read its flow-of-flows back from the registry."""
    open_context(services).scheduling_service().create_project(PROJECT, "test")
    model = Model.create_model(
        author="a",
        laboratory="l",
        facility="f",
        beampath="b",
        description="injector",
        services=services,
    )
    deployment = model.store_deployment(EXAMPLE, PROJECT)
    FlowOfFlows.from_yaml(EXAMPLE / "injector.yaml", services=services).register()
    return deployment, FlowOfFlows.from_registry(PROJECT, PROJECT, services=services)


def check(services, deployment, runs):
    """Check what a composition left, and walk from its results to the source."""
    deadline = time.monotonic() + 120
    while open_recordings() and time.monotonic() < deadline:
        time.sleep(0.1)
    context = open_context(services)
    storage = context.pipeline_storage()
    executions = {e.get_run_id(): e for e in storage.get_pipeline_executions()}
    assert set(runs) == SUBFLOWS
    (parent,) = [e for id_, e in executions.items() if id_ not in runs.values()]
    assert len(executions) == 5
    assert parent.get_pipeline_id() == PROJECT
    assert parent.get_project_name() == PROJECT
    assert parent.get_parent_run_id() is None
    assert parent.get_status() == "DONE"
    for name, id_ in runs.items():
        execution = executions[id_]
        assert execution.get_pipeline_id() == name.removesuffix("_x").removesuffix("_y")
        assert execution.get_parent_run_id() == parent.get_run_id()
        assert execution.get_deployment_id() == deployment.deployment_id
        assert execution.get_project_name() == PROJECT
        assert execution.get_status() == "DONE"
        results = storage.get_task_results(id_)
        assert results, name
        assert {r.get_status() for r in results} == {"DONE"}
    walk(context, deployment, runs, parent.get_run_id())


def walk(context, deployment, runs, parent_id):
    """From each result document to the source, and from the deployment back to all."""
    documents = list(context.results_db_service().find(PROJECT))
    assert {d.flow_run_id for d in documents} == set(runs.values()) - {runs["generate"]}
    registered = context.model_db_service().get_deployment(
        deployment_id=deployment.deployment_id
    )
    for document in documents:
        trace = trace_result(context, document.reference())
        assert trace.execution.id == document.flow_run_id
        assert [row.id for row in trace.parents] == [parent_id]
        assert trace.deployment == registered
        assert trace.deployment.source
        assert len(trace.deployment.sha256) == 64
        assert trace.deployment.lock is None  # Packages bring none.
        assert trace.deployment.model.description == "injector"
        assert trace.project.project_name == PROJECT
    made = produced_by(context, deployment.deployment_id)
    assert {row.id for row in made.newest} == set(runs.values())
    assert (made.executions.total, made.executions.done) == (4, 4)
    assert made.documents.total == len(documents) == 3


@pytest.mark.usefixtures("prefect_server")
def test_in_process(tmp_path):
    """Each subflow is an execution below the parent's; `record=False` leaves none."""
    services = LumeServices(home=str(tmp_path / "lume"))
    deployment, chain = prepare(services)
    chain.compose(record=False)(**PARAMETERS)
    storage = open_context(services).pipeline_storage()
    assert storage.get_pipeline_executions() == []
    assert storage.count_states() == 0
    assert open_context(services).results_db_service().delete(PROJECT, {}) == 3
    check(services, deployment, chain.compose()(**PARAMETERS))


def test_as_deployments(tmp_path, work_pool):
    """On a work pool the subflows record themselves, and come to the same."""
    services = f"lume-{uuid.uuid4().hex[:8]}"
    LumeServices(home=str(tmp_path / "lume")).save(services)
    deployment, chain = prepare(services)
    chain.deploy_subflows(work_pool)
    runs = chain.compose()(run_subflows="deployments", **PARAMETERS)
    check(services, deployment, runs)
