"""What the tests of access, survival and odd values have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, select

from prefect_lume import migrations
from prefect_lume.registry import ModelDBService, SubflowEntry
from prefect_lume.registry.records import RegistryEvent
from prefect_lume.registry.tables import MODELS, PROJECTS, metadata

SHA = "ab" * 32
Calls = dict[str, Callable[[], Any]]


@pytest.fixture
def engine(
    request: pytest.FixtureRequest,
    emptied_database: Callable[[str, Callable[[Engine], None]], Engine],
) -> Engine:
    """The empty database, of the kind that the test is parametrised by."""
    return emptied_database(request.param, migrations.upgrade)


@pytest.fixture
def url(engine: Engine) -> str:
    """The URL of that database."""
    return engine.url.render_as_string(hide_password=False)


@dataclass(frozen=True)
class Filled:
    """What a registry was filled with: numbers of models and deployments.

    The live deployment has an alias; the first was live before it. A spare model has
    no flows.
    """

    model: int
    first: int
    live: int
    idle: int
    retired: int
    spare: int


class RegistryLab:
    """Fills registries, and looks at what is in them without the service's help."""

    sha = SHA

    def add_model(self, registry: ModelDBService, **changes: str) -> int:
        """Store a model."""
        values = {
            "author": "a",
            "laboratory": "l",
            "facility": "f",
            "beampath": "b",
            "description": "d",
        }
        return registry.store_model(**{**values, **changes})

    def add_deployment(
        self, registry: ModelDBService, model_id: int, version: str, **changes: Any
    ) -> int:
        """Store a deployment that offers the flow ``track``."""
        values: dict[str, Any] = {
            "source": "file:///x.tar.gz",
            "sha256": SHA,
            "package_import_name": "x",
            "entrypoints": {"track": "x.flow:track"},
        }
        return registry.store_deployment(
            model_id=model_id, version=version, **{**values, **changes}
        )

    def fill(self, registry: ModelDBService) -> Filled:
        """Store something of everything."""
        model = self.add_model(registry)
        first = self.add_deployment(registry, model, "1", lock="l", tags={"k": "v"})
        live = self.add_deployment(registry, model, "2", aliases=["candidate"])
        idle = self.add_deployment(registry, model, "3", is_live=False)
        retired = self.add_deployment(registry, model, "4", is_live=False)
        registry.retire_deployment(retired)
        registry.tag_model(model, {"k": "v"})
        spare = self.add_model(registry, author="spare")
        self.add_deployment(registry, spare, "1", is_live=False)
        registry.store_project("test")
        registry.store_project("empty")
        registry.store_flow(
            flow_id="t", flow_name="track", project_name="test", deployment_id=live
        )
        registry.store_flow(flow_id="i", flow_name="idle", project_name="test")
        registry.store_flow_of_flows(
            parent_flow_id="p",
            parent_flow_name="chain",
            project_name="test",
            subflows=[SubflowEntry("t", "first", 1), SubflowEntry("t", "second", 2)],
        )
        return Filled(model, first, live, idle, retired, spare)

    def changes(self, registry: ModelDBService, at: Any) -> Calls:
        """Return one call of each kind that a registrar may make, in a fit order.

        Each would change something, also alone.
        """
        return {
            "store_model": lambda: self.add_model(registry, author="another"),
            "tag_model": lambda: registry.tag_model(at.model, {"k": "2", "new": "1"}),
            "set_alias": lambda: registry.set_alias(at.model, "candidate", at.first),
            "store_flow": lambda: registry.store_flow(
                flow_id="t",
                flow_name="track",
                project_name="test",
                deployment_id=at.first,
            ),
            "store_deployment": lambda: self.add_deployment(
                registry,
                at.model,
                "5",
                lock="lock",
                tags={"t": "1"},
                aliases=["candidate", "new"],
                parent_deployment_id=at.first,
            ),
            "promote": lambda: registry.promote(at.first),
            "set_live": lambda: registry.set_live(at.idle),
            "rollback": lambda: registry.rollback(at.model),
            "demote": lambda: registry.demote(at.model),
            "retire_deployment": lambda: registry.retire_deployment(at.first),
            "restore_deployment": lambda: registry.restore_deployment(at.retired),
            "describe_deployment": lambda: registry.describe_deployment(
                at.first, "new"
            ),
            "tag_deployment": lambda: registry.tag_deployment(
                at.first, {"k": "2", "new": "1"}
            ),
            "store_project": lambda: registry.store_project("test", "a description"),
            "store_flow_of_flows": lambda: registry.store_flow_of_flows(
                parent_flow_id="i",
                parent_flow_name="idle",
                project_name="test",
                subflows=[SubflowEntry("t", "only", 1)],
            ),
        }

    def removals(self, registry: ModelDBService, at: Any) -> Calls:
        """Return one call of each kind that takes something away."""
        return {
            "remove_alias": lambda: registry.remove_alias(at.model, "candidate"),
            "tag_model": lambda: registry.tag_model(at.model, {"k": None, "new": "1"}),
            "tag_deployment": lambda: registry.tag_deployment(
                at.first, {"k": None, "new": "1"}
            ),
            "store_flow_of_flows": lambda: registry.store_flow_of_flows(
                parent_flow_id="p",
                parent_flow_name="chain",
                project_name="test",
                subflows=[SubflowEntry("t", "another", 1)],
            ),
            "delete_flow": lambda: registry.delete_flow("p"),
            "delete_deployment": lambda: registry.delete_deployment(at.idle),
            "delete_model": lambda: registry.delete_model(at.spare),
            "delete_project": lambda: registry.delete_project("empty"),
            "rename_project": lambda: registry.rename_project("test", "other"),
        }

    def state(self, registry: ModelDBService) -> dict[str, Any]:
        """Return all that is stored, without numbers and times."""
        deployments = registry.get_deployments()
        versions = {d.deployment_id: (d.model.author, d.version) for d in deployments}
        return {
            "models": [(m.author, m.tags) for m in registry.get_models()],
            "deployments": [
                (
                    versions[d.deployment_id],
                    d.is_live,
                    d.retired is None,
                    (d.description, d.tags, d.aliases, d.has_lock),
                    versions.get(d.parent_deployment_id or 0),
                )
                for d in deployments
            ],
            "projects": [
                (p.project_name, p.description) for p in registry.get_projects()
            ],
            "flows": [
                (
                    f.flow_id,
                    f.flow_name,
                    f.project.project_name,
                    f.deployment and versions[f.deployment.deployment_id],
                )
                for f in registry.get_flows()
            ],
            "compositions": [
                (c.parent.flow_id, [(s.name, s.flow.flow_id) for s in c.subflows])
                for c in registry.get_flows_of_flows()
            ],
        }

    def kinds(self, registry: ModelDBService, since: int) -> list[str]:
        """Return the kinds of the events after the first so many, in order."""
        return [event.kind for event in registry.get_history()[::-1][since:]]

    def rows(self, engine: Engine) -> dict[str, list[str]]:
        """Return every row of every table, as sorted text."""
        with engine.connect() as connection:
            return {
                table.name: sorted(
                    json.dumps([*map(str, row)])
                    for row in connection.execute(select(table))
                )
                for table in metadata.sorted_tables
            }

    def check_ledger(self, registry: ModelDBService, engine: Engine) -> None:
        """Check that the history has no gap and explains what is live.

        Numbers of a model's or project's events go from 1 to its revision, and each
        move of "live" begins where the one before it ended.
        """
        with engine.connect() as connection:
            models = select(MODELS.c.model_id, MODELS.c.revision)
            projects = select(PROJECTS.c.history_id, PROJECTS.c.revision)
            revisions = {
                (subject, str(key)): revision
                for subject, rows in (("model", models), ("project", projects))
                for key, revision in connection.execute(rows)
            }
        histories: dict[tuple[str, str], list[RegistryEvent]] = {}
        for event in reversed(registry.get_history()):
            histories.setdefault((event.subject, event.subject_id), []).append(event)
        for key, events in histories.items():
            events.sort(key=lambda event: event.number)
            numbers = [event.number for event in events]
            assert numbers == list(range(1, len(events) + 1)), key
            # What was deleted has no row, and a history that ends with that.
            is_gone = events[-1].kind.endswith(f"{key[0]}.deleted")
            assert revisions.pop(key, None) == (None if is_gone else numbers[-1]), key
            if key[0] == "model" and not is_gone:
                self._check_live(registry, int(key[1]), events)
        assert revisions == {}

    def _check_live(
        self, registry: ModelDBService, model: int, events: list[RegistryEvent]
    ) -> None:
        live: int | None = None
        for event in events:
            if event.kind in {"deployment.promoted", "deployment.rolled-back"}:
                assert event.previous_deployment_id == live, event
                assert event.before == {"live": live}, event
                live = event.deployment_id
            elif event.kind == "deployment.demoted":
                assert event.deployment_id == live, event
                live = None
            elif event.kind == "deployment.deleted" and event.deployment_id == live:
                live = None
        found = registry.get_deployments(model_id=model, is_live=True)
        assert [item.deployment_id for item in found] == ([live] if live else [])


@pytest.fixture
def lab() -> RegistryLab:
    """What fills registries and looks into them."""
    return RegistryLab()


@pytest.fixture
def registry(engine: Engine) -> ModelDBService:
    """The registry of that database, empty."""
    return ModelDBService(engine, migrate=migrations.upgrade, actor="tester")
