"""A recorder that is told to stop does so at once, whatever it is doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from prefect_lume.errors import ConnectionFailedError
from prefect_lume.pipelines.changes import Batch
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.service.recorder import RecorderService
from prefect_lume.recorder.service.stopping import StoppableClient, StoppedError
from prefect_lume.testing.generated_events import generated_events

SOON = 2.0


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """An event that lets go, at the end, whatever waits for it."""
    event = threading.Event()
    yield event
    event.set()


def stopped_after(service: RecorderService, is_there: threading.Event) -> float:
    """Return how long a service takes to stop, once it has come to a point."""
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    assert is_there.wait(20)
    began = time.monotonic()
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    return time.monotonic() - began


def make_service(server: Any, storage: Any, **options: Any) -> RecorderService:
    return RecorderService(
        server, storage, FlowRunDirectory(server), source="here", **options
    )


@pytest.mark.parametrize("path", ["/events/filter", "/flow_runs/filter"])
def test_a_server_that_hangs_does_not_hold_it_up(
    event_server: Any, released: threading.Event, path: str
) -> None:
    """It does not wait for an answer: neither itself nor what asks about flow runs."""
    event_server.events = list(generated_events(2, 5))
    is_there = threading.Event()

    def hang(number: int) -> None:
        if event_server.requests[-1][0] == path:
            is_there.set()
            released.wait(60)

    event_server.before_answer = hang
    service = make_service(event_server, MemoryPipelineResultsStorage())
    assert stopped_after(service, is_there) < SOON


def test_it_does_not_wait_for_what_failed(event_server: Any) -> None:
    """A pause before the next attempt ends with it."""
    is_there = threading.Event()

    class Away(MemoryPipelineResultsStorage):
        def record(self, batch: Batch) -> int:
            is_there.set()
            raise ConnectionFailedError("It is down.")

    event_server.events = list(generated_events(1, 5))
    service = make_service(event_server, Away(), pauses=(60.0, 60.0))
    assert stopped_after(service, is_there) < SOON


def test_the_history_of_a_large_run_is_left_in_the_middle(event_server: Any) -> None:
    """What was read of it is recorded, the rest by the next recorder."""
    is_there = threading.Event()
    task_runs = [make_task_run(number) for number in range(1_000)]

    class Large:
        def request(self, method: str, path: str, **options: Any) -> httpx.Response:
            answer: Any = None
            if path == "/task_runs/filter":
                body = options["json"]
                wanted = body.get("task_runs", {}).get("id", {}).get("any_")
                first = body.get("offset", 0)
                some = [r for r in task_runs if wanted is None or r["id"] in wanted]
                answer = some[first : first + body["limit"]]
            elif path == "/task_run_states/":
                is_there.set()
                time.sleep(0.02)
                answer = []
            if answer is None:
                return event_server.request(method, path, **options)
            request = httpx.Request(method, "http://server")
            return httpx.Response(200, json=answer, request=request)

    event_server.events = [
        e for e in generated_events(1, 3) if "flow-run" in e["event"]
    ]
    run_id = event_server.events[0]["resource"]["prefect.resource.id"][17:]
    for run in task_runs:
        run["flow_run_id"] = run_id
    event_server.flow_runs[run_id] = make_flow_run(run_id)
    options = {"settle": 0.0, "poll": 0.1, "reconcile_every": None}
    service = make_service(Large(), MemoryPipelineResultsStorage(), **options)
    # To read all of it takes 2.5 seconds.
    assert stopped_after(service, is_there) < 1.0


def make_flow_run(id_: str) -> dict[str, Any]:
    return {
        "id": id_,
        "name": "run-0",
        "flow_id": "0",
        "state_type": "COMPLETED",
        "state_id": "of-it",
        "created": datetime.now(UTC).isoformat(),
        "tags": [],
        "parameters": {},
        "parent_task_run_id": None,
        "deployment_id": None,
    }


def make_task_run(number: int) -> dict[str, Any]:
    return {
        "id": f"task-{number:04}",
        "state_id": f"state-{number}",
        "task_key": "wait-0123abcd",
        "name": "wait",
        "dynamic_key": str(number),
    }


def test_after_it_nothing_is_asked(event_server: Any) -> None:
    """Whoever asks learns that it was told to stop."""
    client = StoppableClient(event_server)
    stop = threading.Event()
    client.begin(stop)
    body = {"flow_runs": {"id": {"any_": []}}}
    assert client.request("POST", "/flow_runs/filter", json=body).json() == []
    stop.set()
    with pytest.raises(StoppedError):
        client.request("POST", "/flow_runs/filter", json=body)
    assert len(event_server.requests) == 1


@pytest.mark.parametrize("error", [httpx.ReadTimeout("slow"), TimeoutError("slow")])
def test_what_the_request_raises_is_raised(event_server: Any, error: Exception) -> None:
    """A request that timed out is no request that still waits."""

    def fail(number: int) -> None:
        raise error

    event_server.before_answer = fail
    with pytest.raises(type(error)):
        StoppableClient(event_server).request("POST", "/events/filter")


def test_since_leaves_what_ended_before_it_alone(event_server: Any) -> None:
    """The server is not asked for runs that ended before that time."""
    event_server.events = list(generated_events(1, 5))
    # Not before the oldest event: what is older is in the runs alone.
    since = datetime.fromisoformat(event_server.events[2]["occurred"])
    storage = MemoryPipelineResultsStorage()
    make_service(event_server, storage, since=since).run_once()
    asked = [body for path, body in event_server.requests if "flow_runs" in path]
    assert not any("end_time" in body["flow_runs"] for body in asked)


def test_a_restart_looks_at_what_ended_shortly_before(event_server: Any) -> None:
    """And at no more: of what ended later there are events."""
    event_server.events = list(generated_events(1, 5))
    storage = MemoryPipelineResultsStorage()
    position = datetime.now(UTC) - timedelta(seconds=10)
    storage.set_position("here", position)
    event_server.events[0]["occurred"] = (position - timedelta(days=1)).isoformat()
    make_service(event_server, storage).run_once()
    ended = [
        body["flow_runs"]["end_time"]
        for path, body in event_server.requests
        if path == "/flow_runs/filter" and "end_time" in body["flow_runs"]
    ]
    (asked,) = ended
    after, before = (datetime.fromisoformat(asked[k]) for k in ("after_", "before_"))
    assert position - timedelta(hours=1) < after < before <= position
