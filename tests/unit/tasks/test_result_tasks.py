"""Storing and loading results in flows: where they come from is filled in."""

import asyncio
import uuid

import numpy as np
import pytest
from prefect import flow, task, unmapped

from prefect_lume.config import Context, open_context, running_deployment
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import ConflictError, InvalidInputError, NotFoundError
from prefect_lume.results import ImpactResult, Result
from prefect_lume.tasks import load_result, save_file, store_result


@pytest.fixture
def services(tmp_path):
    """Embedded services in a folder of their own."""
    return LumeServices(home=str(tmp_path / "lume"))


def stored(services, project="default"):
    """Every stored result."""
    return list(open_context(services).results_db_service().find(project))


def test_a_flows_result_knows_its_run(services):
    """Flow and flow run come from the run; an unregistered flow has no deployment."""

    @flow(name="unregistered")
    def made():
        return store_result({"x": 1}, {"y": 2.5}, services=services)

    state = made(return_state=True)
    (result,) = stored(services)
    assert result.flow_run_id == str(state.state_details.flow_run_id)
    assert uuid.UUID(result.flow_id)
    assert result.deployment_id is None
    assert (result.inputs, result.outputs) == ({"x": 1}, {"y": 2.5})


def registered(services, flow_name):
    """Register a flow of that name with a deployment, and return the deployment."""
    context = open_context(services)
    registry = context.model_db_service()
    registry.store_project("beams", "")
    model_id = registry.store_model(
        author="a", laboratory="l", facility="f", beampath="b", description="d"
    )
    deployment_id = registry.store_deployment(
        model_id=model_id,
        version="1.0",
        source="file:///nowhere.tar.gz",
        sha256="0" * 64,
        package_import_name="nowhere",
        entrypoints={flow_name: "nowhere:flow"},
    )
    context.scheduling_service().register_flow(flow_name, "beams", deployment_id)
    return deployment_id


def test_a_registered_flows_result_knows_project_and_deployment(services):
    """Project and deployment are those of the registry's row of the flow."""

    @flow(name="registered-one")
    def made():
        return store_result({"x": 1}, {"y": 2}, services=services)

    deployment_id = registered(services, "registered-one")
    made()
    (result,) = stored(services, "beams")
    assert result.deployment_id == deployment_id


def test_what_runs_wins_over_what_the_registry_points_at(services):
    """The deployment that the composer started is recorded, not the live one."""

    @flow(name="registered-two")
    def made():
        return store_result({"x": 1}, {"y": 2}, services=services)

    registered(services, "registered-two")
    token = running_deployment.set(77)
    try:
        made()
    finally:
        running_deployment.reset(token)
    assert stored(services, "beams")[0].deployment_id == 77


def test_a_worker_names_the_deployment_in_the_environment(services, monkeypatch):
    """PREFECT_LUME_DEPLOYMENT_ID is recorded as the deployment."""
    monkeypatch.setenv("PREFECT_LUME_DEPLOYMENT_ID", "12")

    @flow(name="on-a-worker")
    def made():
        return store_result({"x": 1}, {"y": 2}, services=services)

    made()
    assert stored(services)[0].deployment_id == 12


def test_submitted_and_mapped_tasks_know_their_run(services):
    """In the threads of a task runner a result knows its run as well."""

    @flow(name="threads")
    def made():
        futures = store_result.map(
            [{"x": 1}, {"x": 2}, {"x": 3}],
            unmapped({"y": 0}),
            services=unmapped(services),
        )
        return [future.result() for future in futures]

    state = made(return_state=True)
    results = stored(services)
    assert {result.flow_run_id for result in results} == {
        str(state.state_details.flow_run_id)
    }
    assert sorted(result.inputs["x"] for result in results) == [1, 2, 3]


def test_async_flows_store_and_load(services):
    """In an async flow the tasks are called, or submitted to leave the loop free."""

    @flow(name="async")
    async def made():
        first = store_result({"x": 1}, {"y": 2}, services=services)
        second = store_result.submit({"x": 2}, {"y": 4}, services=services).result()
        return [
            load_result(reference, ["outputs", "y"], services=services)
            for reference in (first, second)
        ]

    assert asyncio.run(made()) == [2, 4]


def test_a_retried_flow_stores_one_result(services):
    """A flow run that is retried stores the same result once."""
    attempts = []

    @flow(name="retried", retries=1)
    def made():
        reference = store_result({"x": 1}, {"y": 2}, services=services)
        attempts.append(reference)
        if len(attempts) == 1:
            raise RuntimeError("the first attempt fails after storing")

    made()
    assert len(attempts) == 2
    assert attempts[0] == attempts[1]
    assert len(stored(services)) == 1


def test_two_runs_store_two_results(services):
    """Another run of the same flow with the same values is another result."""

    @flow(name="twice")
    def made():
        return store_result({"x": 1}, {"y": 2}, services=services)

    assert made().unique_hash != made().unique_hash
    assert len(stored(services)) == 2


def test_on_duplicate_raise(services):
    """Storing the very result again raises, if that is asked for."""
    arguments = {"services": services, "on_duplicate": "raise"}
    store_result.fn({"x": 1}, {"y": 2}, **arguments)
    with pytest.raises(ConflictError, match="already"):
        store_result.fn({"x": 1}, {"y": 2}, **arguments)


def test_an_impact_result_with_its_archive(services):
    """Further fields of the document's class are keyword arguments."""
    archive = save_file.fn(b"particles", "final.h5", format="bytes", services=services)
    reference = store_result.fn(
        {"x": 1},
        {"sigma_x": np.arange(3.0)},
        result_type=ImpactResult,
        archive=archive,
        services=services,
    )
    result = load_result.fn(reference, services=services)
    assert isinstance(result, ImpactResult)
    assert result.archive == archive
    assert result.outputs["sigma_x"].tolist() == [0, 1, 2]


def test_an_unknown_field_is_refused_and_nothing_stored(services):
    """A field that the class has not is named."""
    with pytest.raises(ValueError, match="archve"):
        store_result.fn({"x": 1}, {}, archve=3, services=services)
    with pytest.raises(NotFoundError):
        stored(services)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (["outputs", "a", "b", 1], 5),
        (["inputs"], {"x": 1}),
        (["outputs", "array", 2], 2.0),
    ],
)
def test_one_value_of_a_result(services, path, expected):
    """attribute_index leads to one value of the document, arrays included."""
    outputs = {"a": {"b": [4, 5]}, "array": np.arange(20_000.0)}
    reference = store_result.fn({"x": 1}, outputs, services=services)
    assert load_result.fn(reference, path, services=services) == expected
    as_json = reference.model_dump(mode="json")
    assert load_result.fn(as_json, path, services=services) == expected
    narrowed = reference.narrowed(None, path)
    assert load_result.fn(narrowed, services=services) == expected
    if len(path) > 1:
        field, *rest = path
        found = load_result.fn(reference, rest, attribute=field, services=services)
        assert found == expected


def test_a_value_that_is_not_there_names_what_is(services):
    """A wrong path names the keys at the step that fails."""
    reference = store_result.fn({"x": 1}, {"sigma_x": 2}, services=services)
    with pytest.raises(NotFoundError, match="sigma_x"):
        load_result.fn(reference, ["outputs", "sigma"], services=services)


@pytest.mark.parametrize("reference", [None, "hash", {"project_name": "p"}, 3])
def test_what_is_no_reference_is_refused(services, reference):
    """The error says what a reference is."""
    with pytest.raises(InvalidInputError, match="ResultReference"):
        load_result.fn(reference, services=services)


def test_large_results_stay_out_of_prefect(services):
    """What load_result returns is not persisted by Prefect, whatever the settings."""
    assert load_result.persist_result is False
    assert isinstance(Context(services).results_db_service().store(_large()), object)


def _large():
    return Result(project_name="p", inputs={}, outputs={"a": np.zeros(10_000)})


def test_tasks_can_be_renamed(services):
    """with_options(name=...) gives a task the name that a mapping refers to."""
    renamed = store_result.with_options(name="store_transport")

    @task
    def nothing():
        return None

    @flow(name="renamed")
    def made():
        nothing()
        return renamed({"x": 1}, {"y": 2}, services=services)

    assert made().unique_hash
    assert renamed.name == "store_transport"
