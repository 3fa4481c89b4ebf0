"""A model runs its deployments, and finds what they made."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

from prefect_lume import provenance
from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import (
    ConflictError,
    DecodingError,
    FlowRunError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    PackageError,
    QueryError,
)
from prefect_lume.models import Model
from prefect_lume.registry import DeploymentRecord

PROBE = Path(__file__).parents[1] / "model_packages" / "lume_probe"
FIELDS = {
    "author": "Jackie Garrahan",
    "laboratory": "slac",
    "facility": "lcls",
    "beampath": "cu_hxr",
    "description": "test_model",
}

Release = Callable[..., DeploymentRecord]


pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.service("prefect"),
]


@pytest.fixture
def services(tmp_path: Path) -> LumeServices:
    """Embedded services in a folder of their own, with a project."""
    services = LumeServices(home=str(tmp_path / "lume"))
    open_context(services).scheduling_service().create_project("test")
    return services


@pytest.fixture
def model(services: LumeServices) -> Model:
    """A registered model."""
    return Model.create_model(**FIELDS, services=services)


@pytest.fixture
def release(tmp_path: Path, model: Model) -> Iterator[Release]:
    """Registers versions of a package that no other test has imported."""
    name = f"lume_probe_{uuid4().hex[:8]}"
    before = list(sys.path)

    def store(version: str = "1.0", **options: Any) -> DeploymentRecord:
        folder = tmp_path / version
        shutil.copytree(PROBE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "lume_probe").rename(folder / name)
        for path in (folder / "pyproject.toml", folder / name / "flow.py"):
            text = path.read_text().replace("lume_probe", name)
            path.write_text(text.replace('"1.0"', f'"{version}"'))
        return model.store_deployment(folder, "test", **options)

    yield store
    sys.path[:] = before


def test_a_run_belongs_to_the_deployment(
    services: LumeServices, model: Model, release: Release
) -> None:
    """The run is Prefect's, recorded, linked to the deployment, tagged by project."""
    deployment = release()
    run = model.run(parameters={"number": 4}, flow_name="scan")
    assert run.state is not None
    assert run.state.is_completed()
    assert run.name == "scan of 4"
    assert run.parameters == {"number": 4}
    assert run.tags == ["test"]
    (result,) = model.get_results()
    assert result.deployment_id == deployment.deployment_id
    assert result.flow_run_id == str(run.id)
    assert result.outputs == {"total": 12}
    trace = provenance.trace_run(open_context(services), str(run.id))
    assert trace.deployment == deployment
    assert trace.documents.total == 1


def test_a_failed_run_is_returned_and_has_no_result(
    model: Model, release: Release
) -> None:
    """A failed run is returned by run; run_and_return says why it has no result."""
    release()
    run = model.run(flow_name="broken")
    assert run.state is not None
    assert run.state.is_failed()
    with pytest.raises(FlowRunError, match="did not complete: RuntimeError: no beam"):
        model.run_and_return(flow_name="broken")


def test_recording_can_be_switched_off(
    services: LumeServices,
    model: Model,
    release: Release,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With PREFECT_LUME_RECORD=false a run is not recorded, and its results are."""
    release()
    monkeypatch.setenv("PREFECT_LUME_RECORD", "false")
    quiet = Model.get_model(services, model_id=model.model_id)
    run = quiet.run(flow_name="scan")
    storage = open_context(services).pipeline_storage()
    assert storage.get_pipeline_executions() == []
    assert [item.flow_run_id for item in quiet.get_results()] == [str(run.id)]


def test_results_of_the_flow_and_of_its_tasks(model: Model, release: Release) -> None:
    """Once run: the value; several times: a list in the order of the calls."""
    release()
    assert model.run_and_return({"number": 5}, flow_name="scan") == {
        "total": 20,
        "version": "1.0",
    }
    for _ in range(3):
        # The first ones take the longest, so that they end last.
        doubled = model.run_and_return(
            {"number": 5}, flow_name="scan", task_name="double"
        )
        assert doubled == [0, 2, 4, 6, 8]
    assert model.run_and_return(task_name="add_up", flow_name="scan") == 6
    assert model.run_and_return(flow_name="nothing") is None


def test_a_cached_run_of_a_task_counts(model: Model, release: Release) -> None:
    """Where one of a task's runs was cached, its result is in the list all the same."""
    release()
    numbers = {"first": 7, "second": 7}
    values = model.run_and_return(numbers, flow_name="reuse", task_name="cached")
    assert values == [21, 21]


def test_an_unknown_task_is_told_apart(model: Model, release: Release) -> None:
    """A task that did not run is not found, and the message names those that did."""
    release()
    with pytest.raises(NotFoundError, match="'add_up', 'double', 'store_result'") as it:
        model.run_and_return(flow_name="scan", task_name="dubble")
    assert "Did you mean 'double'?" in str(it.value)
    assert "parent_task_name" not in str(it.value)


def test_a_result_that_is_cached_elsewhere_is_refused_by_name(
    model: Model, release: Release
) -> None:
    """A task's result that an earlier run kept in another form says what to do."""
    release()
    assert model.run_and_return({"first": 8, "second": 9}, flow_name="reuse") == 51
    with pytest.raises(DecodingError, match="cached by an earlier run"):
        model.run_and_return(
            {"first": 8, "second": 9}, flow_name="reuse", task_name="cached"
        )


async def _in_a_loop(call: Callable[[], Any]) -> Any:
    return call()


def test_async_flows_run_with_and_without_a_loop(
    model: Model, release: Release
) -> None:
    """An async flow of a model runs from plain code, and from code in a loop."""
    import asyncio

    release()

    def call() -> Any:
        return model.run_and_return({"number": 4}, flow_name="later")

    assert call() == 8
    assert asyncio.run(_in_a_loop(call)) == 8


@pytest.mark.parametrize("name", ["scan", "later"])
def test_a_run_in_a_flow_is_its_child(
    model: Model, release: Release, name: str
) -> None:
    """A model that is run in a flow is a subflow there, from sync and async code."""
    import asyncio

    release()

    @flow(name=f"parent of {name}")
    def parent() -> str:
        return str(model.run({"number": 2}, flow_name=name).id)

    @flow(name=f"async parent of {name}")
    async def async_parent() -> str:
        return str(model.run({"number": 2}, flow_name=name).id)

    for outcome in (
        parent(return_state=True),
        asyncio.run(async_parent(return_state=True)),
    ):
        parent_run = outcome.state_details.flow_run_id
        with get_client(sync_client=True) as client:
            children = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent_run])
                )
            )
        assert [str(child.id) for child in children] == [outcome.result()]


def test_the_chosen_deployment_is_the_one_that_runs(
    model: Model, release: Release
) -> None:
    """By version, number or alias, or the live one; it stays when another goes live."""
    first = release(aliases=["candidate"]).deployment_id
    second = release("2.0").deployment_id
    assert model.deployment.deployment_id == second
    assert model.load_deployment("1.0").deployment_id == first
    assert model.load_deployment(deployment_id=second).version == "2.0"
    assert model.load_deployment(alias="latest").deployment_id == second
    assert model.load_deployment().deployment_id == second
    assert model.load_deployment(alias="candidate").deployment_id == first
    assert model.deployment.deployment_id == first
    aliases = {name: found.deployment_id for name, found in model.aliases.items()}
    assert aliases == {"candidate": first}
    value = model.run_and_return(flow_name="scan")
    assert value["version"] == "1.0"
    (result,) = model.get_results()
    assert result.deployment_id == first
    other = Model.get_model(model._context.services, model_id=model.model_id)
    assert other.get_results() == []
    with pytest.raises(PackageError, match=r"uses version 1\.0"):
        other.load_deployment(load_artifacts=True)


def test_what_cannot_be_loaded_is_named(model: Model, release: Release) -> None:
    """No live one, an unknown one, and two ways to say which are told apart."""
    with pytest.raises(NotFoundError, match="no live deployment"):
        model.load_deployment()
    release(is_live=False)
    with pytest.raises(NotFoundError, match="live"):
        model.run()
    with pytest.raises(NotFoundError, match=r"3\.0"):
        model.load_deployment("3.0")
    with pytest.raises(NotFoundError, match="candidate"):
        model.load_deployment(alias="candidate")
    with pytest.raises(NotFoundError, match="404"):
        model.load_deployment(deployment_id=404)
    with pytest.raises(InvalidInputError, match="one of version"):
        model.load_deployment("1.0", alias="live")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "offers 5 flows .*say which one by flow_name"),
        ({"flow_name": "scan", "parameters": {"nmber": 3}}, "It takes 'number'"),
        ({"flow_name": "scan", "run_on": "moon"}, "must be 'process' or 'deployment'"),
        ({"flow_name": "scan", "wait": False}, "run_on='deployment'"),
        ({"flow_name": "scan", "timeout": 3}, "run_on='deployment'"),
        ({"flow_name": "scan", "timeout": -1}, "must not be negative"),
        ({"prefect_deployment": "scan"}, "not named flow/deployment"),
        ({"prefect_deployment": "a/b", "flow_name": "scan"}, "named scan/deployment"),
    ],
)
def test_wrong_arguments_of_a_run_are_named(
    model: Model, release: Release, options: dict[str, Any], words: str
) -> None:
    """What does not go together is refused before anything runs."""
    release()
    with pytest.raises(InvalidInputError, match=words):
        model.run(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"flow_name": "skan"},
        {"flow_name": "skan", "run_on": "deployment"},
        {"prefect_deployment": "skan/test"},
    ],
)
def test_an_unknown_flow_is_named(
    model: Model, release: Release, options: dict[str, Any]
) -> None:
    """A flow that the deployment does not offer is not found; the nearest is told."""
    release()
    with pytest.raises(NotFoundError, match="Did you mean 'scan'"):
        model.run(**options)


def test_a_missing_prefect_deployment_is_named(model: Model, release: Release) -> None:
    """Without one of the default name, the message says how to make it."""
    release()
    with pytest.raises(NotFoundError, match=r"scan/test.*deploy_subflows"):
        model.run(flow_name="scan", run_on="deployment")


def test_a_changed_source_is_not_run(
    services: LumeServices, model: Model, release: Release
) -> None:
    """A package whose bytes are not the registered ones is refused."""
    deployment = release()
    kept = Path(deployment.source.removeprefix("file://"))
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="not the package that was registered"):
        model.run(flow_name="scan")


class Counted:
    """Counts the queries that a results store gets."""

    def __init__(self, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queries: list[str] = []
        for name in ("find", "count", "distinct", "collections"):
            monkeypatch.setattr(store, name, self._counting(name, getattr(store, name)))

    def _counting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            self.queries.append(name)
            return call(*args, **options)

        return counting


def test_results_are_found_by_one_query(
    services: LumeServices,
    model: Model,
    release: Release,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one deployment or of all, as documents or as a table: one query each."""
    release()
    for number in (2, 3):
        model.run({"number": number}, flow_name="scan")
    first = model.deployment
    release("2.0")
    context = open_context(services)
    store = context.results_db_service().db_service
    counted = Counted(store, monkeypatch)

    def totals(results: list[Any]) -> list[int]:
        return [item.outputs["total"] for item in results]

    assert model.get_results() == []
    counted.queries.clear()
    assert totals(model.get_results(all_deployments=True)) == [2, 6]
    query = {"inputs.number": {"$gte": 3}}
    assert totals(model.get_results(query=query, all_deployments=True)) == [6]
    model.load_deployment(first.version)
    assert totals(model.get_results(sort="-date_modified", limit=1)) == [6]
    table = model.get_results_df(query)
    assert list(table["outputs.total"]) == [6]
    assert list(table["deployment_id"]) == [first.deployment_id]
    assert counted.queries == ["find"] * 4


def test_a_model_without_results_has_an_empty_table(
    model: Model, release: Release
) -> None:
    """Before its first result a model has none, and that is no error."""
    release()
    assert model.get_results() == []
    assert model.get_results(all_deployments=True) == []
    table = model.get_results_df()
    assert len(table) == 0
    assert "deployment_id" in table.columns
    with pytest.raises(NotFoundError, match="elsewhere"):
        model.get_results(project_name="elsewhere")


def test_results_of_a_renamed_project_are_found(
    services: LumeServices, model: Model, release: Release
) -> None:
    """Results stay under the name they were stored with, and come with the others."""
    deployment = release()
    scheduling = open_context(services).scheduling_service()
    model.run({"number": 2}, flow_name="scan")
    scheduling.rename_project("test", "beam")
    for number in (3, 4):
        model.run({"number": number}, flow_name="scan")
    results = model.get_results()
    assert [r.project_name for r in results] == ["test", "beam", "beam"]
    assert [r.inputs["number"] for r in results] == [2, 3, 4]
    assert [r.inputs["number"] for r in model.get_results(skip=1, limit=1)] == [3]
    table = model.get_results_df()
    assert list(table["inputs.number"]) == [2, 3, 4]
    assert list(table["deployment_id"]) == [deployment.deployment_id] * 3
    assert list(model.get_results_df(limit=2)["inputs.number"]) == [2, 3]
    assert len(model.get_results(project_name="test")) == 1
    with pytest.raises(InvalidInputError, match="say by project_name"):
        model.get_results(sort="inputs.number")


def test_a_wrong_query_is_refused(model: Model, release: Release) -> None:
    """What the query language does not have is refused by name."""
    release()
    with pytest.raises(QueryError, match=r"\$where"):
        model.get_results({"$where": "1"})


def test_a_deployment_that_made_something_is_not_deleted(
    services: LumeServices, model: Model, release: Release
) -> None:
    """Results and runs protect it, the message says how many; force does not ask."""
    unused = release("0.9")
    used = release()
    model.run(flow_name="scan")
    release("2.0")
    model.delete_deployment(unused.deployment_id)
    with pytest.raises(ConflictError, match="has 1 result and 1 run, which"):
        model.delete_deployment(used.deployment_id)
    assert [item.version for item in model.deployments] == ["1.0", "2.0"]
    model.delete_deployment(used.deployment_id, force=True, reason="spoilt")
    (event, *_) = (
        open_context(services)
        .model_db_service()
        .get_history(model_id=model.model_id, kind="deployment.deleted", limit=1)
    )
    assert event.reason == "spoilt"
    with pytest.raises(NotFoundError):
        model.delete_deployment(used.deployment_id)


def test_a_deployment_of_another_model_is_not_deleted(
    services: LumeServices, model: Model, release: Release
) -> None:
    """A model deletes and loads its own deployments only."""
    deployment = release()
    fields = {**FIELDS, "description": "another"}
    other = Model.create_model(**fields, services=services)
    with pytest.raises(NotFoundError):
        other.delete_deployment(deployment.deployment_id, force=True)
    with pytest.raises(NotFoundError):
        other.load_deployment(deployment_id=deployment.deployment_id)
    assert model.deployments == (deployment,)


def test_a_release_is_stored_with_all_that_is_said_of_it(
    services: LumeServices, model: Model, release: Release
) -> None:
    """Description, tags, aliases, parent and reason are the registry's, too."""
    first = release()
    second = release(
        "2.0",
        description="trained on the first",
        tags={"stage": "test"},
        aliases=["candidate"],
        parent_deployment_id=first.deployment_id,
        reason="better",
        is_live=False,
    )
    assert second.description == "trained on the first"
    assert second.tags == {"stage": "test"}
    assert second.aliases == ("candidate",)
    assert second.parent_deployment_id == first.deployment_id
    (event,) = (
        open_context(services)
        .model_db_service()
        .get_history(deployment_id=second.deployment_id, kind="deployment.stored")
    )
    assert event.reason == "better"
    assert event.happened - second.deploy_date < timedelta(minutes=5)
