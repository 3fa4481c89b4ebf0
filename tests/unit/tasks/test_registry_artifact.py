"""The registry in the Prefect UI: the page's text, and the artifact."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from sqlalchemy import event as sqlalchemy_event

from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import InvalidInputError
from prefect_lume.tasks import publish_registry
from prefect_lume.tasks._registry_markdown import registry_markdown

_NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.fixture
def services(tmp_path):
    """Embedded services in a folder of their own."""
    return LumeServices(home=str(tmp_path / "lume"))


@pytest.fixture
def registry(services):
    return open_context(services).model_db_service()


def model(registry, description):
    return registry.store_model(
        author="Jackie Garrahan",
        laboratory="slac",
        facility="lcls",
        beampath="cu_hxr",
        description=description,
    )


def deployment(registry, model_id, version, **more):
    return registry.store_deployment(
        model_id=model_id,
        version=version,
        source=f"https://example.org/my_model-{version}.tar.gz",
        sha256="ab" * 32,
        package_import_name="my_model",
        **more,
    )


@pytest.fixture
def page(registry):
    def text():
        return registry_markdown(registry, _NOW)

    return text


def test_an_empty_registry_says_so(page):
    """Where there is nothing, the page says that, and when."""
    assert page() == (
        "## Model registry, 2026-01-31 12:00 UTC\n\nThere is no model yet."
    )


def test_what_is_live_is_told_in_full(registry, page):
    """Version, since when, by whom, why, source, hash, image, aliases, flows."""
    number = model(registry, "Injector")
    first = deployment(registry, number, "1.0", image="example.org/injector:1")
    registry.store_project("linac")
    registry.store_flow(
        flow_id="f" * 36, flow_name="track", project_name="linac", deployment_id=first
    )
    second = deployment(registry, number, "2.0", is_live=False)
    registry.set_alias(number, "candidate", second)
    registry.demote(number)
    event = registry.promote(first, reason="reviewed")
    since = f"{event.happened:%Y-%m-%d %H:%M}"
    who = event.actor.replace("@", r"\@").replace("_", r"\_")
    text = page()
    assert "1 model, 1 of them with a live deployment." in text
    assert f"| {number} | Injector | 1.0 | {since} | {who} |" in text
    assert text.split("### Injector · 1.0\n\n")[1].split("\n\n")[0].splitlines() == [
        f"- **live** deployment {first}, since {since} UTC, by {who}: reviewed",
        r"- **model** Jackie Garrahan, slac/lcls/cu\_hxr",
        r"- **source** https\://example.org/my\_model-1.0.tar.gz",
        "- **sha256** `abababababab`",
        "- **image** example.org/injector:1",
        "- **lock** none",
        "- **aliases** candidate → 2.0",
        "- **flows** linac/track",
    ]


def test_models_without_a_live_deployment_are_named(registry, page):
    """What is not in production is told, too."""
    live, demoted, new = (model(registry, name) for name in ("One", "Two", "Three"))
    deployment(registry, live, "1")
    deployment(registry, demoted, "1")
    registry.demote(demoted)
    text = page()
    assert "3 models, 1 of them with a live deployment." in text
    rest = text.split("### Not live\n\n")[1].split("\n\n")[0]
    assert rest == f"- model {demoted}: Two\n- model {new}: Three"


def test_the_last_changes_are_told_in_words(registry, page):
    """The newest first: what happened, to which, what was before, by whom, why."""
    number = model(registry, "Injector")
    first = deployment(registry, number, "1.0")
    second = deployment(registry, number, "2.0")
    registry.rollback(number, reason="diverges")
    registry.set_alias(number, "candidate", second)
    registry.tag_deployment(second, {"stage": "test"})
    registry.store_project("linac")
    registry.rename_project("linac", "injector")
    lines = page().split("### Last changes (UTC)\n\n")[1].splitlines()
    told = [line.split("** ", 1)[1].rsplit(", by ", 1)[0] for line in lines]
    assert told == [
        "project injector: project renamed: 'linac' → 'injector'",
        "project linac: project created",
        f"Injector: deployment {second} tagged: stage none → 'test'",
        f"Injector: alias set: candidate none → {second}",
        (
            f"Injector: rolled back to deployment {first} (version 1.0), "
            f"in place of {second}"
        ),
        f"Injector: deployment {second} (version 2.0) made live, in place of {first}",
        f"Injector: deployment {second} (version 2.0) registered",
        f"Injector: deployment {first} (version 1.0) made live",
        f"Injector: deployment {first} (version 1.0) registered",
        "Injector: model registered",
    ]
    assert lines[4].endswith(": diverges")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("a | b", r"a \| b"),
        ("two\n# lines", r"two\\n\# lines"),
        ("[x](javascript:alert(1))", r"\[x\](javascript:alert(1))"),
        ("![x](https://example.org/p)", r"\!\[x\](https\://example.org/p)"),
        ("www.example.org", r"www\.example.org"),
        ("a@example.org", r"a\@example.org"),
        ("`code` *bold*", r"\`code\` \*bold\*"),
        ("\x1b[31mred", r"\\x1b\[31mred"),
    ],
)
def test_stored_text_is_no_markup(registry, page, text, shown):
    """Whatever somebody stored is shown as text: no link, picture, table or tag."""
    number = model(registry, text)
    deployment(registry, number, "1.0", reason=text, description=text)
    assert f"| {number} | {shown} | 1.0 |" in page()
    assert f"### {shown} · 1.0" in page()
    assert f"- **about** {shown}\n" in page()
    assert text not in page()


def test_the_number_of_statements_does_not_grow(registry, page):
    """Ten times the models take as many statements."""
    sent = []

    def note(_connection, _cursor, statement, *_):
        sent.append(statement)

    sqlalchemy_event.listen(registry._engine, "before_cursor_execute", note)
    numbers = []
    for total in (3, 30):
        for index in range(total - len(registry.get_models())):
            deployment(registry, model(registry, f"{total} {index}"), "1.0")
        sent.clear()
        assert page().count("**sha256**") == total
        numbers.append(len(sent))
    assert numbers[0] == numbers[1]


def test_of_very_many_models_the_newest_are_told(registry, page, monkeypatch):
    """A long registry is cut, and the page says so."""
    monkeypatch.setattr("prefect_lume.tasks._registry_markdown._MODELS", 2)
    for name in ("One", "Two", "Three"):
        deployment(registry, model(registry, name), "1.0")
    text = page()
    assert "3 models, 3 of them with a live deployment. The newest 2 are told" in text
    assert "### Two · 1.0" in text
    assert "### One" not in text


def test_live_before_there_was_a_history_is_no_error(registry, page, monkeypatch):
    """A deployment of which no event tells how it became live is told without."""
    deployment(registry, model(registry, "Old"), "0.1")
    monkeypatch.setattr(type(registry), "get_promotions", lambda *_: {})
    assert "since before there was a history" in page()


def test_the_artifact_has_the_pages_text(registry, services):
    """The task makes one markdown artifact of the key `lume-registry`."""
    deployment(registry, model(registry, "Injector"), "1.0")

    @flow(name="every-morning")
    def every_morning():
        publish_registry(services=services)

    state = every_morning(return_state=True)
    state.result()
    run_id = state.state_details.flow_run_id
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(artifact_filter=wanted)
    assert (artifact.key, artifact.type) == ("lume-registry", "markdown")
    assert "### Injector · 1.0" in artifact.data


@pytest.mark.parametrize("key", ["Registry", "a b", "", "-a", "ä"])
def test_a_key_of_another_form_is_refused(services, key):
    """Keys are small letters, digits and dashes."""
    with pytest.raises(InvalidInputError, match="small letters"):
        publish_registry.fn(key=key, services=services)
