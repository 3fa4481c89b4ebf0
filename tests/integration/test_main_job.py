"""The main job in all four settings: the same numbers, whatever holds and runs them."""

import time
import uuid
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from pydantic import SecretStr
from sqlalchemy import make_url

from prefect_lume import (
    FlowOfFlows,
    LumeServices,
    Model,
    MongoDBCredentials,
    MySQLCredentials,
    migrations,
)
from prefect_lume.config import open_context
from prefect_lume.results.hashing import unique_hash

EXAMPLE = Path(__file__).parents[2] / "examples" / "injector"
PROJECT = "injector"
PARAMETERS = {"generate__n_particle": 400, "generate__seed": 7, "transport__steps": 5}
#: What the chain stores, by result type and plane.
EXPECTED = [("Generic", "x"), ("Generic", "y"), ("Impact", None)]

pytestmark = [pytest.mark.service("prefect"), pytest.mark.timeout(400)]


@pytest.fixture
def embedded(tmp_path):
    """The embedded default, in a folder of its own."""
    return LumeServices(home=str(tmp_path / "lume"))


@pytest.fixture
def servers(tmp_path, request):
    """Registry in MySQL, results in the MongoDB-wire server, files in a Block."""
    url = make_url(request.getfixturevalue("mysql_url"))
    registry = MySQLCredentials(
        host=url.host,
        port=url.port,
        username=url.username,
        password=SecretStr(url.password),
        database=url.database,
    )
    migrations.upgrade(registry.get_engine())
    results = MongoDBCredentials(uri=SecretStr(request.getfixturevalue("mongodb_url")))
    return LumeServices(
        registry=registry, results_mongodb=results, home=str(tmp_path / "lume")
    )


def prepare(services):
    """Register the example, and read its flow-of-flows back from the registry."""
    context = open_context(services)
    context.scheduling_service().create_project(PROJECT, "test")
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


def stored(services, deployment):
    """Return what was stored as (type, plane) → fingerprint of its content."""
    found = {}
    for result in open_context(services).results_db_service().find(PROJECT):
        assert result.deployment_id == deployment.deployment_id
        assert result.flow_id is not None
        assert result.flow_run_id is not None
        inputs = {k: v for k, v in result.inputs.items() if k != "transport"}
        key = (result.result_type, inputs.get("plane"))
        assert key not in found
        parts = {"inputs": inputs, "outputs": result.outputs}
        if result.result_type == "Impact":
            parts["archive"] = result.archive
        found[key] = unique_hash(parts)
    assert sorted(found, key=str) == EXPECTED
    return found


@pytest.fixture(scope="module")
def reference():
    """Setting → what it stored: every setting is compared with the first."""
    return {}


def compare(reference, setting, found):
    """Each setting stores what every other one does."""
    reference[setting] = found
    first = next(iter(reference.values()))
    assert found == first, setting


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("setting", ["embedded", "servers"])
def test_in_process(setting, request, reference):
    """In process, embedded and servers store the same results."""
    services = request.getfixturevalue(setting)
    deployment, chain = prepare(services)
    runs = chain.compose()(**PARAMETERS)
    assert set(runs) == {"generate", "transport", "analyse_x", "analyse_y"}
    compare(reference, f"{setting}, in process", stored(services, deployment))


@pytest.mark.parametrize("setting", ["embedded", "servers"])
def test_as_deployments_on_a_work_pool(setting, request, reference, work_pool):
    """As deployments on a process work pool, both store the same results again."""
    services = f"lume-{uuid.uuid4().hex[:8]}"
    request.getfixturevalue(setting).save(services)
    deployment, chain = prepare(services)
    names = chain.deploy_subflows(work_pool)
    assert len(names) == 3
    runs = chain.compose()(run_subflows="deployments", **PARAMETERS)
    with get_client(sync_client=True) as client:
        for run in runs.values():
            assert client.read_flow_run(uuid.UUID(run)).work_pool_name == work_pool
    compare(reference, f"{setting}, deployments", stored(services, deployment))


@pytest.mark.usefixtures("prefect_server")
def test_second_run_adds_and_changes_nothing(embedded):
    """Running again adds results; the first run's documents stay as they were."""
    _, chain = prepare(embedded)
    parent = chain.compose()
    parent(**PARAMETERS)
    service = open_context(embedded).results_db_service()
    before = {result.unique_hash: result for result in service.find(PROJECT)}
    time.sleep(0.01)
    parent(**PARAMETERS)
    after = {result.unique_hash: result for result in service.find(PROJECT)}
    assert len(after) == 2 * len(before) == 6
    for key, result in before.items():
        assert after[key] == result
        assert after[key].date_modified == result.date_modified
