"""What is missing of runs is found, and only that is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx

from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.service.filling import GapFiller
from prefect_lume.recorder.service.storing import EventStore
from prefect_lume.recorder.translation.translating import Translator
from prefect_lume.testing.generated_events import generated_events

_ENDED = "2026-05-01T10:00:00+00:00"


class RunServer:
    """Has the runs of which some events tell, and their states."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.states: dict[str, list[dict[str, Any]]] = {}
        self.runs: dict[str, dict[str, dict[str, Any]]] = {"flow": {}, "task": {}}
        self.asked: list[tuple[str, str]] = []
        for event in events:
            kind, _, id_ = event["resource"]["prefect.resource.id"][8:].partition(
                "-run."
            )
            state = event["payload"]["validated_state"]
            state = {**state, "id": event["id"], "timestamp": event["occurred"]}
            self.states.setdefault(id_, []).append(state)
            run = self.runs[kind].setdefault(id_, {"id": id_, "run_count": 0})
            run |= {"state_id": event["id"], "state_type": state["type"]}
            run["run_count"] += state["type"] == "RUNNING"
            run["name"] = event["resource"]["prefect.resource.name"]
            if kind == "task":
                run |= event["payload"]["task_run"]
                above = event["related"][0]["prefect.resource.id"]
                run["flow_run_id"] = above.removeprefix("prefect.flow-run.")
            else:
                run |= {"flow_id": "0", "created": _ENDED, "tags": []}
                run |= {"parameters": {}, "parent_task_run_id": None}
                run |= {"deployment_id": None}

    def request(
        self, method: str, path: str, json: Any = None, params: Any = None
    ) -> httpx.Response:
        answer: list[Any] = []
        if path.endswith("_run_states/"):
            kind = path[1:5]
            id_ = params[f"{kind}_run_id"]
            self.asked.append((kind, id_))
            answer = self.states[id_]
        elif path in ("/flow_runs/filter", "/task_runs/filter"):
            kind = path[1:5]
            own = json.get(f"{kind}_runs", {}).get("id", {}).get("any_")
            above = json.get("flow_runs", {}).get("id", {}).get("any_")
            answer = [
                run
                for run in self.runs[kind].values()
                if (
                    run["id"] in own if own else run.get("flow_run_id") in (above or ())
                )
            ]
        request = httpx.Request(method, "http://server")
        return httpx.Response(200, json=answer, request=request)


def fill(
    events: list[dict[str, Any]], lost: set[int]
) -> tuple[RunServer, MemoryPipelineResultsStorage, GapFiller, int]:
    """Record events but for some, then fill; return how much that was, at the end."""
    server: Any = RunServer(events)
    storage = MemoryPipelineResultsStorage()
    directory = FlowRunDirectory(server)
    store = EventStore(storage, Translator(directory))
    store([event for number, event in enumerate(events) if number not in lost])
    filler = GapFiller(server, storage, directory, store)
    ids = [row.id for row in storage.find(Kind.EXECUTION)]
    return server, storage, filler, filler.complete(ids)


def test_of_runs_that_lack_nothing_no_states_are_asked_for() -> None:
    """However many there are, what the server says of them is enough."""
    server, _, filler, new = fill(list(generated_events(20, 5)), set())
    assert (new, filler.filled, server.asked) == (0, 0, [])


def test_only_of_what_lacks_something_the_states_are_asked_for() -> None:
    """Of a run with one incomplete task, those of that task and its flow run."""
    events = list(generated_events(3, 5))
    # Of the first run: the second task's end, and how the third one began to run.
    server, storage, filler, new = fill(events, {7, 9})
    assert (new, filler.filled) == (2, 1)
    assert storage.count_states() == len(events)
    tasks = {events[n]["resource"]["prefect.resource.id"][17:] for n in (7, 9)}
    flow_run = events[0]["resource"]["prefect.resource.id"][17:]
    assert sorted(server.asked) == sorted(
        [("flow", flow_run), *(("task", id_) for id_ in tasks)]
    )


def test_a_flow_run_without_its_end_is_filled_alone() -> None:
    """Its task runs, which lack nothing, are left as they are."""
    events = list(generated_events(1, 5))
    server, storage, _, new = fill(events, {len(events) - 1})
    assert new == 1
    assert [kind for kind, _ in server.asked] == ["flow"]
    (row,) = storage.find(Kind.EXECUTION)
    ended = datetime.fromisoformat(events[-1]["occurred"])
    assert abs(row.completed - ended) < timedelta(milliseconds=1)
