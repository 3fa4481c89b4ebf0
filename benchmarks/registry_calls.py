"""The calls of the registry's service that ``registry.py`` measures, and their rows."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from prefect_lume import migrations
from prefect_lume.registry import ModelDBService, SubflowEntry

Read = Callable[[ModelDBService, "Filled"], Callable[[], Any]]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Filled:
    """A registry with some rows, and the names of what is asked for."""

    engine: Engine
    registry: ModelDBService
    model_id: int
    deployment_id: int


@dataclass(frozen=True)
class Write:
    """A call that changes something: its rows, and the call itself."""

    prepare: Callable[[ModelDBService], Any]
    call: Callable[[ModelDBService, Any], Any]


def name() -> str:
    return f"name {next(_numbers)}"


def model(registry: ModelDBService) -> int:
    return registry.store_model(
        author=name(),
        laboratory="slac",
        facility="lcls",
        beampath="cu_hxr",
        description="a model of the injector",
    )


def deployment(
    registry: ModelDBService, model_id: int, *, is_live: bool = False, **more: Any
) -> int:
    version = name()
    return registry.store_deployment(
        model_id=model_id,
        version=version,
        source=f"https://example.org/releases/my_model-{version}.tar.gz",
        sha256="ab" * 32,
        package_import_name="my_model",
        image="registry.example/my_model:1",
        is_live=is_live,
        entrypoints={"track": "my_model.flow:track"},
        **more,
    )


def _flow(registry: ModelDBService, project: str, deployment_id: int | None) -> str:
    flow = name()
    return registry.store_flow(
        flow_id=flow,
        flow_name=flow,
        project_name=project,
        deployment_id=deployment_id,
    )


def fill(engine: Engine) -> Filled:
    """Fill a new database: 30 models of 10 deployments, flows and a chain."""
    registry = ModelDBService(engine, migrate=migrations.upgrade, actor="benchmark")
    registry.apply_schema()
    registry.store_project("injector", "what runs at the injector")
    for _ in range(30):
        model_id = model(registry)
        registry.tag_model(model_id, {"team": "injector"})
        parent = None
        for _ in range(10):
            parent = deployment(
                registry,
                model_id,
                is_live=True,
                tags={"stage": "beamtime", "commit": "cd" * 20},
                parent_deployment_id=parent,
            )
        assert parent is not None
        registry.set_alias(model_id, "candidate", parent)
        _flow(registry, "injector", parent)
    _chain(registry, 10)
    return Filled(engine, registry, model_id, parent)


def fill_chain(engine: Engine, count: int) -> ModelDBService:
    """Fill a new database with a parent of some subflows, each of its deployment."""
    registry = ModelDBService(engine, migrate=migrations.upgrade, actor="benchmark")
    registry.apply_schema()
    registry.store_project("injector")
    _chain(registry, count)
    return registry


def _chain(registry: ModelDBService, count: int) -> None:
    flows = []
    for _ in range(count):
        number = deployment(registry, model(registry), is_live=True)
        flows.append(_flow(registry, "injector", number))
    registry.store_flow_of_flows(
        parent_flow_id="chain",
        parent_flow_name="chain",
        project_name="injector",
        subflows=_entries(flows),
    )


def _entries(flows: list[str]) -> list[SubflowEntry]:
    return [
        SubflowEntry(
            flow,
            name=f"step {position}",
            position=position,
            mapped_parameters=(
                {"x": {"parent_flow_name": f"step {position - 1}", "map_type": "raw"}}
                if position > 1
                else {}
            ),
        )
        for position, flow in enumerate(flows, 1)
    ]


READS: dict[str, Read] = {
    "get_model": lambda r, f: lambda: r.get_model(model_id=f.model_id),
    "get_models": lambda r, _: lambda: r.get_models(laboratory="slac"),
    "get_deployment": lambda r, f: (
        lambda: r.get_deployment(deployment_id=f.deployment_id)
    ),
    "get_deployments of a model": lambda r, f: (
        lambda: r.get_deployments(model_id=f.model_id)
    ),
    "get_deployments, all": lambda r, _: r.get_deployments,
    "get_live_deployment": lambda r, f: lambda: r.get_live_deployment(f.model_id),
    "get_latest_deployment": lambda r, f: lambda: r.get_latest_deployment(f.model_id),
    "get_deployment_by_alias": lambda r, f: (
        lambda: r.get_deployment_by_alias(f.model_id, "candidate")
    ),
    "get_lineage": lambda r, f: lambda: r.get_lineage(f.deployment_id),
    "get_project": lambda r, _: lambda: r.get_project("injector"),
    "get_projects": lambda r, _: r.get_projects,
    "get_flow": lambda r, _: lambda: r.get_flow(flow_id="chain"),
    "get_flows": lambda r, _: lambda: r.get_flows(project_name="injector"),
    "get_flow_of_flows": lambda r, _: lambda: r.get_flow_of_flows(flow_name="chain"),
    "get_flows_of_flows": lambda r, _: (
        lambda: r.get_flows_of_flows(project_name="injector")
    ),
    "get_flow_uses": lambda r, _: functools.partial(
        r.get_flow_uses, r.get_flow_of_flows(flow_name="chain").subflows[0].flow_id
    ),
    "get_history of a model": lambda r, f: lambda: r.get_history(model_id=f.model_id),
    "get_history, 100 newest": lambda r, _: lambda: r.get_history(limit=100),
    "search_deployments": lambda r, _: (
        lambda: r.search_deployments("laboratory = 'slac' AND tags.stage = 'beamtime'")
    ),
    "search_models": lambda r, _: lambda: r.search_models("tags.team = 'injector'"),
    "count_deployments": lambda r, _: lambda: r.count_deployments("is_live"),
    "count_models": lambda r, _: lambda: r.count_models("laboratory = 'slac'"),
}


def _two(registry: ModelDBService) -> tuple[int, int]:
    """Return a model and its deployment that is not live; another one is."""
    model_id = model(registry)
    number = deployment(registry, model_id)
    deployment(registry, model_id, is_live=True)
    return model_id, number


def _aliased(registry: ModelDBService) -> tuple[int, int]:
    found = _two(registry)
    registry.set_alias(found[0], "candidate", found[1])
    return found


def _rolled(registry: ModelDBService) -> tuple[int, int]:
    found = _two(registry)
    registry.promote(found[1])
    return found


def _retired(registry: ModelDBService) -> tuple[int, int]:
    found = _two(registry)
    registry.retire_deployment(found[1])
    return found


def _project(registry: ModelDBService) -> str:
    return registry.store_project(name(), "a project")


def _new_flow(registry: ModelDBService) -> tuple[str, int]:
    return name(), deployment(registry, model(registry))


def _stored_flow(registry: ModelDBService) -> tuple[str, int]:
    number = deployment(registry, model(registry))
    return _flow(registry, "injector", number), number


def _parent(registry: ModelDBService) -> tuple[str, list[SubflowEntry]]:
    number = deployment(registry, model(registry))
    return name(), _entries([_flow(registry, "injector", number) for _ in range(5)])


WRITES: dict[str, Write] = {
    "store_model": Write(
        lambda _: name(),
        lambda r, author: r.store_model(
            author=author,
            laboratory="slac",
            facility="lcls",
            beampath="cu_hxr",
            description="a model of the injector",
        ),
    ),
    "store_model, stored already": Write(
        lambda _: None,
        lambda r, _: r.store_model(
            author="name 1",
            laboratory="slac",
            facility="lcls",
            beampath="cu_hxr",
            description="a model of the injector",
        ),
    ),
    "store_deployment, live": Write(
        lambda r: (_two(r), name()),
        lambda r, given: r.store_deployment(
            model_id=given[0][0],
            version=given[1],
            source="https://example.org/releases/my_model.tar.gz",
            sha256="ab" * 32,
            package_import_name="my_model",
            entrypoints={"track": "my_model.flow:track"},
        ),
    ),
    "store_deployment, not live": Write(
        lambda r: (_two(r), name()),
        lambda r, given: r.store_deployment(
            model_id=given[0][0],
            version=given[1],
            source="https://example.org/releases/my_model.tar.gz",
            sha256="ab" * 32,
            package_import_name="my_model",
            is_live=False,
        ),
    ),
    "promote": Write(_two, lambda r, given: r.promote(given[1])),
    "demote": Write(_two, lambda r, given: r.demote(given[0])),
    "rollback": Write(_rolled, lambda r, given: r.rollback(given[0])),
    "retire_deployment": Write(_two, lambda r, given: r.retire_deployment(given[1])),
    "restore_deployment": Write(
        _retired, lambda r, given: r.restore_deployment(given[1])
    ),
    "describe_deployment": Write(
        _two, lambda r, given: r.describe_deployment(given[1], "for the beamtime")
    ),
    "set_alias": Write(
        _two, lambda r, given: r.set_alias(given[0], "candidate", given[1])
    ),
    "remove_alias": Write(
        _aliased, lambda r, given: r.remove_alias(given[0], "candidate")
    ),
    "tag_deployment": Write(
        _two, lambda r, given: r.tag_deployment(given[1], {"stage": "beamtime"})
    ),
    "tag_model": Write(
        model, lambda r, given: r.tag_model(given, {"team": "injector"})
    ),
    "delete_deployment": Write(_two, lambda r, given: r.delete_deployment(given[1])),
    "delete_model": Write(_two, lambda r, given: r.delete_model(given[0], force=True)),
    "store_project": Write(
        lambda _: name(), lambda r, new: r.store_project(new, "new")
    ),
    "rename_project": Write(
        _project, lambda r, old: r.rename_project(old, f"renamed {old}")
    ),
    "delete_project": Write(_project, lambda r, old: r.delete_project(old)),
    "store_flow": Write(
        _new_flow,
        lambda r, given: r.store_flow(
            flow_id=given[0],
            flow_name=given[0],
            project_name="injector",
            deployment_id=given[1],
        ),
    ),
    "delete_flow": Write(_stored_flow, lambda r, given: r.delete_flow(given[0])),
    "store_flow_of_flows": Write(
        _parent,
        lambda r, given: r.store_flow_of_flows(
            parent_flow_id=given[0],
            parent_flow_name=given[0],
            project_name="injector",
            subflows=given[1],
        ),
    ),
}
