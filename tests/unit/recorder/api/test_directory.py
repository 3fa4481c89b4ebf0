"""The facts about flow runs, from a server that is asked as little as possible."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient

from prefect_lume.pipelines.changes import FlowRunFacts
from prefect_lume.recorder.api import directory as directory_module
from prefect_lume.recorder.api.directory import FlowRunDirectory, input_data
from prefect_lume.recorder.api.links import DeploymentLinks
from prefect_lume.recorder.marks import PIPELINE_TAG, object_tag
from prefect_lume.registry import ModelDBService
from prefect_lume.storage.sql import get_engine

CREATED = "2026-11-20T19:31:32.099250Z"


class Server:
    """A Prefect server that knows what it is told, and counts its requests."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, dict[str, Any]]] = {
            "flow_runs": {},
            "flows": {"flow": {"id": "flow", "name": "scan"}},
            "task_runs": {},
            "deployments": {},
        }
        self.asked: list[tuple[str, int]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            # Whether it wants tokens: it does not.
            return httpx.Response(422, json={"detail": "CSRF protection is disabled."})
        noun = request.url.path.split("/")[-2]
        wanted = json.loads(request.content)[noun]["id"]["any_"]
        self.asked.append((noun, len(wanted)))
        known = self.known[noun]
        return httpx.Response(200, json=[known[id_] for id_ in wanted if id_ in known])

    def add_run(self, id_: str, **changed: Any) -> dict[str, Any]:
        run = {
            "id": id_,
            "name": f"name of {id_}",
            "flow_id": "flow",
            "parameters": {},
            "tags": [],
            "created": CREATED,
            "deployment_id": None,
            "deployment_version": None,
            "parent_task_run_id": None,
            "work_pool_name": None,
            "job_variables": {},
            **changed,
        }
        self.known["flow_runs"][id_] = run
        return run

    def add_below(self, parent: str, id_: str, **changed: Any) -> None:
        """Add a subflow's run, with the task run that stands for it."""
        task = f"task of {id_}"
        self.known["task_runs"][task] = {"id": task, "flow_run_id": parent}
        self.add_run(id_, parent_task_run_id=task, **changed)


@pytest.fixture
def server() -> Server:
    """The server of a test."""
    return Server()


@pytest.fixture
def client(server: Server) -> Iterator[SyncPrefectClient]:
    """A real client of that server."""
    made = SyncPrefectClient("http://prefect.example/api")
    made._client._transport = httpx.MockTransport(server.answer)
    made._client._mounts = {}
    yield made
    made._client.close()


def test_facts_of_a_plain_run(server: Server, client: SyncPrefectClient) -> None:
    """Flow, parameters, name and runner come from the server."""
    server.add_run("run", parameters={"charge": 1e-9}, work_pool_name="beamlines")
    facts = FlowRunDirectory(client).facts(["run"])["run"]
    assert (facts.run_id, facts.flow_run_id) == ("run", "run")
    assert (facts.pipeline_id, facts.flow_id) == ("scan", "flow")
    assert (facts.run_name, facts.runner) == ("name of run", "beamlines")
    assert facts.input_data == {"charge": 1e-9}
    assert facts.created is not None
    assert facts.created.isoformat() == "2026-11-20T19:31:32.099250+00:00"
    assert not facts.is_mapped
    assert not facts.is_object


def test_what_does_not_change_is_asked_once(
    server: Server, client: SyncPrefectClient
) -> None:
    """Ten batches about the same runs cost the requests of one."""
    for number in range(3):
        server.add_run(f"run {number}")
    directory = FlowRunDirectory(client)
    for _ in range(10):
        assert len(directory.facts(["run 0", "run 1", "run 2"])) == 3
    assert server.asked == [("flow_runs", 3), ("flows", 1)]


def test_many_runs_are_asked_for_in_pages(
    server: Server, client: SyncPrefectClient
) -> None:
    """The API takes 200 ids at once; the order of the answer is that of the ids."""
    ids = [f"run {number}" for number in range(450)]
    for id_ in ids:
        server.add_run(id_)
    found = FlowRunDirectory(client, size=100).facts(ids)
    assert list(found) == ids
    pages = [count for noun, count in server.asked if noun == "flow_runs"]
    assert pages == [200, 200, 50]


def test_only_so_many_runs_are_kept(server: Server, client: SyncPrefectClient) -> None:
    """The run that was not used for longest makes room."""
    for id_ in "abc":
        server.add_run(id_)
    directory = FlowRunDirectory(client, size=2)
    for id_ in ("a", "b", "a", "c"):
        directory.facts([id_])
    server.asked.clear()
    directory.facts(["a"])
    assert server.asked == []
    directory.facts(["b"])
    assert server.asked == [("flow_runs", 1)]


def test_the_caller_may_change_what_it_gets(
    server: Server, client: SyncPrefectClient
) -> None:
    """Facts are copies: a sign of life in one batch is none in the next."""
    server.add_run("run")
    directory = FlowRunDirectory(client)
    directory.facts(["run"])["run"].runner = "changed"
    assert directory.facts(["run"])["run"].runner == "process"


def test_a_subflow_knows_the_run_above(
    server: Server, client: SyncPrefectClient
) -> None:
    """The parent is found through the task run that stands for the subflow."""
    server.add_run("parent")
    server.add_below("parent", "child")
    facts = FlowRunDirectory(client).facts(["child", "parent"])
    assert facts["child"].parent_run_id == "parent"
    assert facts["parent"].parent_run_id is None


def test_a_parent_that_is_not_there_yet_is_asked_for_again(
    server: Server, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task run above may become known after the flow run below."""
    monkeypatch.setattr(directory_module, "_SHORTLY", -1.0)
    server.add_run("child", parent_task_run_id="late")
    directory = FlowRunDirectory(client)
    assert directory.facts(["child"])["child"].parent_run_id is None
    server.known["task_runs"]["late"] = {"id": "late", "flow_run_id": "parent"}
    assert directory.facts(["child"])["child"].parent_run_id == "parent"


def pipeline(server: Server, objects: list[Any]) -> None:
    """Add a run over objects, and the run for the second of them."""
    parameters = {"pipeline": "scan", "objects": objects, "parameter": "shot"}
    server.add_run("pipeline", tags=[PIPELINE_TAG], parameters=parameters)
    tags = ["night", object_tag(1)]
    server.add_below("pipeline", "object", tags=tags, parameters={"shot": objects[1]})


def test_a_pipeline_over_objects(server: Server, client: SyncPrefectClient) -> None:
    """The child of a pipeline's run works on one of its objects, under its id."""
    pipeline(server, [{"n": 1}, {"n": 2}])
    facts = FlowRunDirectory(client).facts(["object", "pipeline"])
    child, parent = facts["object"], facts["pipeline"]
    assert (child.run_id, child.flow_run_id) == ("pipeline", "object")
    assert (child.index, child.pipeline_object) == (1, {"n": 2})
    assert child.pipeline_id == parent.pipeline_id == "scan"
    assert (parent.run_id, parent.is_mapped, parent.is_object) == (
        "pipeline",
        True,
        False,
    )
    assert parent.input_data is not None
    assert parent.input_data["objects"] == [{"n": 1}, {"n": 2}]


def test_a_long_list_of_objects_is_not_kept_twice(
    server: Server, client: SyncPrefectClient
) -> None:
    """The pipeline results have the objects: of many, the run keeps their number."""
    pipeline(server, [{"n": number} for number in range(1000)])
    facts = FlowRunDirectory(client).facts(["pipeline"])["pipeline"]
    assert facts.input_data == {
        "pipeline": "scan",
        "objects": {"count": 1000},
        "parameter": "shot",
    }


def test_tags_that_a_subflow_took_over_make_it_no_object(
    server: Server, client: SyncPrefectClient
) -> None:
    """A subflow of the run on an object is an execution of its own."""
    pipeline(server, [1, 2])
    tags = [PIPELINE_TAG, object_tag(1)]
    server.add_below("object", "subflow", tags=tags, parameters={"shot": 2})
    facts = FlowRunDirectory(client).facts(["subflow"])["subflow"]
    assert (facts.run_id, facts.parent_run_id) == ("subflow", "object")
    assert not facts.is_object
    assert not facts.is_mapped


def test_a_run_that_the_server_does_not_know_is_what_the_event_says(
    server: Server, client: SyncPrefectClient
) -> None:
    """A deleted run has the facts of the hint, or none but its id."""
    directory = FlowRunDirectory(client)
    hint = FlowRunFacts(run_id="gone", flow_run_id="gone", pipeline_id="scan")
    assert directory.facts(["gone"], {"gone": hint})["gone"].pipeline_id == "scan"
    bare = directory.facts(["lost"])["lost"]
    assert bare == FlowRunFacts(run_id="lost", flow_run_id="lost")
    asked = len(server.asked)
    directory.facts(["gone", "lost"])
    assert len(server.asked) == asked


def test_the_name_that_a_run_gets_when_it_begins_is_taken_from_the_event(
    server: Server, client: SyncPrefectClient
) -> None:
    """What was looked up before the run began has the name from before."""
    server.add_run("run")
    directory = FlowRunDirectory(client)
    early = FlowRunFacts(run_id="run", flow_run_id="run", run_name="name of run")
    assert directory.facts(["run"], {"run": early})["run"].is_named is False
    hint = FlowRunFacts(
        run_id="run", flow_run_id="run", run_name="shot 17", is_named=True
    )
    facts = directory.facts(["run"], {"run": hint})["run"]
    assert (facts.run_name, facts.is_named) == ("shot 17", True)


def test_what_is_learnt_is_not_asked_for(
    server: Server, client: SyncPrefectClient
) -> None:
    """Who runs a flow knows its facts; forgotten, they are asked for."""
    server.add_run("run")
    directory = FlowRunDirectory(client)
    directory.learn(FlowRunFacts(run_id="run", flow_run_id="run", pipeline_id="mine"))
    assert directory.facts(["run"])["run"].pipeline_id == "mine"
    assert server.asked == []
    directory.forget(["run", "never known"])
    assert directory.facts(["run"])["run"].pipeline_id == "scan"


def test_a_server_that_answers_with_an_error_is_not_hidden(
    server: Server, client: SyncPrefectClient
) -> None:
    """Facts that could not be asked for are not made up."""
    client._client._transport = httpx.MockTransport(lambda _: httpx.Response(404))
    with pytest.raises(httpx.HTTPError):
        FlowRunDirectory(client).facts(["run"])


class NoRegistry:
    """A context without any registered flow."""

    def __init__(self) -> None:
        self.registry = ModelDBService(get_engine("sqlite://"))
        self.registry.apply_schema()

    def model_db_service(self) -> ModelDBService:
        return self.registry


def _env(number: int) -> dict[str, Any]:
    return {"env": {"PREFECT_LUME_DEPLOYMENT_ID": str(number)}}


@pytest.mark.parametrize(
    ("own", "shared", "version", "found"),
    [
        (_env(1), _env(2), "v1", 1),
        ({}, _env(2), "v1", 2),
        ({}, _env(2), "v2", None),
        ({}, _env(2), None, 2),
        ({}, {}, "v1", None),
    ],
    ids=["the run's own", "the Prefect deployment's", "changed since", "any", "none"],
)
def test_the_registry_s_deployment_comes_from_job_variables(
    server: Server,
    client: SyncPrefectClient,
    own: dict[str, Any],
    shared: dict[str, Any],
    version: str | None,
    found: int | None,
) -> None:
    """The run's win; those of a Prefect deployment that changed since do not count."""
    server.add_run("run", deployment_id="d", deployment_version="v1", job_variables=own)
    server.known["deployments"]["d"] = {
        "id": "d",
        "version": version,
        "job_variables": shared,
    }
    directory = FlowRunDirectory(client, DeploymentLinks(NoRegistry()))
    for _ in range(3):
        facts = directory.facts(["run"])["run"]
        assert (facts.deployment_id, facts.prefect_deployment_id) == (found, "d")
    assert [noun for noun, _ in server.asked].count("deployments") == 1


def test_long_parameters_are_cut_one_by_one() -> None:
    """One long parameter does not hide the others."""
    data = input_data({"long": "x" * 100_000, "charge": 1.0})
    assert data["charge"] == 1.0
    assert data["long"]["type"] == "builtins.str"
