"""What one of Prefect's events tells of a run, if it is as Prefect writes it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prefect_lume.errors import clip
from prefect_lume.pipelines.changes import FlowRunFacts
from prefect_lume.recorder.translation.statuses import TYPES

#: How the events begin that a recorder needs.
FLOW_RUN_EVENTS: Final = "prefect.flow-run."
TASK_RUN_EVENTS: Final = "prefect.task-run."
HEARTBEAT: Final = "prefect.flow-run.heartbeat"

#: Prefect gives a run the name that it keeps when it begins.
BEFORE_RUNNING: Final = frozenset({"SCHEDULED", "PENDING"})


@dataclass(slots=True)
class Told:
    """What one event tells; without a state it is a sign of life."""

    flow_run_id: str
    task_run_id: str | None
    timestamp: datetime
    event: Mapping[str, Any]
    state: Mapping[str, Any] | None


def read_event(event: Mapping[str, Any]) -> Told | None:
    """Return what an event tells; nothing if it tells nothing of a flow's run.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: It is not as Prefect writes it.
    """
    name: str = event["event"]
    is_task = name.startswith(TASK_RUN_EVENTS)
    if not is_task and not name.startswith(FLOW_RUN_EVENTS):
        return None
    payload = event.get("payload") or {}
    state = payload.get("validated_state")
    if state is None and name != HEARTBEAT:
        return None
    run_id = _id_of(event["resource"], TASK_RUN_EVENTS if is_task else FLOW_RUN_EVENTS)
    flow_run_id: str | None = run_id
    if is_task:
        if not payload["task_run"]["task_key"]:
            raise ValueError("the task run has no task key")
        flow_run_id = _flow_run_of(event)
    if flow_run_id is None:
        return None
    if state is not None and state["type"] not in TYPES:
        raise ValueError(f"no state is of the type {clip(repr(state['type']), 40)}")
    if not event["id"]:
        raise ValueError("it has no id")
    return Told(
        flow_run_id=flow_run_id,
        task_run_id=run_id if is_task else None,
        timestamp=_time(event["occurred"]),
        event=event,
        state=state,
    )


def _id_of(resource: Mapping[str, Any], prefix: str) -> str:
    text: str = resource["prefect.resource.id"]
    if not text.startswith(prefix) or text == prefix:
        raise ValueError(f"{clip(repr(text), 60)} is not the id of such a run")
    return sys.intern(text[len(prefix) :])


def _flow_run_of(event: Mapping[str, Any]) -> str | None:
    for related in event.get("related") or ():
        if related.get("prefect.resource.role") == "flow-run":
            return _id_of(related, FLOW_RUN_EVENTS)
    return None


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{clip(repr(text), 40)} is a time without a zone")
    return moment


def take_hint(hints: dict[str, FlowRunFacts], item: Told) -> None:
    """Note what an event says of its flow run, should the server know it no more."""
    hint = hints.get(item.flow_run_id)
    if hint is None:
        hint = FlowRunFacts(run_id=item.flow_run_id, flow_run_id=item.flow_run_id)
        hints[item.flow_run_id] = hint
        for related in item.event.get("related") or ():
            _take_related(hint, related)
    if item.task_run_id is None and item.state is not None and not hint.is_named:
        hint.run_name = item.event["resource"].get("prefect.resource.name")
        hint.is_named = item.state["type"] not in BEFORE_RUNNING


def _take_related(hint: FlowRunFacts, related: Mapping[str, Any]) -> None:
    role = related.get("prefect.resource.role")
    id_ = str(related.get("prefect.resource.id", "")).rpartition(".")[2]
    name = related.get("prefect.resource.name")
    if role == "flow":
        hint.pipeline_id, hint.flow_id = name, id_
    elif role == "deployment":
        hint.prefect_deployment_id = id_
    elif role == "work-pool":
        hint.runner = name
    elif role == "flow-run":
        hint.run_name = name
