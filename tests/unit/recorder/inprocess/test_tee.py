"""Listening to what a process sends to Prefect."""

from __future__ import annotations

import pytest
from prefect.events import Event
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker

from prefect_lume.recorder.inprocess import tee


@pytest.fixture
def worker():
    """A worker that sends nowhere."""
    EventsWorker.set_client_override(AssertingEventsClient)
    made = EventsWorker.instance()
    yield made
    EventsWorker.set_client_override(None)
    made.drain()


def event(name="prefect.task-run.Running", related=()):
    """Make an event."""
    return Event(
        event=name,
        resource={"prefect.resource.id": "prefect.task-run.1"},
        related=[
            {"prefect.resource.id": id_, "prefect.resource.role": "flow-run"}
            for id_ in related
        ],
    )


def test_what_is_heard_goes_on(worker):
    """A listener hears an event with its flow run, and the worker gets it too."""
    heard = []
    listener = lambda event, flow_run_id: heard.append((event, flow_run_id))  # noqa: E731
    tee.listen(listener)
    tee.listen(listener)
    sent = event(related=["prefect.flow-run.7"])
    worker.send(sent)
    worker.send(event("other.event", related=["prefect.flow-run.7"]))
    worker.send(event())
    worker.wait_until_empty()
    tee.stop_listening(listener)
    worker.send(event(related=["prefect.flow-run.7"]))
    assert heard == [(sent, "7")]
    assert "send" not in vars(worker)
    assert not tee.is_listening()


def test_a_listener_that_fails(worker, caplog):
    """Whatever a listener raises is logged, and the event goes on."""

    def broken(event, flow_run_id):
        raise RuntimeError("broken listener")

    before = len(AssertingEventsClient.all)
    tee.listen(broken)
    worker.send(event(related=["prefect.flow-run.7"]))
    tee.stop_listening(broken)
    worker.wait_until_empty()
    assert "could not be listened to" in caplog.text
    assert len(AssertingEventsClient.all) >= before


def test_the_flow_run_of_an_event():
    """A flow run's own event is about itself; one outside a flow about none."""
    own = Event(
        event="prefect.flow-run.heartbeat",
        resource={"prefect.resource.id": "prefect.flow-run.9"},
    )
    assert tee.flow_run_of(own) == "9"
    assert tee.flow_run_of(event()) is None
