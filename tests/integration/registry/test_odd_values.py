"""Odd text in each field of each call: stored and found exactly, or refused by name."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, inspect

from prefect_lume.errors import InvalidInputError, NotFoundError
from prefect_lume.registry import ModelDBService, SubflowEntry, fields

DATABASES = [
    "sqlite",
    *(
        pytest.param(name, marks=pytest.mark.service(name))
        for name in ("mysql", "mariadb", "postgresql")
    ),
]
#: Words that somebody, somewhere, takes for something else. None is over 36 characters.
ODD = [
    "O'Brien",
    'say "no"',
    "back\\slash\\",
    "100 %",
    "%s %(name)s %%",
    "_under_score%",
    ":bind :1",
    "?",
    "{0} {name} {{",
    "`tick`",
    "'; DROP TABLE model; --",
    '"; DELETE FROM deployment; --',
    "x' OR '1'='1",
    "\\' OR 1=1 -- ",
    "1); DROP TABLE flow; /*",
    "${jndi:ldap://x}",
    "😀 👩‍🔬",
    "𐍈 𠜎",
    "\U0010ffff",
    "שלום \u202eכתב\u202c",
    "مرحبا",
    "日本語",
    "e\u0301",
    "\u00e9",
    "ß",
    "SS",
    "İi̇",
    " leading",
    "trailing ",
    "trailing",
    "tab\there",
    "line\nbreak",
    "carriage\r\nreturn",
    "\u00a0",
    "\u200b",
    "\ufeffmark",
    "\x01\x1f\x7f",
    "\ufffd\ufffe",
    "NULL",
    "None",
    "null",
    "0",
    "-1",
    "true",
    "1e309",
    "[]",
    '{"$ne": 1}',
    "../../etc/passwd",
    "<script>alert(1)</script>",
]
#: Text that every database can hold.
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    min_size=1,
    max_size=30,
)


@pytest.fixture
def tables(engine: Engine) -> Iterator[None]:
    """The tables are the same after the test as before."""

    def shown() -> dict[str, list[str]]:
        inspector = inspect(engine)
        return {
            name: [column["name"] for column in inspector.get_columns(name)]
            for name in inspector.get_table_names()
        }

    before = shown()
    yield
    assert shown() == before


def store_all(registry: ModelDBService, lab: Any, word: str, key: str) -> None:
    """Say a word in every text field of every storing call, and find it by each."""
    model = registry.store_model(
        author=word, laboratory=word, facility=word, beampath=word, description=word
    )
    assert registry.get_model(description=word, author=word).model_id == model
    registry.tag_model(model, {word: word, "plain": word}, reason=word)
    assert registry.get_model(model_id=model).tags == {word: word, "plain": word}
    number = registry.store_deployment(
        model_id=model,
        version=word,
        source=word,
        sha256=lab.sha,
        package_import_name=word,
        asset_dir=word,
        image=word,
        entrypoints={word: f"module:{word}"},
        lock=word,
        description=word,
        tags={word: word},
        reason=word,
    )
    found = registry.get_deployment(
        version=word,
        source=word,
        package_import_name=word,
        asset_dir=word,
        image=word,
        description=word,
    )
    assert found.deployment_id == number
    assert {
        found.version,
        found.source,
        found.package_import_name,
        found.asset_dir,
        found.image,
        found.description,
        found.lock,
        *found.tags,
        *found.tags.values(),
        *found.entrypoints,
    } == {word}
    assert found.entrypoints == {word: f"module:{word}"}
    registry.describe_deployment(number, f"{word}{word}", reason=word)
    registry.tag_deployment(number, {word: f"{word}{word}"}, reason=word)
    registry.demote(model, reason=word)
    registry.promote(number, reason=word)
    found = registry.get_live_deployment(model)
    assert (found.description, found.tags) == (word * 2, {word: word * 2})
    assert registry.store_project(word, word, reason=word) == word
    assert registry.get_project(word).description == word
    ids = f"a{key}", f"b{key}"
    registry.store_flow(
        flow_id=ids[0], flow_name=word, project_name=word, deployment_id=number
    )
    part = SubflowEntry(
        ids[0], word, 1, {word: {word: word}}, {word: [word]}, {word: word}
    )
    registry.store_flow_of_flows(
        parent_flow_id=ids[1],
        parent_flow_name=f"{word}{word}",
        project_name=word,
        subflows=[part],
        composition={word: word},
    )
    chain = registry.get_flow_of_flows(flow_name=f"{word}{word}", project_name=word)
    (subflow,) = chain.subflows
    assert chain.composition == {word: word}
    assert (subflow.name, subflow.flow.flow_name) == (word, word)
    assert subflow.mapped_parameters == {word: {word: word}}
    assert (subflow.parameters, subflow.options) == ({word: [word]}, {word: word})
    assert registry.get_flow(flow_name=word, project_name=word).flow_id == ids[0]
    history = registry.get_history(model_id=model)
    assert {event.reason for event in history} == {word, ""}
    assert history[-1].after == dict.fromkeys(
        ("author", "laboratory", "facility", "beampath", "description"), word
    )
    assert {event.actor for event in history} == {word}


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_odd_words_in_every_field(engine: Engine, lab: Any) -> None:
    """Whatever is said in any field comes back as it was, and finds itself only."""
    for n, word in enumerate(ODD):
        store_all(ModelDBService(engine, actor=word), lab, word, str(n))
    registry = ModelDBService(engine)
    assert [m.author for m in registry.get_models()] == ODD
    assert [d.version for d in registry.get_deployments()] == ODD
    assert {p.project_name for p in registry.get_projects()} == set(ODD)
    for word in ODD:
        assert [m.author for m in registry.get_models(author=word)] == [word]
        assert [d.version for d in registry.get_deployments(version=word)] == [word]
    lab.check_ledger(registry, engine)
    # They are taken away as exactly.
    for n, word in enumerate(ODD):
        registry.delete_flow(f"b{n}")
        registry.delete_flow(f"a{n}")
        registry.rename_project(word, "other")
        registry.rename_project("other", word)
        registry.delete_project(word)
        registry.delete_model(registry.get_model(author=word).model_id, force=True)
        assert len(registry.get_models()) == len(registry.get_projects())
        assert len(registry.get_models()) == len(ODD) - n - 1


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_odd_words_find_nothing_by_accident(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """Looked for where it is not, an odd word finds nothing and harms nothing."""
    lab.fill(registry)
    before = lab.rows(engine)
    for word in ODD:
        for name in ("author", "laboratory", "facility", "beampath", "description"):
            assert registry.get_models(**{name: word}) == []
        for name in ("version", "source", "image", "asset_dir", "description"):
            assert registry.get_deployments(**{name: word}) == []
        assert registry.get_flows(flow_name=word, project_name=word) == []
        for ask in (
            lambda word=word: registry.get_project(word),
            lambda word=word: registry.delete_project(word),
            lambda word=word: registry.delete_flow(word),
            lambda word=word: registry.rename_project(word, "x"),
            lambda word=word: registry.get_flow(flow_id=word),
            lambda word=word: registry.get_flow_uses(word),
            lambda word=word: registry.get_deployment_by_alias(1, word),
        ):
            with pytest.raises(NotFoundError):
                ask()
    assert lab.rows(engine) == before


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_generated_text_comes_back(engine: Engine, lab: Any) -> None:
    """Any text without a null character or half a pair is kept and found exactly."""
    keys = iter(range(1_000_000))

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(TEXT)
    def check(word: str) -> None:
        if word in seen:
            return
        seen.add(word)
        store_all(ModelDBService(engine, actor=word), lab, word, str(next(keys)))

    seen: set[str] = set()
    check()
    registry = ModelDBService(engine)
    assert {m.author for m in registry.get_models()} == seen
    lab.check_ledger(registry, engine)


def calls(registry: ModelDBService, at: Any, lab: Any, word: Any) -> dict[str, Any]:
    """Return a call for each text field, by the name that a refusal has to tell."""
    model = dict.fromkeys(
        ("author", "laboratory", "facility", "beampath", "description"), "x"
    )
    deployment = {"version": "x", "source": "x", "package_import_name": "x"}
    optional = ("asset_dir", "image", "lock", "description")

    def subflow(**changes: Any) -> Callable[[], Any]:
        entry = {"flow_id": "t", "name": "x", "position": 1, **changes}
        return lambda: registry.store_flow_of_flows(
            parent_flow_id="n",
            parent_flow_name="n",
            project_name="test",
            subflows=[SubflowEntry(**entry)],
        )

    def flow(**changes: Any) -> Callable[[], Any]:
        values = {"flow_id": "n", "flow_name": "n", "project_name": "test", **changes}
        return lambda: registry.store_flow(**values)

    def release(**changes: Any) -> Callable[[], Any]:
        values = {**deployment, "version": "x", **changes}
        return lambda: registry.store_deployment(
            model_id=at.model, sha256=lab.sha, **values
        )

    return {
        **{
            f"model {name}": lambda name=name: registry.store_model(
                **{**model, name: word}
            )
            for name in model
        },
        **{f"deployment {n}": release(**{n: word}) for n in (*deployment, *optional)},
        "deployment tag's key": release(tags={word: "x"}),
        "deployment tag": release(tags={"key": word}),
        "deployment entrypoints": release(entrypoints={word: "a:b"}),
        "deployment alias": release(aliases=[word]),
        "deployment reason": lambda: registry.promote(at.first, reason=word),
        "tag": lambda: registry.tag_deployment(at.first, {"key": word}),
        "alias": lambda: registry.set_alias(at.model, word, at.first),
        "description": lambda: registry.describe_deployment(at.first, word),
        "project_name": lambda: registry.store_project(word),
        "project description": lambda: registry.store_project("new", word),
        "new_name": lambda: registry.rename_project("empty", word),
        "flow flow_id": flow(flow_id=word),
        "flow flow_name": flow(flow_name=word),
        "flow project_name": flow(project_name=word),
        "subflow flow_id": subflow(flow_id=word),
        "subflow name": subflow(name=word),
        "subflow mapped_parameters": subflow(mapped_parameters={"a": [word]}),
        "subflow parameters": subflow(parameters={"a": word}),
        "subflow options": subflow(options={"a": word}),
        "subflow keys of parameters": subflow(parameters={word: 1}),
        "finding author": lambda: registry.get_models(author=word),
        "finding version": lambda: registry.get_deployments(version=word),
        "finding flow_name": lambda: registry.get_flows(flow_name=word),
    }


@pytest.mark.parametrize(
    "word", ["a\0b", "a\ud800b", "\udfff"], ids=["null", "high", "low"]
)
@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_what_is_no_text_is_refused_by_name(
    registry: ModelDBService, engine: Engine, lab: Any, word: str
) -> None:
    """A null character or half a surrogate pair is refused, and the field is named."""
    at = lab.fill(registry)
    before = lab.rows(engine)
    told = "null character" if "\0" in word else "surrogate"
    for name, call in calls(registry, at, lab, word).items():
        with pytest.raises(InvalidInputError, match=told) as caught:
            call()
        assert name.split()[-1] in str(caught.value), name
        # The message itself can be shown and sent.
        json.dumps(str(caught.value)).encode()
        str(caught.value).encode()
    assert lab.rows(engine) == before


#: The most characters of the fields, where it is not that of a name.
LIMITS = {
    "deployment source": fields.SOURCE_LENGTH,
    "deployment asset_dir": fields.PATH_LENGTH,
    "deployment image": fields.PATH_LENGTH,
    "deployment description": fields.DESCRIPTION_LENGTH,
    "deployment reason": fields.DESCRIPTION_LENGTH,
    "description": fields.DESCRIPTION_LENGTH,
    "deployment tag": fields.TAG_LENGTH,
    "tag": fields.TAG_LENGTH,
    "project description": fields.SOURCE_LENGTH,
    "flow flow_id": fields.FLOW_ID_LENGTH,
    "subflow flow_id": fields.FLOW_ID_LENGTH,
}
#: Fields that have no limit in characters, or refuse nothing that is looked for.
LONG = {
    "deployment lock",
    "subflow mapped_parameters",
    "subflow parameters",
    "subflow options",
    "subflow keys of parameters",
    "finding author",
    "finding version",
    "finding flow_name",
}


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_ten_thousand_characters(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """10,000 characters are stored where they fit, or refused with the limit."""
    at = lab.fill(registry)
    before = lab.rows(engine)
    word = "x" * 9_999 + "😀"
    for name, call in calls(registry, at, lab, word).items():
        limit = LIMITS.get(name, fields.NAME_LENGTH)
        if name in LONG or limit >= len(word):
            continue
        with pytest.raises(InvalidInputError, match=f"at most {limit:,}") as caught:
            call()
        assert name.split()[-1] in str(caught.value), name
        assert len(str(caught.value)) < 500
    assert lab.rows(engine) == before
    assert calls(registry, at, lab, word)["finding author"]() == []
    number = registry.store_deployment(
        model_id=at.model,
        version="long",
        source=word,
        sha256=lab.sha,
        package_import_name="x",
        lock=word,
    )
    assert registry.get_deployment(source=word).deployment_id == number
    assert registry.get_deployment(deployment_id=number).lock == word
    registry.store_project("long", word)
    assert registry.get_project("long").description == word
    part = SubflowEntry("t", "x", 1, parameters={word: word})
    registry.store_flow_of_flows(
        parent_flow_id="long",
        parent_flow_name="long",
        project_name="long",
        subflows=[part],
    )
    stored = registry.get_flow_of_flows(flow_name="long").subflows[0]
    assert stored.parameters == {word: word}


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_longest_text_of_four_bytes_fits(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """A limit counts characters: that many of four bytes each are stored and found."""

    def word(limit: int) -> str:
        return "𐍈" * limit

    model = registry.store_model(
        **dict.fromkeys(
            ("author", "laboratory", "facility", "beampath", "description"),
            word(fields.NAME_LENGTH),
        )
    )
    key = word(fields.NAME_LENGTH)
    number = registry.store_deployment(
        model_id=model,
        version=key,
        source=word(fields.SOURCE_LENGTH),
        sha256=lab.sha,
        package_import_name=key,
        asset_dir=word(fields.PATH_LENGTH),
        image=word(fields.PATH_LENGTH),
        description=word(fields.DESCRIPTION_LENGTH),
        tags={key: word(fields.TAG_LENGTH)},
        aliases=[key],
        reason=word(fields.DESCRIPTION_LENGTH),
    )
    found = registry.get_deployment(version=key, image=word(fields.PATH_LENGTH))
    assert found.deployment_id == number
    assert found.tags == {key: word(fields.TAG_LENGTH)}
    assert found.source == word(fields.SOURCE_LENGTH)
    assert registry.get_deployment_by_alias(model, key).deployment_id == number
    registry.store_project(key, word(fields.SOURCE_LENGTH))
    registry.store_flow(flow_id=word(36), flow_name=key, project_name=key)
    assert registry.get_flow(flow_id=word(36)).flow_name == key
    lab.check_ledger(registry, engine)


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_composed_and_combining_characters_differ(
    registry: ModelDBService, lab: Any
) -> None:
    """Text is not normalised: what looks alike and is not equal is two things."""
    composed, combining = "\u00e9", "e\u0301"
    assert unicodedata.normalize("NFC", combining) == composed
    numbers = {
        word: lab.add_model(registry, author=word)
        for word in (composed, combining, "e", "E", "e ")
    }
    assert len(set(numbers.values())) == 5
    for word, number in numbers.items():
        registry.store_project(word)
        registry.tag_model(number, {word: "x"})
        assert registry.get_model(author=word).model_id == number
        assert registry.get_model(author=word).tags == {word: "x"}
    assert len(registry.get_projects()) == 5
