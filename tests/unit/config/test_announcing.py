"""What Prefect is told of the registry's changes, and who is said to have made them."""

import getpass
from datetime import UTC, datetime

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_lume.config import announcing, configure, open_context
from prefect_lume.registry import RegistryEvent

FIELDS = {
    "author": "a",
    "laboratory": "l",
    "facility": "f",
    "beampath": "b",
    "description": "d",
}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test has an embedded folder of its own, and no configured services."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.delenv("PREFECT_LUME_ACTOR", raising=False)
    configure()
    yield
    configure()


@pytest.fixture
def sent(monkeypatch):
    """What would be sent to Prefect."""
    events = []
    monkeypatch.setattr(
        announcing,
        "emit_event",
        lambda event, **values: events.append({"event": event, **values}),
    )
    return events


def test_a_change_is_told_when_it_is_committed(sent):
    """Each event of the registry is one of Prefect, with what and who and before."""
    registry = open_context().model_db_service()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        model_id = registry.store_model(**FIELDS)
        number = registry.store_deployment(
            model_id=model_id,
            version="1",
            source="s",
            sha256="ab" * 32,
            package_import_name="x",
            reason="first release",
        )
        assert registry.promote(number) is None  # It is live: nothing to tell.
    names = [event["event"] for event in sent]
    assert names == [
        "prefect-lume.model.stored",
        "prefect-lume.deployment.stored",
        "prefect-lume.deployment.promoted",
    ]
    promoted = sent[-1]
    history = registry.get_history(model_id=model_id)
    assert promoted["occurred"] == history[0].happened
    assert (
        promoted["resource"]["prefect.resource.id"] == f"prefect-lume.model.{model_id}"
    )
    assert promoted["related"] == [
        {
            "prefect.resource.id": f"prefect-lume.deployment.{number}",
            "prefect.resource.role": "deployment",
        }
    ]
    assert promoted["payload"]["before"] == {"live": None}
    assert promoted["payload"]["after"] == {"live": number, "version": "1"}
    assert promoted["payload"]["reason"] == "first release"
    assert promoted["payload"]["number"] == 3


def test_without_a_server_nothing_is_told(sent):
    """An embedded registry starts no Prefect server to tell it something."""
    registry = open_context().model_db_service()
    with temporary_settings({PREFECT_API_URL: None}):
        model_id = registry.store_model(**FIELDS)
    assert sent == []
    assert [event.kind for event in registry.get_history(model_id=model_id)] == [
        "model.stored"
    ]


def test_an_event_that_is_too_large_is_said_in_the_log(monkeypatch, caplog):
    """What Prefect does not take is no error of the change, which is committed."""

    def refuse(event, **values):
        raise announcing.EventTooLarge(2, 1)

    monkeypatch.setattr(announcing, "emit_event", refuse)
    event = RegistryEvent(
        subject="model",
        subject_id="1",
        number=1,
        kind="model.tagged",
        happened=datetime.now(UTC),
        actor="a",
        reason="",
    )
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        announcing.announce([event])
    assert "model.tagged" in caplog.text


def test_the_actor_is_who_runs_the_process(monkeypatch):
    """It is the user and the machine, unless a setting names somebody."""
    assert announcing.actor().startswith(f"{getpass.getuser()}@")
    monkeypatch.setenv("PREFECT_LUME_ACTOR", "beam operations")
    registry = open_context().model_db_service()
    model_id = registry.store_model(**FIELDS)
    assert registry.get_history(model_id=model_id)[0].actor == "beam operations"


def test_a_flow_run_is_named_beside_the_actor():
    """What a flow changes is told with its run, and still fits into the column."""

    @flow
    def release():
        return announcing.actor("x" * 300)

    told = release()
    assert len(told) == 255
    assert told.endswith(")")
    assert ", flow run " in told
