"""What is kept of an event that was heard, until the recording's thread reads it.

The flow's threads hear the events, so they only take down what is needed. Not the event
itself: Python's garbage collection goes through all that is kept, again and again, and
an event is dozens of objects.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from prefect_lume.recorder.translation.statuses import TYPES
from prefect_lume.recorder.translation.telling import (
    FLOW_RUN_EVENTS,
    TASK_RUN_EVENTS,
    Told,
)

if TYPE_CHECKING:
    from prefect.events import Event

    from prefect_lume.recorder.api.lookups import Json

_SUBJECT: Final = "prefect.resource.id"
_NAME: Final = "prefect.resource.name"
_COUNT: Final = "prefect.run-count"


class Heard(NamedTuple):
    """An event of this process, and the flow run that it happened in.

    Attributes:
        flow_run_id: The flow run.
        id: The event's id.
        occurred: When it occurred.
        subject: What it is about.
        state: Type, name and message of the state that it tells of.
        task: Key and dynamic key of the task.
        name: The name of the task run.
        run_count: How often that has been started.
        other: The event itself, if it is not a task run's change as Prefect writes it.
    """

    flow_run_id: str
    id: UUID
    occurred: datetime
    subject: str
    state: tuple[str, str | None, str | None] | None = None
    task: tuple[str, str] | None = None
    name: str = ""
    run_count: str = ""
    other: Event | None = None

    def told(self) -> Told | Json:
        """Return what it tells of a run.

        An event that is not a task run's change is returned as the server's JSON of it,
        to be looked at more closely.
        """
        if self.other is not None or self.state is None or self.task is None:
            return self._as_json()
        type_, name, message = self.state
        key, dynamic_key = self.task
        state = {"type": type_, "name": name, "message": message}
        return Told(
            flow_run_id=self.flow_run_id,
            task_run_id=self.subject[len(TASK_RUN_EVENTS) :],
            timestamp=datetime.fromisoformat(self.occurred.isoformat()),
            event={
                "id": str(self.id),
                "resource": {_NAME: self.name, _COUNT: self.run_count},
                "payload": {"task_run": {"task_key": key, "dynamic_key": dynamic_key}},
            },
            state=state,
        )

    def _as_json(self) -> Json:
        above = {
            _SUBJECT: f"{FLOW_RUN_EVENTS}{self.flow_run_id}",
            "prefect.resource.role": "flow-run",
        }
        event: Any = self.other
        return {
            "id": str(self.id),
            "event": event.event,
            "occurred": self.occurred.isoformat(),
            "resource": event.resource.root,
            "payload": event.payload,
            "related": [above],
        }


def hear(event: Event, flow_run_id: str) -> Heard:
    """Take down what an event tells of a run."""
    resource, payload = event.resource.root, event.payload
    subject = resource[_SUBJECT]
    if event.event.startswith(TASK_RUN_EVENTS) and subject.startswith(TASK_RUN_EVENTS):
        try:
            state, task = payload["validated_state"], payload["task_run"]
            if state["type"] in TYPES and task["task_key"]:
                return Heard(
                    flow_run_id,
                    event.id,
                    event.occurred,
                    subject,
                    (state["type"], state.get("name"), state.get("message")),
                    (task["task_key"], task.get("dynamic_key", "")),
                    resource.get(_NAME, ""),
                    resource.get(_COUNT, ""),
                )
        except (KeyError, TypeError, AttributeError):
            # Not as Prefect writes it: what is wrong is said where it is read.
            pass
    return Heard(flow_run_id, event.id, event.occurred, subject, other=event)
