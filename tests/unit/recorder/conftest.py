"""A server's events without a server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

Event = dict[str, Any]


class EventServer:
    """Answers as Prefect's API does to whoever reads events; it has little else.

    Attributes:
        events: What it has, in any order.
        flow_runs: Its flow runs, by id; it has no more of them than this.
        requests: The paths and bodies that were asked for.
        before_answer: Called before each answer, with the number of the request.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.flow_runs: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, Any]] = []
        self.before_answer: Callable[[int], None] = lambda number: None

    def request(
        self, method: str, path: str, json: Any = None, params: Any = None
    ) -> httpx.Response:
        self.requests.append((path, json))
        self.before_answer(len(self.requests))
        request = httpx.Request(method, f"http://server{path}")
        answer: Any
        if path == "/events/filter":
            answer = self._page(json["filter"], json["limit"], 0, None)
        elif path == "/events/filter/next":
            answer = self._page(**_decoded(params["page-token"]))
        elif path == "/flow_runs/filter" and "id" in json["flow_runs"]:
            wanted = json["flow_runs"]["id"]["any_"]
            answer = [self.flow_runs[id_] for id_ in wanted if id_ in self.flow_runs]
        else:
            answer = []
        return httpx.Response(200, json=answer, request=request)

    def _page(
        self, asked: dict[str, Any], limit: int, offset: int, total: int | None
    ) -> dict[str, Any]:
        since, until = (
            datetime.fromisoformat(asked["occurred"][name])
            for name in ("since", "until")
        )
        found = [
            (datetime.fromisoformat(event["occurred"]), event) for event in self.events
        ]
        matching = [item for item in found if since <= item[0] <= until]
        matching = [item for item in matching if _matches(item[1], asked)]
        is_descending = asked.get("order") == "DESC"
        matching.sort(key=lambda item: item[0], reverse=is_descending)
        count = len(matching) if total is None else total
        following = offset + limit
        token = None
        if following < count:
            # As Prefect does: the number of events is that of the first page.
            state = {"asked": asked, "limit": limit, "offset": following}
            token = _encoded({**state, "total": count})
        return {
            "events": [event for _, event in matching[offset:following]],
            "total": count,
            "next_page": token and f"http://elsewhere/next?page-token={token}",
        }


def _matches(event: Event, asked: dict[str, Any]) -> bool:
    related = [item["prefect.resource.id"] for item in event["related"]]
    own = event["resource"]["prefect.resource.id"]
    names = asked.get("event", {}).get("name", [event["event"]])
    resources = asked.get("resource", {}).get("id", [own])
    return (
        event["event"] in names
        and own in resources
        and (
            "related" not in asked
            or set(asked["related"]["id"]) & set(related) != set()
        )
    )


def _encoded(state: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(state).encode()).decode().rstrip("=")


def _decoded(token: str) -> dict[str, Any]:
    padded = token + "=" * (-len(token) % 4)
    state: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded))
    return state


@pytest.fixture
def event_server() -> EventServer:
    """A server that has events only."""
    return EventServer()
