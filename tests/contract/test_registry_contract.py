"""What the registry promises, on every database it runs on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

from prefect_lume import migrations
from prefect_lume.errors import (
    AmbiguousError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
)
from prefect_lume.registry import ModelDBService, SubflowEntry

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
OTHER_SHA = "cd" * 32


@pytest.fixture(params=DATABASES)
def engine(
    request: pytest.FixtureRequest,
    emptied_database: Callable[[str, Callable[[Engine], None]], Engine],
) -> Engine:
    return emptied_database(request.param, migrations.upgrade)


@pytest.fixture
def registry(engine: Engine) -> ModelDBService:
    service = ModelDBService(engine, migrate=migrations.upgrade)
    service.apply_schema()
    return service


@pytest.fixture
def statements(engine: Engine) -> Iterator[Callable[[Callable[[], Any]], int]]:
    """Count the statements that a call sends."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    def count(call: Callable[[], Any]) -> int:
        sent.clear()
        call()
        return len(sent)

    event.listen(engine, "before_cursor_execute", note)
    yield count
    event.remove(engine, "before_cursor_execute", note)


def add_model(registry: ModelDBService, **changes: str) -> int:
    return registry.store_model(**{**FIELDS, **changes})


def add_deployment(
    registry: ModelDBService, model_id: int, version: str = "0.0.1", **changes: Any
) -> int:
    values: dict[str, Any] = {
        "source": f"https://example.org/my_model-{version}.tar.gz",
        "sha256": SHA,
        "package_import_name": "my_model",
        "entrypoints": {"track": "my_model.flow:track"},
    }
    return registry.store_deployment(
        model_id=model_id, version=version, **{**values, **changes}
    )


def add_flow(registry: ModelDBService, name: str, deployment: int | None = None) -> str:
    registry.store_project("test")
    return registry.store_flow(
        flow_id=f"id-{name}",
        flow_name=name,
        project_name="test",
        deployment_id=deployment,
    )


def add_chain(registry: ModelDBService, *entries: SubflowEntry, **changes: Any) -> str:
    values: dict[str, Any] = {
        "parent_flow_id": "id-chain",
        "parent_flow_name": "chain",
        "project_name": "test",
    }
    return registry.store_flow_of_flows(subflows=entries, **{**values, **changes})


# --- models -----------------------------------------------------------------------


def test_model_comes_back_with_all_its_fields(registry: ModelDBService) -> None:
    """A model is returned as it was stored, with the time in UTC."""
    before = datetime.now(UTC)
    model = registry.get_model(model_id=add_model(registry))
    assert {name: getattr(model, name) for name in FIELDS} == FIELDS
    assert model.created.utcoffset() == timedelta(0)
    assert before <= model.created <= datetime.now(UTC)


def test_equal_models_are_one(registry: ModelDBService) -> None:
    """Storing the same five fields again returns the first model."""
    first = add_model(registry)
    assert add_model(registry) == first
    assert len(registry.get_models()) == 1


def test_any_other_field_is_another_model(registry: ModelDBService) -> None:
    """Models that differ in one of the five fields are different models."""
    first = add_model(registry)
    others = {add_model(registry, **{field: "other"}) for field in FIELDS}
    assert len(others - {first}) == len(FIELDS)


def test_text_is_compared_exactly(registry: ModelDBService) -> None:
    """Case, accents and trailing spaces tell names apart."""
    names = ["Émile", "émile", "Emile", "emile", "emile ", " emile", "emile\t"]
    ids = {name: add_model(registry, author=name) for name in names}
    assert len(set(ids.values())) == len(names)
    for name, model_id in ids.items():
        assert registry.get_model(author=name).model_id == model_id


def test_every_character_is_kept(registry: ModelDBService) -> None:
    """Four-byte characters, quotes, percent signs and line ends come back unchanged."""
    text = "🜚 🧪 ✓ é \n\r\t %s % ' \" \\ ; -- \u200b"
    model = registry.get_model(model_id=add_model(registry, description=text))
    assert model.description == text
    assert registry.get_model(description=text) == model


def test_longest_fields_fit(registry: ModelDBService) -> None:
    """Five fields of 255 four-byte characters are stored, found and unique."""
    longest = {name: "🜚" * 254 + name[0] for name in FIELDS}
    first = registry.store_model(**longest)
    assert registry.store_model(**longest) == first
    assert registry.get_model(**longest).model_id == first


def test_unknown_model_is_told_with_known_names(registry: ModelDBService) -> None:
    """A model that is not there is reported with the values that are."""
    add_model(registry, facility="lcls")
    add_model(registry, facility="facet")
    with pytest.raises(NotFoundError, match=r"Did you mean 'facet'.*'lcls'"):
        registry.get_model(facility="facets")


def test_unknown_keyword_names_the_columns(registry: ModelDBService) -> None:
    """A keyword that is no column is refused with the columns there are."""
    with pytest.raises(InvalidInputError, match=r"'autor'.*Did you mean 'author'"):
        registry.get_model(autor="x")
    with pytest.raises(InvalidInputError, match="fingerprint"):
        registry.get_models(fingerprint=SHA)


def test_no_criteria_at_all_is_refused(registry: ModelDBService) -> None:
    """Asking for one model without saying which is an error, even if there is one."""
    add_model(registry)
    with pytest.raises(InvalidInputError, match="at least one of"):
        registry.get_model()


def test_several_models_are_ambiguous(registry: ModelDBService) -> None:
    """The error says how many fit and which keyword tells them apart."""
    add_model(registry, beampath="cu_hxr")
    add_model(registry, beampath="cu_sxr")
    with pytest.raises(AmbiguousError, match=r"2 models.*beampath \('cu_hxr', 'cu_s"):
        registry.get_model(author=FIELDS["author"])
    assert len(registry.get_models(author=FIELDS["author"])) == 2


# --- deployments ------------------------------------------------------------------


def test_deployment_comes_back_with_its_model(registry: ModelDBService) -> None:
    """A deployment is returned as it was stored, with the model it belongs to."""
    model_id = add_model(registry)
    number = add_deployment(
        registry,
        model_id,
        version="2026.11.20+build.1234567890",
        source="https://example.org/" + "x" * 15_000,
        asset_dir="assets",
        image="registry.example.org/my_model:1",
        lock="# lock ✓\n" * 1000,
        sha256=SHA.upper(),
    )
    found = registry.get_deployment(deployment_id=number)
    assert found.model == registry.get_model(model_id=model_id)
    assert found.model_id == model_id
    assert found.version == "2026.11.20+build.1234567890"
    assert len(found.source) == 15_020
    assert found.sha256 == SHA
    assert found.package_import_name == "my_model"
    assert (found.asset_dir, found.image) == (
        "assets",
        "registry.example.org/my_model:1",
    )
    assert found.entrypoints == {"track": "my_model.flow:track"}
    assert found.lock == "# lock ✓\n" * 1000
    assert found.is_live
    assert found.deploy_date.utcoffset() == timedelta(0)
    assert found.deploy_date.microsecond or found.deploy_date <= datetime.now(UTC)


def test_deployment_can_do_without_the_optional_fields(
    registry: ModelDBService,
) -> None:
    """What is left out comes back as nothing, and can be asked for as nothing."""
    number = add_deployment(registry, add_model(registry), entrypoints=None)
    found = registry.get_deployment(image=None)
    assert found.deployment_id == number
    assert (found.asset_dir, found.image, found.lock) == (None, None, None)
    assert found.entrypoints == {}


def test_storing_a_version_again_returns_it(registry: ModelDBService) -> None:
    """The same version with the same hash is the same deployment, as it was."""
    model_id = add_model(registry)
    first = add_deployment(registry, model_id)
    stored = registry.get_deployment(deployment_id=first)
    assert add_deployment(registry, model_id, image="other") == first
    assert registry.get_deployment(deployment_id=first) == stored


def test_another_source_for_a_version_is_a_conflict(registry: ModelDBService) -> None:
    """A stored version never changes: the error names both hashes and what to do."""
    model_id = add_model(registry)
    first = add_deployment(registry, model_id)
    with pytest.raises(ConflictError) as caught:
        add_deployment(registry, model_id, sha256=OTHER_SHA)
    message = str(caught.value)
    assert all(part in message for part in [SHA, OTHER_SHA, "new version", "'0.0.1'"])
    assert [d.deployment_id for d in registry.get_deployments()] == [first]


def test_versions_are_compared_exactly(registry: ModelDBService) -> None:
    """Versions that differ only in case or a trailing space are different ones."""
    model_id = add_model(registry)
    versions = ["1.0rc1", "1.0RC1", "1.0rc1 "]
    assert len({add_deployment(registry, model_id, v) for v in versions}) == 3


def test_models_may_have_equal_versions(registry: ModelDBService) -> None:
    """A version is unique within its model only."""
    one, two = add_model(registry), add_model(registry, author="other")
    add_deployment(registry, one)
    add_deployment(registry, two)
    with pytest.raises(AmbiguousError, match="model_id"):
        registry.get_deployment(version="0.0.1")
    assert registry.get_deployment(version="0.0.1", model_id=two).model_id == two


def test_unknown_model_of_a_deployment(registry: ModelDBService) -> None:
    """A deployment of a model that is not there is refused."""
    with pytest.raises(NotFoundError, match="model_id"):
        add_deployment(registry, 7)


def test_unknown_version_is_told_with_the_models_versions(
    registry: ModelDBService,
) -> None:
    """A version that is not there is reported with those the model has."""
    one, two = add_model(registry), add_model(registry, author="other")
    add_deployment(registry, one, "1.0.0")
    add_deployment(registry, two, "9.9.9")
    with pytest.raises(NotFoundError) as caught:
        registry.get_deployment(model_id=one, version="1.0.1")
    assert caught.value.known == ["1.0.0"]


def test_largest_lock_fits(registry: ModelDBService) -> None:
    """A lock of seven megabytes is stored in one piece and comes back unchanged."""
    lock = "\\\n" * (7 * 512 * 1024)
    number = add_deployment(registry, add_model(registry), lock=lock)
    assert registry.get_deployment(deployment_id=number).lock == lock


# --- live -------------------------------------------------------------------------


def test_one_deployment_is_live(registry: ModelDBService) -> None:
    """A new live deployment takes the place of the one before."""
    model_id = add_model(registry)
    first = add_deployment(registry, model_id, "1")
    second = add_deployment(registry, model_id, "2")
    third = add_deployment(registry, model_id, "3", is_live=False)
    assert registry.get_live_deployment(model_id).deployment_id == second
    assert registry.get_latest_deployment(model_id).deployment_id == third
    registry.set_live(first)
    assert [d.is_live for d in registry.get_deployments()] == [True, False, False]
    registry.set_live(first)
    assert registry.get_live_deployment(model_id).deployment_id == first


def test_storing_again_can_make_live(registry: ModelDBService) -> None:
    """An older version that is stored again as live becomes live; otherwise not."""
    model_id = add_model(registry)
    first = add_deployment(registry, model_id, "1")
    second = add_deployment(registry, model_id, "2")
    add_deployment(registry, model_id, "1", is_live=False)
    assert registry.get_live_deployment(model_id).deployment_id == second
    add_deployment(registry, model_id, "1")
    assert registry.get_live_deployment(model_id).deployment_id == first


def test_live_of_one_model_does_not_touch_another(registry: ModelDBService) -> None:
    """Each model has its own live deployment."""
    one, two = add_model(registry), add_model(registry, author="other")
    first, second = add_deployment(registry, one), add_deployment(registry, two)
    assert registry.get_live_deployment(one).deployment_id == first
    assert registry.get_live_deployment(two).deployment_id == second


def test_no_live_and_no_latest(registry: ModelDBService) -> None:
    """A model without deployments says so, and an unknown model is told apart."""
    model_id = add_model(registry)
    with pytest.raises(NotFoundError, match="store_deployment"):
        registry.get_latest_deployment(model_id)
    with pytest.raises(NotFoundError, match="promote"):
        registry.get_live_deployment(model_id)
    with pytest.raises(NotFoundError, match="model with model_id"):
        registry.get_live_deployment(model_id + 1)


def test_going_live_moves_the_flows_that_are_offered(
    registry: ModelDBService,
) -> None:
    """The model's flows point at the new deployment, if it offers them."""
    one, two = add_model(registry), add_model(registry, author="other")
    both = {"track": "m:track", "analyse": "m:analyse"}
    first = add_deployment(registry, one, "1", entrypoints=both)
    stranger = add_deployment(registry, two, "1", entrypoints=both)
    registry.store_project("test")
    registry.store_project("elsewhere")
    for flow_id, name, project, deployment in [
        ("a", "track", "test", first),
        ("b", "analyse", "test", first),
        ("c", "track", "elsewhere", stranger),
    ]:
        registry.store_flow(
            flow_id=flow_id,
            flow_name=name,
            project_name=project,
            deployment_id=deployment,
        )
    second = add_deployment(registry, one, "2", entrypoints={"track": "m:track"})
    pointers = {f.flow_id: f.deployment_id for f in registry.get_flows()}
    assert pointers == {"a": second, "b": first, "c": stranger}
    registry.set_live(first)
    assert registry.get_flow(flow_id="a").deployment_id == first


def test_unknown_deployment_cannot_go_live(registry: ModelDBService) -> None:
    """Making a deployment live that is not there changes nothing."""
    model_id = add_model(registry)
    first = add_deployment(registry, model_id)
    with pytest.raises(NotFoundError):
        registry.set_live(first + 1)
    assert registry.get_live_deployment(model_id).deployment_id == first


def test_eight_threads_promote_and_one_is_live(registry: ModelDBService) -> None:
    """However many promote at once, readers always see exactly one live deployment."""
    model_id = add_model(registry)
    numbers = [
        add_deployment(registry, model_id, str(i), sha256=f"{i:064x}") for i in range(8)
    ]
    add_flow(registry, "track", numbers[0])
    stop = threading.Event()
    seen: set[int] = set()

    def watch() -> None:
        while not stop.is_set():
            found = registry.get_deployments(model_id=model_id)
            seen.add(sum(deployment.is_live for deployment in found))

    def promote(number: int) -> None:
        for _ in range(4):
            registry.set_live(number)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(promote, numbers))
    finally:
        stop.set()
        watcher.join()
    assert seen == {1}
    live = registry.get_live_deployment(model_id).deployment_id
    assert registry.get_flow(flow_name="track").deployment_id == live


def test_eight_threads_store_one_model_and_one_version(
    registry: ModelDBService,
) -> None:
    """The same model and version stored at once by many is stored once."""
    barrier = threading.Barrier(8)

    def store(_: int) -> tuple[int, int, str, str]:
        barrier.wait()
        model_id = add_model(registry)
        number = add_deployment(registry, model_id)
        return model_id, number, add_flow(registry, "track", number), "test"

    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(store, range(8)))
    assert len(results) == 1
    assert len(registry.get_models()) == len(registry.get_deployments()) == 1
    assert len(registry.get_flows()) == len(registry.get_projects()) == 1


def test_eight_threads_store_different_sources_of_one_version(
    registry: ModelDBService,
) -> None:
    """Of several sources for one version the first is stored, the others are told."""
    model_id = add_model(registry)
    barrier = threading.Barrier(8)

    def store(i: int) -> int | None:
        barrier.wait()
        try:
            return add_deployment(registry, model_id, sha256=f"{i:064x}")
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        stored = [n for n in pool.map(store, range(8)) if n is not None]
    assert len(stored) == 1
    assert [d.deployment_id for d in registry.get_deployments()] == stored


# --- projects and flows -----------------------------------------------------------


def test_project_is_stored_once(registry: ModelDBService) -> None:
    """A project keeps its description until it gets one that is not empty."""
    assert registry.store_project("test", "my_description") == "test"
    registry.store_project("test")
    assert registry.get_project("test").description == "my_description"
    registry.store_project("test", "better")
    assert registry.get_project("test").description == "better"
    assert [p.project_name for p in registry.get_projects()] == ["test"]


def test_projects_are_told_apart_exactly_and_sorted(registry: ModelDBService) -> None:
    """Names are compared exactly and listed in the order of code points."""
    names = ["b", "B", "a", "á", "a "]
    for name in names:
        registry.store_project(name)
    assert [p.project_name for p in registry.get_projects()] == sorted(names)


def test_unknown_project(registry: ModelDBService) -> None:
    """A project that is not there is reported with those that are."""
    registry.store_project("test")
    with pytest.raises(NotFoundError, match="Did you mean 'test'"):
        registry.get_project("tset")
    with pytest.raises(NotFoundError, match="store_project"):
        registry.store_flow(flow_id="a", flow_name="a", project_name="tset")


def test_flow_comes_back_with_project_and_deployment(
    registry: ModelDBService,
) -> None:
    """A flow is returned with its project, its deployment and that one's model."""
    number = add_deployment(registry, add_model(registry))
    add_flow(registry, "track", number)
    flow = registry.get_flow(flow_name="track", project_name="test")
    assert flow.project == registry.get_project("test")
    assert flow.deployment == registry.get_deployment(deployment_id=number)
    assert (flow.project_name, flow.deployment_id) == ("test", number)
    assert flow.composition is None


def test_flow_stored_again_stays_or_moves(registry: ModelDBService) -> None:
    """A flow keeps its deployment unless it gets another one of the same model."""
    model_id = add_model(registry)
    first = add_deployment(registry, model_id, "1")
    second = add_deployment(registry, model_id, "2", is_live=False)
    assert add_flow(registry, "track", first) == "id-track"
    add_flow(registry, "track")
    assert registry.get_flow(flow_id="id-track").deployment_id == first
    add_flow(registry, "track", second)
    assert registry.get_flow(flow_id="id-track").deployment_id == second
    assert len(registry.get_flows()) == 1


def test_flow_of_another_model_is_a_conflict(registry: ModelDBService) -> None:
    """A flow cannot move to another model; the error says which one has it."""
    one, two = add_model(registry), add_model(registry, author="other")
    first, second = add_deployment(registry, one), add_deployment(registry, two)
    add_flow(registry, "track", first)
    with pytest.raises(ConflictError, match=f"model {one} .deployment {first}."):
        add_flow(registry, "track", second)
    assert registry.get_flow(flow_id="id-track").deployment_id == first


def test_flow_id_and_name_belong_together(registry: ModelDBService) -> None:
    """An id cannot change its name or project, nor a name its id."""
    add_flow(registry, "track")
    registry.store_project("other")
    for flow_id, name, project, words in [
        ("id-track", "renamed", "test", "'track' of project 'test'"),
        ("id-track", "track", "other", "'track' of project 'test'"),
        ("id-new", "track", "test", "flow_id 'id-track'"),
    ]:
        with pytest.raises(ConflictError, match=words):
            registry.store_flow(flow_id=flow_id, flow_name=name, project_name=project)
    assert len(registry.get_flows()) == 1


def test_unknown_deployment_of_a_flow(registry: ModelDBService) -> None:
    """A flow of a deployment that is not there is refused."""
    with pytest.raises(NotFoundError, match="deployment"):
        add_flow(registry, "track", 99)
    assert registry.get_flows() == []


def test_flow_that_is_not_there(registry: ModelDBService) -> None:
    """An unknown flow is reported with the names in that project."""
    add_flow(registry, "track")
    with pytest.raises(NotFoundError) as caught:
        registry.get_flow(flow_name="trak", project_name="test")
    assert caught.value.known == ["track"]
    assert "Did you mean 'track'" in str(caught.value)


def test_flows_without_a_deployment_can_be_found(registry: ModelDBService) -> None:
    """Asking for deployment_id None finds the flows that have none."""
    number = add_deployment(registry, add_model(registry))
    add_flow(registry, "track", number)
    add_flow(registry, "free")
    assert [f.flow_name for f in registry.get_flows(deployment_id=None)] == ["free"]
    assert [f.flow_name for f in registry.get_flows()] == ["free", "track"]


# --- flow-of-flows ----------------------------------------------------------------


def entry(flow: str, position: int, name: str = "", **values: Any) -> SubflowEntry:
    return SubflowEntry(f"id-{flow}", name or flow, position, **values)


@pytest.fixture
def flows(registry: ModelDBService) -> ModelDBService:
    """A registry that knows the flows "generate", "track" and "analyse"."""
    number = add_deployment(registry, add_model(registry))
    for name in ("generate", "track", "analyse"):
        add_flow(registry, name, number)
    return registry


MAPPING = {
    "beam": {
        "parent_flow_name": "generate",
        "parent_task_name": "save",
        "map_type": "file",
        "attribute_index": ["outputs", 0],
    }
}


def test_flow_of_flows_comes_back_in_order(flows: ModelDBService) -> None:
    """Subflows come by position, with mapping, constants, options and deployments."""
    add_chain(
        flows,
        entry("analyse", 3, "second", options={"prefect_deployment": "a/b"}),
        entry("track", 2, mapped_parameters=MAPPING),
        entry("analyse", 3, "first", parameters={"bins": 10, "range": [-1.5, None]}),
        entry("generate", 1),
        composition={"description": "a chain", "labels": ["x"]},
    )
    chain = flows.get_flow_of_flows(flow_name="chain")
    assert [(s.name, s.position) for s in chain.subflows] == [
        ("generate", 1),
        ("track", 2),
        ("second", 3),
        ("first", 3),
    ]
    assert chain.subflows[1].mapped_parameters == MAPPING
    assert chain.subflows[2].options == {"prefect_deployment": "a/b"}
    assert chain.subflows[3].parameters == {"bins": 10, "range": [-1.5, None]}
    assert chain.subflows[3].flow == flows.get_flow(flow_name="analyse")
    assert chain.subflows[3].flow_id == "id-analyse"
    assert chain.composition == {"description": "a chain", "labels": ["x"]}
    assert chain.parent.deployment is None
    assert chain.parent == flows.get_flow(flow_name="chain")
    assert flows.get_flow_of_flows(parent_flow_id="id-chain") == chain
    assert flows.get_flow_of_flows(flow_name="chain", project_name="test") == chain


def test_plain_values_come_back_exactly(flows: ModelDBService) -> None:
    """Numbers keep their type and value, text every character, keys their case."""
    values = {
        "integers": [0, -1, 2**63 - 1, -(2**63 - 1)],
        "floats": [0.1, 1.0, -1.5e-300, 1.7976931348623157e308, 5e-324, 1e22],
        "others": [True, False, None, "", "🜚 é \\ \" ' %s", {}, []],
        "Key": {"key": {"KEY": [[[1]]]}},
        "": "an empty key",
    }
    add_chain(flows, entry("track", 1, parameters=values), composition=values)
    chain = flows.get_flow_of_flows(flow_name="chain")
    assert repr_of(chain.subflows[0].parameters) == repr_of(values)
    assert repr_of(chain.composition) == repr_of(values)


def repr_of(tree: Any) -> str:
    """Return text in which 1, 1.0 and True differ and the order of keys does not."""
    if isinstance(tree, dict):
        return repr(sorted((key, repr_of(value)) for key, value in tree.items()))
    if isinstance(tree, list):
        return repr([repr_of(value) for value in tree])
    return repr(tree)


def row_ids(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT id FROM flow_of_flows ORDER BY id")
        return list(found.scalars())


def test_equal_composition_changes_nothing(
    flows: ModelDBService, engine: Engine
) -> None:
    """Writing the same again leaves the very rows; the order of keys is no change."""
    first = entry("track", 2, mapped_parameters=MAPPING, parameters={"a": 1, "b": 2})
    add_chain(flows, entry("generate", 1), first, composition={"x": 1, "y": 1.0})
    before = row_ids(engine)
    again = entry("track", 2, mapped_parameters=MAPPING, parameters={"b": 2, "a": 1})
    add_chain(flows, again, entry("generate", 1), composition={"y": 1.0, "x": 1})
    assert row_ids(engine) == before


def test_another_composition_takes_the_place(flows: ModelDBService) -> None:
    """A composition that differs in anything replaces the stored one."""
    first = [entry("generate", 1), entry("track", 2, parameters={"n": 1})]
    for entries, composition in [
        ([entry("generate", 1), entry("track", 3)], {}),
        ([entry("generate", 1)], {}),
        ([entry("generate", 1), entry("track", 2), entry("analyse", 2)], {}),
        ([entry("generate", 1), entry("track", 2, parameters={"n": True})], {}),
        ([entry("generate", 1), entry("track", 2, "other", parameters={"n": 1})], {}),
        ([entry("generate", 1), entry("track", 2, options={"n": 1})], {}),
        (first, {"labels": []}),
    ]:
        add_chain(flows, *first)
        add_chain(flows, *entries, composition=composition)
        chain = flows.get_flow_of_flows(flow_name="chain")
        found = [
            SubflowEntry(
                s.flow_id,
                s.name,
                s.position,
                s.mapped_parameters,
                s.parameters,
                s.options,
            )
            for s in chain.subflows
        ]
        assert repr(found) == repr(entries)
        assert chain.composition == composition


def test_unknown_subflow_leaves_everything_as_it_was(
    flows: ModelDBService, engine: Engine
) -> None:
    """One unknown subflow, and neither a new parent nor a changed one is written."""
    bad = [entry("generate", 1), entry("unknown", 2)]
    with pytest.raises(NotFoundError, match="'id-unknown'"):
        add_chain(flows, *bad)
    assert flows.get_flows(deployment_id=None) == []
    add_chain(flows, entry("generate", 1))
    before = flows.get_flow_of_flows(flow_name="chain"), row_ids(engine)
    with pytest.raises(NotFoundError, match="'id-unknown'"):
        add_chain(flows, *bad, composition={"new": 1})
    assert (flows.get_flow_of_flows(flow_name="chain"), row_ids(engine)) == before


def test_flow_of_flows_needs_subflows(flows: ModelDBService) -> None:
    """A flow-of-flows without subflows is refused."""
    with pytest.raises(InvalidInputError, match="at least one"):
        add_chain(flows)


def test_flow_of_flows_may_hold_another_but_not_itself(flows: ModelDBService) -> None:
    """Compositions nest; one that would contain itself in the end is refused."""
    add_chain(flows, entry("track", 1))
    outer = {"parent_flow_id": "id-outer", "parent_flow_name": "outer"}
    add_chain(flows, entry("chain", 1), entry("analyse", 2), **outer)
    nested = flows.get_flow_of_flows(flow_name="outer").subflows[0].flow
    assert (nested.flow_name, nested.deployment) == ("chain", None)
    with pytest.raises(InvalidInputError, match="contain itself"):
        add_chain(flows, entry("outer", 1))


def test_served_flow_is_no_parent_and_a_parent_is_not_served(
    flows: ModelDBService,
) -> None:
    """A flow is either served by a deployment or the parent of subflows."""
    with pytest.raises(ConflictError, match="served by deployment"):
        add_chain(
            flows,
            entry("generate", 1),
            parent_flow_id="id-track",
            parent_flow_name="track",
        )
    add_chain(flows, entry("track", 1))
    with pytest.raises(ConflictError, match="parent of a flow-of-flows"):
        add_flow(flows, "chain", flows.get_flow(flow_name="track").deployment_id)


def test_parent_of_a_known_flow_without_deployment(flows: ModelDBService) -> None:
    """A flow that was stored without a deployment can become a parent."""
    add_flow(flows, "chain")
    add_chain(flows, entry("track", 1))
    assert flows.get_flow_of_flows(parent_flow_id="id-chain").composition == {}


def test_flow_of_flows_that_is_not_there(flows: ModelDBService) -> None:
    """An unknown name, a flow without subflows and no name at all are told apart."""
    add_chain(flows, entry("track", 1))
    with pytest.raises(NotFoundError, match="Did you mean 'chain'"):
        flows.get_flow_of_flows(flow_name="chian")
    with pytest.raises(NotFoundError, match=r"'chain'.*no subflows"):
        flows.get_flow_of_flows(flow_name="track")
    with pytest.raises(InvalidInputError):
        flows.get_flow_of_flows()


def test_flow_of_flows_of_one_name_in_two_projects(flows: ModelDBService) -> None:
    """A name that several projects use is ambiguous without the project."""
    flows.store_project("other")
    add_chain(flows, entry("track", 1))
    add_chain(flows, entry("track", 1), project_name="other", parent_flow_id="id-other")
    with pytest.raises(AmbiguousError, match="project_name"):
        flows.get_flow_of_flows(flow_name="chain")
    found = flows.get_flow_of_flows(flow_name="chain", project_name="other")
    assert found.parent.flow_id == "id-other"


def test_compositions_of_many_threads_never_mix(flows: ModelDBService) -> None:
    """Of compositions written at once one is stored, whole."""

    def store(i: int) -> None:
        for _ in range(3):
            add_chain(
                flows,
                entry("generate", 1, f"generate-{i}"),
                entry("track", 2, f"track-{i}"),
                composition={"i": i},
            )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(store, range(6)))
    chain = flows.get_flow_of_flows(flow_name="chain")
    i = chain.composition["i"]
    assert [s.name for s in chain.subflows] == [f"generate-{i}", f"track-{i}"]


# --- removing ---------------------------------------------------------------------


def test_live_deployment_is_removed_by_force_only(registry: ModelDBService) -> None:
    """A live deployment stays unless forced; its flows go with it."""
    number = add_deployment(registry, add_model(registry))
    add_flow(registry, "track", number)
    with pytest.raises(ConflictError, match="force=True"):
        registry.delete_deployment(number)
    registry.delete_deployment(number, force=True)
    assert (registry.get_deployments(), registry.get_flows()) == ([], [])
    with pytest.raises(NotFoundError):
        registry.delete_deployment(number)


def test_numbers_are_never_given_out_again(registry: ModelDBService) -> None:
    """A result that names a removed deployment never seems to come from another."""
    model_id = add_model(registry)
    number = add_deployment(registry, model_id)
    registry.delete_deployment(number, force=True)
    assert add_deployment(registry, model_id) > number


def test_model_is_removed_with_all_that_is_its(registry: ModelDBService) -> None:
    """A model takes its deployments and flows along, and leaves those of others."""
    one, two = add_model(registry), add_model(registry, author="other")
    number = add_deployment(registry, one)
    add_flow(registry, "track", number)
    add_flow(registry, "other", add_deployment(registry, two))
    with pytest.raises(ConflictError, match="live deployment"):
        registry.delete_model(one)
    registry.delete_model(one, force=True)
    assert [m.model_id for m in registry.get_models()] == [two]
    assert [d.model_id for d in registry.get_deployments()] == [two]
    assert [f.flow_name for f in registry.get_flows()] == ["other"]


def test_what_a_flow_of_flows_uses_cannot_be_removed(flows: ModelDBService) -> None:
    """Not even by force; the error names the parents. Then the parent goes first."""
    add_chain(flows, entry("track", 1, "tracking"))
    flow = flows.get_flow(flow_name="track")
    assert flow.deployment is not None
    removals: list[Callable[[], None]] = [
        lambda: flows.delete_deployment(flow.deployment.deployment_id, force=True),
        lambda: flows.delete_model(flow.deployment.model_id, force=True),
        lambda: flows.delete_flow("id-track"),
    ]
    for remove in removals:
        with pytest.raises(ConflictError, match=r"'chain' as 'tracking'"):
            remove()
    flows.delete_flow("id-chain")
    flows.delete_model(flow.deployment.model_id, force=True)
    assert (flows.get_flows(), flows.get_models()) == ([], [])


# --- how it asks ------------------------------------------------------------------


def test_statements_do_not_grow_with_rows(
    registry: ModelDBService, statements: Callable[[Callable[[], Any]], int]
) -> None:
    """Every read is one statement, for one row as for hundreds."""
    first: dict[str, int] = {}
    reads: dict[str, Callable[[], Any]] = {
        "models": registry.get_models,
        "deployments": registry.get_deployments,
        "projects": registry.get_projects,
        "flows": registry.get_flows,
        "model": lambda: registry.get_model(model_id=first["model"]),
        "deployment": lambda: registry.get_deployment(
            deployment_id=first["deployment"]
        ),
        "live": lambda: registry.get_live_deployment(first["model"]),
        "latest": lambda: registry.get_latest_deployment(first["model"]),
        "project": lambda: registry.get_project("test"),
        "flow": lambda: registry.get_flow(flow_name="0"),
        "chain": lambda: registry.get_flow_of_flows(flow_name="chain"),
    }

    def fill(numbers: range) -> None:
        entries = []
        for i in numbers:
            model_id = add_model(registry, author=str(i))
            number = add_deployment(registry, model_id, entrypoints=None)
            first.setdefault("model", model_id)
            first.setdefault("deployment", number)
            add_flow(registry, str(i), number)
            registry.store_project(f"p{i}")
            entries.append(entry(str(i), i + 1))
        add_chain(registry, *entries)

    fill(range(1))
    assert {name: statements(read) for name, read in reads.items()} == dict.fromkeys(
        reads, 1
    )
    fill(range(40))
    assert {name: statements(read) for name, read in reads.items()} == dict.fromkeys(
        reads, 1
    )
    assert len(registry.get_flow_of_flows(flow_name="chain").subflows) == 40
