"""How many statements each read of the registry sends, whatever it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from prefect_lume import migrations
from prefect_lume.registry import ModelDBService, SubflowEntry

DATABASES = [
    "sqlite",
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
]
FEW, MANY = 1, 50

#: Call → what it asks a registry that has a model 1 with a deployment 1.
Question = Callable[[ModelDBService, int, int], Any]
READS: dict[str, Question] = {
    "get_model": lambda r, m, d: r.get_model(model_id=m),
    "get_models": lambda r, m, d: r.get_models(laboratory="slac"),
    "get_deployment": lambda r, m, d: r.get_deployment(deployment_id=d),
    "get_deployments": lambda r, m, d: r.get_deployments(model_id=m),
    "get_latest_deployment": lambda r, m, d: r.get_latest_deployment(m),
    "get_live_deployment": lambda r, m, d: r.get_live_deployment(m),
    "get_live_events": lambda r, m, d: r.get_live_events(),
    "get_promotions": lambda r, m, d: r.get_promotions(range(1, d + MANY + 1)),
    "get_deployment_by_alias": lambda r, m, d: r.get_deployment_by_alias(m, "best"),
    "get_lineage": lambda r, m, d: r.get_lineage(d),
    "get_project": lambda r, m, d: r.get_project("project 0"),
    "get_projects": lambda r, m, d: r.get_projects(),
    "get_flow": lambda r, m, d: r.get_flow(flow_name="flow 0"),
    "get_flows": lambda r, m, d: r.get_flows(project_name="project 0"),
    "get_flow_of_flows": lambda r, m, d: r.get_flow_of_flows(flow_name="chain"),
    "get_flows_of_flows": lambda r, m, d: r.get_flows_of_flows(),
    "get_flow_uses": lambda r, m, d: r.get_flow_uses("flow 0"),
    "get_history": lambda r, m, d: r.get_history(model_id=m),
    "search_deployments": lambda r, m, d: r.search_deployments(
        "laboratory = 'slac' AND tags.stage = 'test' AND NOT alias = 'x'"
    ),
    "search_models": lambda r, m, d: r.search_models("tags.team = 'injector'"),
    "count_deployments": lambda r, m, d: r.count_deployments("tags.stage = 'test'"),
    "count_models": lambda r, m, d: r.count_models("is_live"),
}
#: What sends more than one statement, and how many at most. To a search belong one for
#: the ids, one for the rows and, on SQLite, one that counts the tags.
MORE: dict[str, int] = {
    "get_lineage": 2,
    "search_deployments": 3,
    "search_models": 2,
    "count_deployments": 2,
}


@pytest.fixture(params=DATABASES)
def engine(
    request: pytest.FixtureRequest,
    emptied_database: Callable[[str, Callable[[Engine], None]], Engine],
) -> Engine:
    return emptied_database(request.param, migrations.upgrade)


@pytest.fixture
def sent(engine: Engine) -> Iterator[list[str]]:
    """The statements that were sent so far."""
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


def fill(registry: ModelDBService, count: int) -> tuple[int, int]:
    """Make all that there is, so many times, all of it belonging to the first ones."""
    entries = []
    first: tuple[int, int] | None = None
    parent = None
    for n in range(count):
        model = {"laboratory": "slac", "facility": "lcls", "beampath": "cu_hxr"}
        registry.store_project(f"project {n}")
        other = registry.store_model(author=f"{n}", description="other", **model)
        main = registry.store_model(author="main", description="main", **model)
        tagged = {"team": "injector", f"tag {n}": "x"}
        registry.tag_model(other, tagged)
        registry.tag_model(main, tagged)
        parent = registry.store_deployment(
            model_id=main,
            version=f"{n}",
            source=f"https://example.org/model-{n}.tar.gz",
            sha256="ab" * 32,
            package_import_name="my_model",
            parent_deployment_id=parent,
            lock="a lock",
            tags={"stage": "test", **{f"tag {i}": "x" for i in range(count)}},
            aliases=["best", *(f"alias-{n}-{i}" for i in range(min(count, 5)))],
        )
        first = first or (main, parent)
        flow = registry.store_flow(
            flow_id=f"flow {n}",
            flow_name=f"flow {n}",
            project_name="project 0",
            deployment_id=parent,
        )
        entries.append(SubflowEntry(flow, name=flow, position=n + 1))
    for n in range(count):
        registry.store_flow_of_flows(
            parent_flow_id=f"chain {n}",
            parent_flow_name="chain" if n == 0 else f"chain {n}",
            project_name="project 0",
            subflows=entries,
        )
    assert first is not None
    return first


def asked(
    registry: ModelDBService, sent: list[str], first: tuple[int, int]
) -> dict[str, int]:
    """Return how many statements each read sends."""
    counts = {}
    for name, question in READS.items():
        sent.clear()
        question(registry, *first)
        counts[name] = len(sent)
    return counts


def test_every_read_of_the_service_is_counted() -> None:
    """Each call of the service that reads is among those that are counted here."""
    beginnings = ("get_", "search_", "count_")
    calls = {name for name in dir(ModelDBService) if name.startswith(beginnings)}
    assert set(READS) == calls


def test_statements_do_not_grow_with_what_there_is(
    engine: Engine, sent: list[str]
) -> None:
    """Each read sends as many statements among fifty of everything as among one."""
    registry = ModelDBService(engine, migrate=migrations.upgrade)
    few = asked(registry, sent, fill(registry, FEW))
    for row in registry.get_flows_of_flows():
        registry.delete_flow(row.parent.flow_id)
    for model in registry.get_models():
        registry.delete_model(model.model_id, force=True)
    first = fill(registry, MANY)
    many = asked(registry, sent, first)
    assert many == few
    assert {
        name: count for name, count in many.items() if count > MORE.get(name, 1)
    } == {}
    chain = registry.get_flow_of_flows(flow_name="chain")
    assert len(chain.subflows) == MANY
    assert len(registry.get_deployments(model_id=first[0])) == MANY
    lineage = registry.get_lineage(first[1])
    assert len(lineage.descendants) == MANY - 1


def test_records_hold_what_the_dataclass_declares(engine: Engine) -> None:
    """A record that came from the database has every field, and equals a like one."""
    registry = ModelDBService(engine, migrate=migrations.upgrade)
    model_id, deployment_id = fill(registry, FEW)
    records = [
        registry.get_model(model_id=model_id),
        registry.get_deployment(deployment_id=deployment_id),
        registry.get_flow(flow_id="flow 0"),
        *registry.get_history(limit=1),
    ]
    for record in records:
        names = list(type(record).__dataclass_fields__)
        assert sorted(vars(record)) == sorted(names)
        assert type(record)(**vars(record)) == record
