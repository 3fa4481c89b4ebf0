"""A project's row in the registry and its tag on Prefect deployments stay in step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_lume.composer import FlowOfFlows
from prefect_lume.composer.location import find_prefect_deployment
from prefect_lume.composer.registering import register
from prefect_lume.composition import ComposingFlow, FlowOfFlowsSpec, MappedParameter
from prefect_lume.config import Context, tagging
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import (
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
)

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.service("prefect"),
]

Deploy = Callable[..., UUID]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """Embedded services in a folder of their own."""
    return Context(LumeServices(home=str(tmp_path / "lume")))


@pytest.fixture
def names() -> tuple[str, str]:
    """Names of a project, which no other test has on that server."""
    own = uuid4().hex[:8]
    return f"old {own}", f"new/{own} ✓"


@pytest.fixture
def made() -> Deploy:
    """Makes Prefect deployments of flows by name."""

    def make(flow_name: str, name: str, tags: list[str], **more: Any) -> UUID:
        @flow(name=flow_name)
        def some(number: int = 3) -> int:
            return number

        with get_client(sync_client=True) as client:
            return client.create_deployment(
                flow_id=client.create_flow(some),
                name=name,
                tags=tags,
                parameter_openapi_schema=some.parameters.model_dump_for_openapi(),
                **more,
            )

    return make


def read(deployment_id: UUID) -> DeploymentResponse:
    """Return a Prefect deployment."""
    with get_client(sync_client=True) as client:
        return client.read_deployment(deployment_id)


def facts(deployment: DeploymentResponse) -> dict[str, Any]:
    """Return all of a Prefect deployment but its tags and when it was changed."""
    plain = deployment.model_dump(mode="json", exclude={"tags", "updated"})
    for schedule in plain["schedules"]:
        schedule.pop("updated")
    return plain


def test_a_rename_follows_through(
    context: Context, names: tuple[str, str], made: Deploy
) -> None:
    """Rows, compositions and tags get the new name; nothing else is touched."""
    old, new = names
    scheduling, registry = context.scheduling_service(), context.model_db_service()
    scheduling.create_project(old, "described")
    first, second = f"first {old}", f"second {old}"
    for name in (first, second):
        scheduling.register_flow(name, old)
    spec = FlowOfFlowsSpec(
        name=f"chain {old}",
        project_name=old,
        composing_flows=[
            ComposingFlow(name=first),
            ComposingFlow(
                name=second,
                mapped_parameters={
                    "number": MappedParameter(
                        parent_flow_name=first, parent_project_name=old
                    )
                },
            ),
        ],
    )
    register(spec, context.services)
    every_hour = IntervalSchedule(interval=timedelta(hours=1))
    tagged = [
        made(
            first,
            old,
            ["nightly", old, "x"],
            parameters={"number": 7},
            description="as it was",
            paused=True,
            schedules=[DeploymentScheduleCreate(schedule=every_hour, active=False)],
            job_variables={"env": {"A": "1"}},
        ),
        made(second, "other", [new, old]),
    ]
    others = [
        made(second, "plain", ["nightly"]),
        made(f"third {old}", "another project's flow", [old]),
    ]
    before = {one: read(one) for one in (*tagged, *others)}

    assert scheduling.rename_project(old, new, reason="reorganised") == 2

    assert [read(one).tags for one in tagged] == [["nightly", new, "x"], [new]]
    assert [read(one).tags for one in others] == [["nightly"], [old]]
    assert [facts(read(one)) for one in before] == list(map(facts, before.values()))
    assert registry.get_project(new).description == "described"
    with pytest.raises(NotFoundError):
        registry.get_project(old)
    assert {flow.flow_name for flow in registry.get_flows(project_name=new)} == {
        first,
        second,
        spec.name,
    }
    read_back = FlowOfFlows.from_registry(spec.name, services=context.services).spec
    assert read_back.project_name == new
    assert {flow.project_name for flow in read_back.composing_flows} == {new}
    mapped = read_back.composing_flows[1].mapped_parameters["number"]
    assert mapped.parent_project_name == new
    (event,) = registry.get_history(project_name=new, kind="project.renamed")
    assert event.reason == "reorganised"
    # The Prefect deployment that was named after the project still serves it.
    with get_client(sync_client=True) as client:
        found = find_prefect_deployment(client, f"{first}/{new}", new)
    assert found.id == tagged[0]


def test_a_rename_is_finished_by_doing_it_again(
    context: Context,
    names: tuple[str, str],
    made: Deploy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prefect goes away half-way: the error says what is done, and again does it."""
    old, new = names
    scheduling = context.scheduling_service()
    scheduling.create_project(old)
    flows = [f"{name} {old}" for name in ("a", "b", "c")]
    for name in flows:
        scheduling.register_flow(name, old)
    deployments = [made(name, old, [old]) for name in flows]
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(ConnectionFailedError, match=r"is renamed to .* again when"),
    ):
        scheduling.rename_project(old, new)
    assert [read(one).tags for one in deployments] == [[old]] * 3
    # As if it had gone away after the first one.
    monkeypatch.setattr(tagging, "_PAGE", 1)
    assert tagging.retag([str(read(deployments[0]).flow_id)], old, new) == 1
    assert scheduling.rename_project(old, new) == 2
    assert [read(one).tags for one in deployments] == [[new]] * 3
    assert scheduling.rename_project(old, new) == 0


def test_a_rename_of_what_is_not_there_is_refused(
    context: Context, names: tuple[str, str]
) -> None:
    """An unknown project, one that never had that name, and a taken name."""
    old, new = names
    scheduling = context.scheduling_service()
    with pytest.raises(NotFoundError):
        scheduling.rename_project(old, new)
    scheduling.create_project(new)
    with pytest.raises(NotFoundError):
        scheduling.rename_project(old, new)
    scheduling.create_project(old)
    with pytest.raises(ConflictError, match="already"):
        scheduling.rename_project(old, new)
    with pytest.raises(InvalidInputError, match="new_name"):
        scheduling.rename_project(old, "")


def test_creating_a_project_again_tags_what_came_since(
    context: Context, names: tuple[str, str], made: Deploy
) -> None:
    """Prefect deployments of its flows that lack the tag get it, once."""
    name, _ = names
    scheduling = context.scheduling_service()
    assert scheduling.create_project(name, "described") == name
    scheduling.register_flow(f"a {name}", name)
    # A flow that Prefect never had: the registry takes any id.
    context.model_db_service().store_flow(
        flow_id="no uuid", flow_name="b", project_name=name
    )
    bare, tagged = made(f"a {name}", "bare", ["x"]), made(f"a {name}", "t", [name])
    before = read(tagged).updated
    scheduling.create_project(name)
    assert read(bare).tags == ["x", name]
    assert read(tagged).tags == [name]
    assert read(tagged).updated == before
    assert context.model_db_service().get_project(name).description == "described"


def test_a_new_project_needs_no_prefect(context: Context) -> None:
    """A project without flows has no Prefect deployments to ask for."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        context.scheduling_service().create_project("test")
        context.scheduling_service().rename_project("test", "other")
        assert context.scheduling_service().delete_project("other") == 0
    assert context.model_db_service().get_projects() == []


def test_a_deleted_project_takes_its_tag_along(
    context: Context, names: tuple[str, str], made: Deploy
) -> None:
    """The tag goes from what was its own; with flows, nothing at all goes."""
    name, other = names
    scheduling, registry = context.scheduling_service(), context.model_db_service()
    for project in (name, other):
        scheduling.create_project(project)
    kept, moved = (
        scheduling.register_flow(f"{what} {name}", name) for what in ("kept", "moved")
    )
    own = made(f"kept {name}", "own", ["x", name])
    elsewhere = made(f"moved {name}", "elsewhere", [name])
    with pytest.raises(ConflictError, match="2 flows"):
        scheduling.delete_project(name)
    for flow_id in (kept, moved):
        registry.delete_flow(flow_id)
    scheduling.register_flow(f"moved {name}", other)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(ConnectionFailedError, match="is not removed"),
    ):
        scheduling.delete_project(name)
    assert registry.get_project(name).project_name == name
    assert scheduling.delete_project(name, reason="over") == 1
    assert read(own).tags == ["x"]
    assert read(elsewhere).tags == [name]
    with pytest.raises(NotFoundError):
        scheduling.delete_project(name)
