"""Events as a Prefect server gives them, of runs that never ran."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

_STATES = (("PENDING", "Pending"), ("RUNNING", "Running"), ("COMPLETED", "Completed"))


def generated_events(
    runs: int,
    tasks: int,
    *,
    seed: int = 0,
    start: datetime | None = None,
    per_second: float = 200.0,
) -> Iterator[dict[str, Any]]:
    """Yield the events of flow runs with tasks, one flow run after the other.

    A flow run has three states and so has each of its task runs: together
    ``runs * (3 + 3 * tasks)`` events, in the order in which they occurred. The same
    seed gives the same events.

    Args:
        runs: How many flow runs.
        tasks: How many task runs each of them has; every tenth is of another task.
        seed: What the ids come from.
        start: When the first event occurred; by default so that the last one occurs
            now.
        per_second: How many occur in a second.

    Example:
        >>> events = list(generated_events(2, 3))
        >>> len(events), events[0]["event"], events[-1]["event"]
        (24, 'prefect.flow-run.Pending', 'prefect.flow-run.Completed')
    """
    ids = random.Random(seed)  # noqa: S311 - no secret.
    total = runs * (3 + 3 * tasks)
    step = timedelta(seconds=1 / per_second)
    moment = start or datetime.now(UTC) - total * step
    for number in range(runs):
        flow_run = str(uuid.UUID(int=ids.getrandbits(128), version=4))
        related = [
            _resource("flow-run", flow_run, f"run-{number}"),
            _resource("flow", str(uuid.UUID(int=seed)), f"generated-{seed}"),
        ]
        for event in _run_events(ids, flow_run, related, number, tasks):
            event["occurred"] = moment.isoformat()
            yield event
            moment += step


def _run_events(
    ids: random.Random,
    flow_run: str,
    related: list[dict[str, str]],
    number: int,
    tasks: int,
) -> Iterator[dict[str, Any]]:
    for state in _STATES[:2]:
        yield _event(ids, "flow-run", flow_run, f"run-{number}", state, related[1:])
    for index in range(tasks):
        task_run = str(uuid.UUID(int=ids.getrandbits(128), version=4))
        key = f"task_{index // 10}-0123abcd"
        name = f"task_{index // 10}-{index}"
        for state in _STATES:
            event = _event(ids, "task-run", task_run, name, state, related)
            event["payload"]["task_run"] = {
                "task_key": key,
                "dynamic_key": str(index),
                "name": name,
            }
            yield event
    yield _event(ids, "flow-run", flow_run, f"run-{number}", _STATES[2], related[1:])


def _resource(kind: str, id_: str, name: str) -> dict[str, str]:
    return {
        "prefect.resource.id": f"prefect.{kind}.{id_}",
        "prefect.resource.role": kind,
        "prefect.resource.name": name,
    }


def _event(
    ids: random.Random,
    kind: str,
    id_: str,
    name: str,
    state: tuple[str, str],
    related: list[dict[str, str]],
) -> dict[str, Any]:
    resource = {
        "prefect.resource.id": f"prefect.{kind}.{id_}",
        "prefect.resource.name": name,
        "prefect.run-count": str(int(state[0] != "PENDING")),
    }
    return {
        "event": f"prefect.{kind}.{state[1]}",
        "id": str(uuid.UUID(int=ids.getrandbits(128), version=4)),
        "resource": resource,
        "related": related,
        "payload": {
            "validated_state": {"type": state[0], "name": state[1], "message": ""},
        },
    }
