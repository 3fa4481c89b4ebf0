"""What is written as rows is read back as an equal composition, whatever it holds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from prefect_lume import migrations
from prefect_lume.composer import FlowOfFlows
from prefect_lume.composer.registering import register
from prefect_lume.composition import (
    ComposingFlow,
    FlowOfFlowsSpec,
    MappedParameter,
    slug,
)
from prefect_lume.config import (
    Context,
    SchedulingService,
    open_context,
    scheduling,
)
from prefect_lume.errors import ConflictError, InvalidInputError
from prefect_lume.registry import ModelDBService

DATABASES = [
    "sqlite",
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
]
#: Letters of every length in UTF-8, quotes, and what means something in SQL.
ODD = "aAàß\N{GREEK SMALL LETTER ALPHA}漢\N{GRINNING FACE}'\"`\\_-;:$?{}[]()#|~+=.,!@*"
NAMES = st.text(ODD, min_size=1, max_size=12)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=6,
)
STEPS = st.lists(st.integers(-5, 5) | TEXT, max_size=3)


@st.composite
def mappings(draw: st.DrawFn, names: list[str]) -> MappedParameter:
    """Return a mapping of any kind."""
    return MappedParameter(
        parent_flow_name=draw(st.sampled_from(names)),
        parent_project_name=draw(st.none() | NAMES),
        parent_task_name=draw(st.none() | NAMES),
        map_type=draw(st.sampled_from(["raw", "file", "db"])),
        attribute=draw(st.none() | NAMES),
        attribute_index=draw(st.none() | STEPS),
    )


@st.composite
def specs(draw: st.DrawFn) -> FlowOfFlowsSpec:
    """Return a composition; one flow may take part under several names."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique_by=slug))
    flows = draw(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=3))
    subflows = []
    for name in names:
        flow_name, project_name = draw(st.sampled_from(flows))
        subflows.append(
            ComposingFlow(
                name=name,
                flow_name=flow_name,
                project_name=project_name,
                position=draw(st.none() | st.integers(1, 5)),
                mapped_parameters=draw(
                    st.dictionaries(TEXT, mappings(names), max_size=3)
                ),
                parameters=draw(st.dictionaries(TEXT, JSON, max_size=3)),
                prefect_deployment=draw(
                    st.none() | st.just(f"{flow_name}/on the big machine")
                ),
                labels=draw(st.lists(NAMES, max_size=3)),
            )
        )
    return FlowOfFlowsSpec(
        # No name of a subflow has a space: it is none of them.
        name=f"parent {draw(NAMES)}",
        project_name=draw(NAMES),
        description=draw(TEXT),
        labels=draw(st.lists(NAMES, max_size=3)),
        composing_flows=subflows,
    )


def flow_id(_: SchedulingService, flow_name: str) -> str:
    """Return an id as Prefect's server would: one for each name."""
    return str(uuid5(NAMESPACE_URL, flow_name))


@pytest.fixture
def context(
    request: pytest.FixtureRequest,
    emptied_database: Callable[[str, Callable[[Engine], None]], Engine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Context:
    """The context, whose registry is in the database of the test's parameter."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path))
    engine = emptied_database(request.param, migrations.upgrade)
    monkeypatch.setattr(SchedulingService, "flow_id", flow_id)
    monkeypatch.setattr(scheduling, "tag", lambda *_: 0)
    monkeypatch.setattr(Context, "model_db_service", lambda _: ModelDBService(engine))
    return open_context()


def store_flows(registry: ModelDBService, spec: FlowOfFlowsSpec) -> None:
    """Register the flows that a composition is made of."""
    for subflow in spec.composing_flows:
        registry.store_project(subflow.project_name)
        name = f"{subflow.project_name}/{subflow.flow_name}"
        registry.store_flow(
            flow_id=str(uuid5(NAMESPACE_URL, name)),
            flow_name=subflow.flow_name,
            project_name=subflow.project_name,
        )


def read_back(spec: FlowOfFlowsSpec) -> FlowOfFlowsSpec:
    """Return what the registry has of a composition."""
    return FlowOfFlows.from_registry(spec.name, spec.project_name).spec


def there_and_back(context: Context, spec: FlowOfFlowsSpec) -> None:
    """Write a composition, read it, and write what was read."""
    registry = context.model_db_service()
    store_flows(registry, spec)
    parent = register(spec)
    again = read_back(spec)
    assert again == spec
    assert again.to_mapping() == _ordered(spec)
    before = registry.get_history(flow_id=parent)
    assert register(again) == parent
    assert registry.get_history(flow_id=parent) == before
    registry.delete_flow(parent)


def _ordered(spec: FlowOfFlowsSpec) -> dict[str, object]:
    """Return a composition with its positions written down, in their order."""
    mapping = spec.with_positions().to_mapping()
    mapping["composing_flows"].sort(key=lambda flow: flow["position"])
    return mapping


@pytest.mark.parametrize("context", DATABASES, indirect=True)
def test_rows_are_the_composition(
    context: Context, request: pytest.FixtureRequest
) -> None:
    """Positions, repeats, mappings of all kinds, odd constants, labels: all is back."""
    on_sqlite = request.node.callspec.params["context"] == "sqlite"

    @settings(
        deadline=None,
        max_examples=150 if on_sqlite else 20,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(specs())
    def example(spec: FlowOfFlowsSpec) -> None:
        there_and_back(context, spec)

    example()


def chain() -> FlowOfFlowsSpec:
    """Return a composition in which one flow takes part twice."""
    return FlowOfFlowsSpec(
        name="chain",
        project_name="test",
        composing_flows=[
            ComposingFlow(name="before", flow_name="scan"),
            ComposingFlow(
                name="after",
                flow_name="scan",
                position=2,
                mapped_parameters={
                    "start": MappedParameter(
                        parent_flow_name="before", parent_project_name="test"
                    ),
                    "other": MappedParameter(parent_flow_name="before"),
                },
            ),
            ComposingFlow(name="plot", project_name="shared", position=2),
        ],
    )


@pytest.mark.parametrize("context", DATABASES, indirect=True)
def test_where_a_flow_is_used(context: Context) -> None:
    """Each place of a flow is named, and a flow that has one is not deleted."""
    registry, spec = context.model_db_service(), chain()
    store_flows(registry, spec)
    parent = register(spec)
    scan = registry.get_flow(flow_name="scan", project_name="test").flow_id
    plot = registry.get_flow(flow_name="plot").flow_id
    uses = registry.get_flow_uses(scan)
    assert [(use.name, use.position) for use in uses] == [("before", 1), ("after", 2)]
    assert {use.parent_flow_id for use in uses} == {parent}
    assert registry.get_flow_uses(parent) == ()
    for used, names in ((scan, "'after', 'before'"), (plot, "'plot'")):
        with pytest.raises(ConflictError, match=f"part in 'chain' as {names}"):
            registry.delete_flow(used)
    assert read_back(spec) == spec
    registry.delete_flow(parent)
    assert registry.get_flow_uses(scan) == ()
    registry.delete_flow(scan)


@pytest.mark.parametrize("context", DATABASES, indirect=True)
@pytest.mark.parametrize("renamed", ["test", "shared"])
def test_a_composition_follows_a_renamed_project(
    context: Context, renamed: str
) -> None:
    """Parent, subflows and what mapped parameters name get the project's new name."""
    registry, spec = context.model_db_service(), chain()
    store_flows(registry, spec)
    register(spec)
    registry.rename_project(renamed, "a 'new' name")
    mapping = spec.with_positions().to_mapping()
    text = json.dumps(mapping).replace(f'"{renamed}"', "\"a 'new' name\"")
    expected = json.loads(text)
    again = FlowOfFlows.from_registry("chain").spec
    assert again.to_mapping() == expected


@pytest.mark.parametrize("context", DATABASES, indirect=True)
def test_a_null_character_is_refused_by_name(context: Context) -> None:
    """Not every database can hold it, so that none gets it."""
    registry = context.model_db_service()
    spec = FlowOfFlowsSpec(
        name="chain",
        project_name="test",
        composing_flows=[ComposingFlow(name="scan", parameters={"a": "\0"})],
    )
    store_flows(registry, spec)
    with pytest.raises(InvalidInputError, match="parameters"):
        register(spec)
    assert registry.get_flows_of_flows() == []


@pytest.mark.parametrize("context", ["sqlite"], indirect=True)
def test_the_order_among_equals_does_not_matter(context: Context) -> None:
    """A composition is equal to itself with its subflows in another order."""
    registry, spec = context.model_db_service(), chain().with_positions()
    store_flows(registry, spec)
    parent = register(spec)
    before = registry.get_history(flow_id=parent)
    shuffled = list(spec.composing_flows)
    random.Random(3).shuffle(shuffled)
    other = spec.model_copy(update={"composing_flows": shuffled})
    assert other == spec
    register(other)
    assert registry.get_history(flow_id=parent) == before
