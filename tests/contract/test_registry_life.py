"""The life of a deployment and the history of all changes, on every database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from prefect_lume import migrations
from prefect_lume.errors import ConflictError, InvalidInputError, NotFoundError
from prefect_lume.registry import ModelDBService, RegistryEvent, SubflowEntry
from prefect_lume.registry.service.base import Listener

DATABASES = [
    "sqlite",
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
]
FIELDS = {
    "author": "Jackie Garrahan",
    "laboratory": "slac",
    "facility": "lcls",
    "beampath": "cu_hxr",
    "description": "test_model",
}
SHA = "ab" * 32
ODD = '🜚 "quoted" \'and\' \\ % _ é\n{"a": [1]}'


@pytest.fixture(params=DATABASES)
def engine(
    request: pytest.FixtureRequest,
    emptied_database: Callable[[str, Callable[[Engine], None]], Engine],
) -> Engine:
    return emptied_database(request.param, migrations.upgrade)


@pytest.fixture
def registry(engine: Engine) -> ModelDBService:
    return ModelDBService(engine, migrate=migrations.upgrade, actor="tester")


@pytest.fixture
def model(registry: ModelDBService) -> int:
    return registry.store_model(**FIELDS)


def add(registry: ModelDBService, model: int, version: str, **values: Any) -> int:
    return registry.store_deployment(
        model_id=model,
        version=version,
        source=f"https://example.org/my_model-{version}.tar.gz",
        sha256=SHA,
        package_import_name="my_model",
        **{"is_live": False, "entrypoints": {"track": "my_model:track"}, **values},
    )


def kinds(events: tuple[RegistryEvent, ...]) -> list[str]:
    """Return what happened, the oldest first."""
    return [event.kind for event in reversed(events)]


def live_of(registry: ModelDBService, model: int) -> int | None:
    found = registry.get_deployments(model_id=model, is_live=True)
    return found[0].deployment_id if found else None


# --- the history ------------------------------------------------------------------


def test_every_change_is_an_event(registry: ModelDBService, model: int) -> None:
    """Each tells what, who, when, why, before and after; numbers have no gap."""
    begun = datetime.now(UTC)
    first = add(registry, model, "1", reason="initial")
    second = add(registry, model, "2")
    registry.promote(first, reason="beam time")
    event = registry.promote(second, reason="fixes the lattice")
    assert event is not None
    history = registry.get_history(model_id=model)
    assert [e.number for e in history] == [5, 4, 3, 2, 1]
    assert history[0] == event
    assert begun <= event.happened <= datetime.now(UTC)
    assert event == RegistryEvent(
        subject="model",
        subject_id=str(model),
        number=5,
        kind="deployment.promoted",
        happened=event.happened,
        actor="tester",
        reason="fixes the lattice",
        deployment_id=second,
        previous_deployment_id=first,
        before={"live": first},
        after={"live": second, "version": "2"},
    )
    assert event.model_id == model
    assert kinds(history) == [
        "model.stored",
        "deployment.stored",
        "deployment.stored",
        "deployment.promoted",
        "deployment.promoted",
    ]
    stored = history[3]
    assert stored.reason == "initial"
    assert stored.after["version"] == "1"
    assert stored.after["sha256"] == SHA


def test_what_changes_nothing_is_no_event(registry: ModelDBService, model: int) -> None:
    """Doing again what is done already leaves no trace, and says so."""
    number = add(registry, model, "1", is_live=True, aliases=["candidate"])
    registry.tag_deployment(number, {"a": "1"})
    before = registry.get_history(model_id=model)
    assert registry.promote(number) is None
    assert registry.set_alias(model, "candidate", number) is None
    assert registry.tag_deployment(number, {"a": "1", "b": None}) is None
    assert registry.describe_deployment(number, "") is None
    assert registry.restore_deployment(number) is None
    assert registry.store_model(**FIELDS) == model
    assert add(registry, model, "1", is_live=True) == number
    assert registry.get_history(model_id=model) == before


def test_a_refused_change_is_no_event(registry: ModelDBService, model: int) -> None:
    """What is refused leaves neither a change nor an event."""
    number = add(registry, model, "1", is_live=True)
    before = registry.get_history()
    with pytest.raises(ConflictError):
        registry.retire_deployment(number)
    with pytest.raises(ConflictError):
        registry.delete_deployment(number)
    with pytest.raises(ConflictError):
        registry.delete_model(model)
    assert registry.get_history() == before


def test_history_of_a_deployment(registry: ModelDBService, model: int) -> None:
    """It has what the deployment lost to another one, too; other deployments' not."""
    first = add(registry, model, "1", is_live=True, aliases=["candidate"])
    second = add(registry, model, "2")
    registry.promote(second)
    registry.set_alias(model, "candidate", second)
    registry.describe_deployment(second, "new")
    assert kinds(registry.get_history(deployment_id=first)) == [
        "deployment.stored",
        "deployment.promoted",
        "alias.set",
        "deployment.promoted",
        "alias.set",
    ]
    assert [e.number for e in registry.get_history(deployment_id=second, limit=2)] == [
        8,
        7,
    ]


def test_history_outlives_what_it_is_about(
    registry: ModelDBService, model: int
) -> None:
    """The events of a deleted model and of its deployments stay, with the reason."""
    number = add(registry, model, "1", is_live=True)
    registry.delete_deployment(number, force=True, reason="wrong package")
    add(registry, model, "2", is_live=True)
    registry.delete_model(model, force=True, reason="obsolete")
    history = registry.get_history(model_id=model)
    assert history[0].kind == "model.deleted"
    assert history[0].reason == "obsolete"
    assert history[0].before == {**FIELDS, "deployments": 1}
    assert [e.number for e in history] == list(range(len(history), 0, -1))
    gone = registry.get_history(deployment_id=number)
    assert gone[0].kind == "deployment.deleted"
    assert gone[0].before["version"] == "1"
    again = registry.store_model(**FIELDS)
    assert again != model
    assert kinds(registry.get_history(model_id=again)) == ["model.stored"]


def test_listeners_hear_of_what_is_committed(engine: Engine) -> None:
    """The events of a change are told once, after it is in the database."""
    told: list[list[str]] = []
    seen: list[int] = []

    def listen(events: Any) -> None:
        told.append([event.kind for event in events])
        seen.append(len(other.get_history()))

    listener: Listener = listen
    other = ModelDBService(engine)
    registry = ModelDBService(engine, actor="tester", on_change=listener)
    model = registry.store_model(**FIELDS)
    add(registry, model, "1", is_live=True)
    registry.store_model(**FIELDS)
    assert told == [["model.stored"], ["deployment.stored", "deployment.promoted"]]
    assert seen == [1, 3]


def test_history_of_everything(registry: ModelDBService, model: int) -> None:
    """Without arguments it is the whole registry's, the newest first."""
    registry.store_project("test")
    add(registry, model, "1")
    assert kinds(registry.get_history()) == [
        "model.stored",
        "project.stored",
        "deployment.stored",
    ]
    assert kinds(registry.get_history(limit=1)) == ["deployment.stored"]


# --- live -------------------------------------------------------------------------


def test_rollback_goes_back_step_by_step(registry: ModelDBService, model: int) -> None:
    """Each roll-back undoes one promotion; at the beginning there is none left."""
    numbers = [add(registry, model, str(n), is_live=True) for n in range(4)]
    for expected in numbers[2::-1]:
        event = registry.rollback(model, reason="worse")
        assert event.kind == "deployment.rolled-back"
        assert event.deployment_id == expected
        assert live_of(registry, model) == expected
    with pytest.raises(ConflictError, match="nothing to roll model"):
        registry.rollback(model)
    assert live_of(registry, model) == numbers[0]


def test_rollback_after_going_back_by_hand(
    registry: ModelDBService, model: int
) -> None:
    """An older deployment that was promoted anew is rolled back like a new one."""
    a, b = (add(registry, model, v, is_live=True) for v in "ab")
    registry.promote(a)
    assert registry.rollback(model).deployment_id == b
    assert registry.rollback(model).deployment_id == a
    with pytest.raises(ConflictError):
        registry.rollback(model)
    c = add(registry, model, "c", is_live=True)
    assert registry.rollback(model).deployment_id == a
    assert registry.get_deployment(deployment_id=c).is_live is False


def test_rollback_passes_over_what_is_out_of_use(
    registry: ModelDBService, model: int
) -> None:
    """Retired and deleted deployments are not gone back to."""
    a, b, c, _ = (add(registry, model, v, is_live=True) for v in "abcd")
    registry.retire_deployment(c)
    registry.delete_deployment(b)
    assert registry.rollback(model).deployment_id == a


def test_demoted_models_have_no_live_one(registry: ModelDBService, model: int) -> None:
    """After a demotion none is live; a roll-back brings back what was."""
    number = add(registry, model, "1", is_live=True)
    event = registry.demote(model, reason="shutdown")
    assert event is not None
    assert (event.kind, event.before["live"]) == ("deployment.demoted", number)
    with pytest.raises(NotFoundError, match="promote"):
        registry.get_live_deployment(model)
    assert registry.demote(model) is None
    assert registry.rollback(model).deployment_id == number


def test_rollback_knows_what_was_live_before_the_history(
    registry: ModelDBService, engine: Engine, model: int
) -> None:
    """A deployment that became live when no history was kept is gone back to."""
    number = add(registry, model, "1", is_live=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM registry_event")
    add(registry, model, "2", is_live=True)
    assert registry.rollback(model).deployment_id == number


def test_promotion_takes_the_flows_along(registry: ModelDBService, model: int) -> None:
    """Flows that the deployment offers point at it, rolled back too; others stay."""
    other = registry.store_model(**{**FIELDS, "description": "other"})
    a = add(registry, model, "1", is_live=True)
    foreign = add(registry, other, "1", is_live=True)
    registry.store_project("test", "tests")
    registry.store_project("more")
    for project, flow_id, served in (
        ("test", "t", a),
        ("more", "m", foreign),
    ):
        registry.store_flow(
            flow_id=flow_id,
            flow_name="track",
            project_name=project,
            deployment_id=served,
        )
    b = add(registry, model, "2", is_live=True)
    live = registry.get_live_deployment(model)
    assert [(f.flow_id, f.project_name, f.project_description) for f in live.flows] == [
        ("t", "test", "tests")
    ]
    assert live.deployment_id == b
    registry.rollback(model)
    assert registry.get_flow(flow_id="t").deployment_id == a
    assert registry.get_flow(flow_id="m").deployment_id == foreign


# --- retired ----------------------------------------------------------------------


def test_retired_deployments_cannot_be_used(
    registry: ModelDBService, model: int
) -> None:
    """They are found, but not promoted and not named, until they are restored."""
    number = add(registry, model, "1")
    event = registry.retire_deployment(number, reason="unsafe")
    found = registry.get_deployment(deployment_id=number)
    assert event is not None
    assert found.retired is not None
    assert event.after == {"retired": found.retired.isoformat()}
    for use in (
        lambda: registry.promote(number),
        lambda: registry.set_alias(model, "candidate", number),
        lambda: add(registry, model, "1", is_live=True),
    ):
        with pytest.raises(ConflictError, match="retired on"):
            use()
    assert registry.retire_deployment(number) is None
    assert registry.restore_deployment(number) is not None
    assert registry.promote(number) is not None


def test_what_is_in_use_is_not_retired(registry: ModelDBService, model: int) -> None:
    """A live deployment and one with an alias are refused; the message says why."""
    number = add(registry, model, "1", is_live=True)
    with pytest.raises(ConflictError, match="live"):
        registry.retire_deployment(number)
    registry.demote(model)
    registry.set_alias(model, "candidate", number)
    with pytest.raises(ConflictError, match="'candidate'"):
        registry.retire_deployment(number)


# --- aliases and tags -------------------------------------------------------------


def test_aliases_point_and_move(registry: ModelDBService, model: int) -> None:
    """An alias is unique in its model, moves with an event, and can be removed."""
    a, b = (add(registry, model, v) for v in "ab")
    other = registry.store_model(**{**FIELDS, "description": "other"})
    foreign = add(registry, other, "a", aliases=["2026-beamtime"])
    registry.set_alias(model, "2026-beamtime", a)
    event = registry.set_alias(model, "2026-beamtime", b, reason="better")
    assert event is not None
    assert (event.deployment_id, event.previous_deployment_id) == (b, a)
    assert (event.before, event.after) == ({"2026-beamtime": a}, {"2026-beamtime": b})
    found = registry.get_deployment_by_alias(model, "2026-beamtime")
    assert (found.deployment_id, found.aliases) == (b, ("2026-beamtime",))
    assert registry.get_deployment(deployment_id=a).aliases == ()
    assert registry.get_deployment(deployment_id=foreign).aliases == ("2026-beamtime",)
    registry.remove_alias(model, "2026-beamtime")
    with pytest.raises(NotFoundError, match="'live'"):
        registry.get_deployment_by_alias(model, "2026-beamtime")
    with pytest.raises(NotFoundError, match="2026-beamtime"):
        registry.remove_alias(model, "2026-beamtime")


def test_aliases_are_of_the_models_own_deployments(
    registry: ModelDBService, model: int
) -> None:
    """A deployment of another model, or of none, is refused."""
    other = registry.store_model(**{**FIELDS, "description": "other"})
    foreign = add(registry, other, "1")
    for number in (foreign, foreign + 1000):
        with pytest.raises(NotFoundError, match=str(number)):
            registry.set_alias(model, "candidate", number)
    with pytest.raises(NotFoundError, match="model"):
        registry.set_alias(other + 1000, "candidate", foreign)


def test_live_and_latest_need_no_setting(registry: ModelDBService, model: int) -> None:
    """Every model has them; they cannot be set."""
    a = add(registry, model, "1", is_live=True)
    b = add(registry, model, "2")
    assert registry.get_deployment_by_alias(model, "live").deployment_id == a
    assert registry.get_deployment_by_alias(model, "latest").deployment_id == b
    for alias in ("live", "Latest", "12", "v3", "", "-x", "a b", "a/b", "a@b", "a\0"):
        with pytest.raises(InvalidInputError):
            registry.set_alias(model, alias, a)


def test_deployments_with_aliases_are_kept(
    registry: ModelDBService, model: int
) -> None:
    """What is named for a reason is removed by force only."""
    number = add(registry, model, "1", aliases=["publication-2026"])
    with pytest.raises(ConflictError, match="publication-2026"):
        registry.delete_deployment(number)
    registry.delete_deployment(number, force=True)
    with pytest.raises(NotFoundError):
        registry.get_deployment_by_alias(model, "publication-2026")


def test_tags_of_deployments_and_models(registry: ModelDBService, model: int) -> None:
    """Tags are set, changed and removed, whatever is in them, and come with records."""
    number = add(registry, model, "1", tags={"stage": "test", ODD: ODD})
    assert registry.get_deployment(deployment_id=number).tags == {
        "stage": "test",
        ODD: ODD,
    }
    long = "x" * 5000
    event = registry.tag_deployment(number, {"stage": "", ODD: None, "long": long})
    assert event is not None
    assert event.before == {"stage": "test", ODD: ODD, "long": None}
    assert event.after == {"stage": "", ODD: None, "long": long}
    assert registry.get_deployment(deployment_id=number).tags == {
        "stage": "",
        "long": long,
    }
    registry.tag_model(model, {"owner": ODD})
    found = registry.get_deployment(deployment_id=number)
    assert found.model.tags == registry.get_model(model_id=model).tags == {"owner": ODD}
    assert registry.get_models()[0].tags == {"owner": ODD}
    for tags in ({"": "x"}, {"a": "x" * 5001}, {"a": 1}, {"a" * 256: ""}, [("a", "b")]):
        with pytest.raises(InvalidInputError, match="tag"):
            registry.tag_deployment(number, tags)  # type: ignore[arg-type]


def test_descriptions_change(registry: ModelDBService, model: int) -> None:
    """What is said of a deployment may change; the deployment does not."""
    number = add(registry, model, "1", description="first")
    before = registry.get_deployment(deployment_id=number)
    event = registry.describe_deployment(number, ODD)
    assert event is not None
    assert (event.before, event.after) == (
        {"description": "first"},
        {"description": ODD},
    )
    after = registry.get_deployment(deployment_id=number)
    assert after.description == ODD
    assert (after.source, after.deploy_date) == (before.source, before.deploy_date)


# --- lineage ----------------------------------------------------------------------


def test_lineage_goes_both_ways(registry: ModelDBService, model: int) -> None:
    """Ancestors come nearest first; descendants at any depth, of other models too."""
    surrogate = registry.store_model(**{**FIELDS, "description": "surrogate"})
    a = add(registry, model, "1")
    b = add(registry, model, "2", parent_deployment_id=a)
    c = add(registry, surrogate, "1", parent_deployment_id=b)
    d = add(registry, surrogate, "2", parent_deployment_id=c)
    e = add(registry, surrogate, "3", parent_deployment_id=b)

    def numbers(records: Any) -> list[int]:
        return [record.deployment_id for record in records]

    lineage = registry.get_lineage(c)
    assert lineage.deployment.deployment_id == c
    assert numbers(lineage.ancestors) == [b, a]
    assert numbers(lineage.descendants) == [d]
    assert numbers(registry.get_lineage(a).descendants) == [b, c, d, e]
    assert registry.get_lineage(a).ancestors == ()
    with pytest.raises(NotFoundError):
        registry.get_lineage(e + 1000)
    with pytest.raises(NotFoundError, match=str(e + 1000)):
        add(registry, model, "3", parent_deployment_id=e + 1000)
    registry.delete_deployment(b)
    assert registry.get_deployment(deployment_id=c).parent_deployment_id == b
    assert numbers(registry.get_lineage(c).ancestors) == []


# --- projects and flows -----------------------------------------------------------


def chain(registry: ModelDBService) -> None:
    registry.store_project("test", "first")
    registry.store_flow(flow_id="f", flow_name="track", project_name="test")
    registry.store_flow_of_flows(
        parent_flow_id="p",
        parent_flow_name="chain",
        project_name="test",
        subflows=[SubflowEntry("f", "one", 1), SubflowEntry("f", "two", 2)],
        composition={"description": ODD},
    )


def test_a_renamed_project_keeps_everything(registry: ModelDBService) -> None:
    """Flows, flow-of-flows and the history go with it; the old name is free again."""
    chain(registry)
    created = registry.get_project("test").created
    event = registry.rename_project("test", "beam/physics ✓", reason="reorganised")
    assert event is not None
    assert registry.get_project("beam/physics ✓").description == "first"
    assert registry.get_project("beam/physics ✓").created == created
    with pytest.raises(NotFoundError):
        registry.get_project("test")
    found = registry.get_flow_of_flows(flow_name="chain", project_name="beam/physics ✓")
    assert [s.flow.project_name for s in found.subflows] == ["beam/physics ✓"] * 2
    registry.store_project("test", "second")
    registry.store_flow(flow_id="g", flow_name="track", project_name="test")
    history = registry.get_history(project_name="beam/physics ✓")
    assert kinds(history) == [
        "project.stored",
        "flow.stored",
        "flow-of-flows.stored",
        "project.renamed",
    ]
    assert [e.number for e in history] == [4, 3, 2, 1]
    assert kinds(registry.get_history(project_name="test")) == [
        "project.stored",
        "flow.stored",
    ]
    with pytest.raises(ConflictError, match="already"):
        registry.rename_project("test", "beam/physics ✓")
    assert registry.rename_project("test", "test") is None
    with pytest.raises(NotFoundError, match="absent"):
        registry.rename_project("absent", "x")
    with pytest.raises(NotFoundError, match="absent"):
        registry.get_history(project_name="absent")


def test_projects_are_removed_when_they_are_empty(registry: ModelDBService) -> None:
    """A project with flows is kept; the message names them."""
    chain(registry)
    with pytest.raises(ConflictError, match="'chain', 'track'"):
        registry.delete_project("test")
    registry.delete_flow("p")
    registry.delete_flow("f", reason="gone")
    registry.delete_project("test")
    assert registry.get_projects() == []
    assert kinds(registry.get_history(flow_id="f")) == ["flow.stored", "flow.deleted"]
    registry.store_project("test")
    assert kinds(registry.get_history(project_name="test")) == ["project.stored"]


def test_where_a_flow_is_used(registry: ModelDBService) -> None:
    """Each place is told; a flow that is used nowhere has none; an unknown is told."""
    chain(registry)
    uses = registry.get_flow_uses("f")
    assert [(u.parent_flow_name, u.name, u.position) for u in uses] == [
        ("chain", "one", 1),
        ("chain", "two", 2),
    ]
    assert registry.get_flow_uses("p") == ()
    with pytest.raises(NotFoundError, match="'x'"):
        registry.get_flow_uses("x")
    with pytest.raises(ConflictError, match="chain"):
        registry.delete_flow("f")


def test_all_flows_of_flows(registry: ModelDBService) -> None:
    """They come by project and name, whole; or those of one project."""
    chain(registry)
    registry.store_project("another")
    registry.store_flow_of_flows(
        parent_flow_id="q",
        parent_flow_name="again",
        project_name="another",
        subflows=[SubflowEntry("p", "inner", 1)],
    )
    found = registry.get_flows_of_flows()
    assert [(f.parent.flow_name, len(f.subflows)) for f in found] == [
        ("again", 1),
        ("chain", 2),
    ]
    assert found[1].composition == {"description": ODD}
    assert registry.get_flows_of_flows(project_name="test") == found[1:]
    assert found[1] == registry.get_flow_of_flows(parent_flow_id="p")
