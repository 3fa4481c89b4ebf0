"""Anything at once to the same few models and projects: the history tells it all."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import pytest
from sqlalchemy import Engine

from prefect_lume.errors import ConflictError, LumeError, NotFoundError
from prefect_lume.registry import ModelDBService, SubflowEntry
from prefect_lume.registry.records import RegistryEvent

DATABASES = [
    "sqlite",
    *(
        pytest.param(name, marks=pytest.mark.service(name))
        for name in ("mysql", "mariadb", "postgresql")
    ),
]
THREADS, CALLS = 6, 40


class Storm:
    """One of many who do anything to the same few models and projects."""

    models = ("a", "b")
    projects = ("p", "q", "r")

    def __init__(self, registry: ModelDBService, lab: Any, seed: int) -> None:
        self._registry, self._lab = registry, lab
        self._chance = random.Random(seed)
        self.errors: list[LumeError] = []
        self.done = 0

    def run(self, calls: int) -> None:
        for _ in range(calls):
            try:
                self._call()
                self.done += 1
            except LumeError as error:
                self.errors.append(error)

    def _call(self) -> None:
        pick, registry = self._chance.choice, self._registry
        model = self._lab.add_model(registry, author=pick(self.models))
        version = pick("1234")
        found = registry.get_deployments(model_id=model)
        number = pick([d.deployment_id for d in found] or [1])
        project, flow = pick(self.projects), pick("tuv")
        kind: Callable[[], Any] = pick(
            [
                lambda: self._lab.add_deployment(
                    registry,
                    model,
                    version,
                    tags={"t": "0"},
                    is_live=pick([True, False]),
                ),
                lambda: self._lab.add_deployment(registry, model, version),
                lambda: registry.promote(number),
                lambda: registry.demote(model),
                lambda: registry.rollback(model),
                lambda: registry.retire_deployment(number),
                lambda: registry.restore_deployment(number),
                lambda: registry.describe_deployment(number, pick("xyz")),
                lambda: registry.set_alias(model, pick(["one", "two"]), number),
                lambda: registry.remove_alias(model, pick(["one", "two"])),
                lambda: registry.tag_deployment(
                    number, {pick("tu"): pick(["1", "2", None]), "always": pick("12")}
                ),
                lambda: registry.tag_model(model, {pick("tu"): pick(["1", None])}),
                lambda: registry.delete_deployment(number, force=pick([True, False])),
                lambda: registry.store_project(project, pick("xyz")),
                lambda: registry.store_project(project, pick("xyz")),
                lambda: registry.rename_project(project, pick(self.projects)),
                lambda: registry.delete_project(project),
                lambda: registry.store_flow(
                    flow_id=flow,
                    flow_name="track" if flow == "t" else flow,
                    project_name=project,
                    deployment_id=pick([number, None]),
                ),
                lambda: registry.delete_flow(flow),
                lambda: registry.delete_flow("parent"),
                lambda: registry.store_flow_of_flows(
                    parent_flow_id="parent",
                    parent_flow_name="parent",
                    project_name=project,
                    subflows=[SubflowEntry(flow, f"s{n}", n) for n in (1, 2)],
                ),
                lambda: registry.delete_model(model, force=pick([True, False])),
            ]
        )
        kind()


class Replay:
    """What a model or project must be, told from its history alone.

    Each event must begin with what the events before it left.
    """

    def __init__(self) -> None:
        self.is_gone = False
        self.live: int | None = None
        self.aliases: dict[str, int] = {}
        self.model_tags: dict[str, str] = {}
        self.deployments: dict[int, dict[str, Any]] = {}
        self.project: dict[str, str] = {}
        self.flows: set[str | None] = set()

    def take(self, event: RegistryEvent) -> None:
        """Take the next event."""
        assert not self.is_gone, event
        step = event.kind.replace(".", "_").replace("-", "_")
        getattr(self, f"_{step}")(event)

    def _gone(self, event: RegistryEvent) -> None:
        self.is_gone = True

    _model_deleted = _project_deleted = _gone

    def _model_stored(self, event: RegistryEvent) -> None:
        assert event.number == 1

    def _model_tagged(self, event: RegistryEvent) -> None:
        _tag(self.model_tags, event)

    def _deployment_stored(self, event: RegistryEvent) -> None:
        assert event.deployment_id not in self.deployments
        self.deployments[event.deployment_id or 0] = {
            "description": event.after.get("description", ""),
            "retired": None,
            "tags": event.after.get("tags", {}),
        }

    def _deployment_described(self, event: RegistryEvent) -> None:
        deployment = self.deployments[event.deployment_id or 0]
        for name, value in event.before.items():
            assert deployment[name] == value, event
        deployment.update(event.after)

    _deployment_retired = _deployment_restored = _deployment_described

    def _deployment_tagged(self, event: RegistryEvent) -> None:
        _tag(self.deployments[event.deployment_id or 0]["tags"], event)

    def _deployment_promoted(self, event: RegistryEvent) -> None:
        assert event.before == {"live": self.live}, event
        assert event.previous_deployment_id == self.live, event
        self.live = event.deployment_id

    _deployment_rolled_back = _deployment_promoted

    def _deployment_demoted(self, event: RegistryEvent) -> None:
        assert event.deployment_id == self.live, event
        self.live = None

    def _deployment_deleted(self, event: RegistryEvent) -> None:
        number = event.deployment_id
        assert event.before["is_live"] == (self.live == number)
        mine = sorted(name for name, at in self.aliases.items() if at == number)
        assert event.before["aliases"] == mine
        for name in mine:
            del self.aliases[name]
        del self.deployments[number or 0]
        self.live = None if self.live == number else self.live

    def _alias_set(self, event: RegistryEvent) -> None:
        ((name, before),) = event.before.items()
        assert before == event.previous_deployment_id == self.aliases.get(name), event
        self.aliases[name] = event.after[name]

    def _alias_removed(self, event: RegistryEvent) -> None:
        assert event.before == {name: self.aliases.pop(name) for name in event.after}, (
            event
        )

    def _project_stored(self, event: RegistryEvent) -> None:
        assert event.number == 1
        self.project = dict(event.after)

    def _project_described(self, event: RegistryEvent) -> None:
        for name, value in event.before.items():
            assert self.project[name] == value, event
        self.project.update(event.after)

    _project_renamed = _project_described

    def _flow_stored(self, event: RegistryEvent) -> None:
        assert event.flow_id not in self.flows, event
        self.flows.add(event.flow_id)

    def _flow_pointed(self, event: RegistryEvent) -> None:
        assert event.flow_id in self.flows, event

    def _flow_of_flows_stored(self, event: RegistryEvent) -> None:
        self.flows.add(event.flow_id)

    def _flow_deleted(self, event: RegistryEvent) -> None:
        self.flows.remove(event.flow_id)


def _tag(tags: dict[str, str], event: RegistryEvent) -> None:
    for key, value in event.before.items():
        assert tags.get(key) == value, event
    for key, value in event.after.items():
        if value is None:
            tags.pop(key, None)
        else:
            tags[key] = value


def replayed(registry: ModelDBService) -> dict[tuple[str, str], Replay]:
    """Return what there must be, by subject."""
    found = {}

    def key(event: RegistryEvent) -> tuple[str, str]:
        return event.subject, event.subject_id

    events = sorted(registry.get_history(), key=lambda e: (*key(e), e.number))
    for subject, own in groupby(events, key):
        replay = Replay()
        for event in own:
            replay.take(event)
        if not replay.is_gone:
            found[subject] = replay
    return found


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_history_tells_what_a_storm_left(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """Six threads do anything to the same rows: replaying the history gives the rows.

    A call that could not be done raised an error that says why in its own words.
    """
    for name in Storm.projects:
        registry.store_project(name)
    storms = [Storm(registry, lab, seed) for seed in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda storm: storm.run(CALLS), storms))
    errors = [error for storm in storms for error in storm.errors]
    assert {type(error) for error in errors} <= {ConflictError, NotFoundError}
    assert [str(e) for e in errors if "a constraint was violated" in str(e)] == []
    assert sum(storm.done for storm in storms) > THREADS * CALLS / 3
    lab.check_ledger(registry, engine)
    left = replayed(registry)
    models = {int(key): r for (subject, key), r in left.items() if subject == "model"}
    assert {model.model_id for model in registry.get_models()} == set(models)
    for model in registry.get_models():
        replay = models[model.model_id]
        assert model.tags == replay.model_tags
        found = {d.deployment_id: d for d in registry.get_deployments()}
        mine = {n: d for n, d in found.items() if d.model_id == model.model_id}
        assert {n: _shown(d) for n, d in mine.items()} == replay.deployments
        assert [n for n, d in mine.items() if d.is_live] == (
            [] if replay.live is None else [replay.live]
        )
        aliases = {alias: n for n, d in mine.items() for alias in d.aliases}
        assert aliases == replay.aliases
    projects = [replay for (subject, _), replay in left.items() if subject == "project"]
    assert sorted(p.project["project_name"] for p in projects) == [
        p.project_name for p in registry.get_projects()
    ]
    for replay in projects:
        name, about = replay.project["project_name"], replay.project["description"]
        assert registry.get_project(name).description == about
        flows = registry.get_flows(project_name=name)
        assert {flow.flow_id for flow in flows} == replay.flows


def _shown(deployment: Any) -> dict[str, Any]:
    retired = deployment.retired
    return {
        "description": deployment.description,
        "retired": retired.isoformat() if retired else None,
        "tags": deployment.tags,
    }
