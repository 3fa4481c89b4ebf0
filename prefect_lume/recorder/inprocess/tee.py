"""Hearing every event that this process sends to Prefect, without holding it up.

Prefect's engine tells each change of a task run's state by an event, which it hands to
one worker thread of the process. While something listens, what is handed over is heard
here as well, in the thread that the change happened in; then it goes on its way.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from prefect.context import FlowRunContext, TaskRunContext
from prefect.events.worker import EventsWorker

if TYPE_CHECKING:
    from prefect.events import Event

logger = logging.getLogger(__name__)

#: Takes an event and the id of the innermost flow run around it, and is quick.
Listener = Callable[["Event", str], None]

_PREFIXES: Final = ("prefect.task-run.", "prefect.flow-run.")
_lock = threading.Lock()
#: Replaced as a whole, so that whoever hears needs no lock.
_listeners: tuple[Listener, ...] = ()
_wrapped: list[EventsWorker] = []


def listen(listener: Listener) -> None:
    """Let a listener hear the events of runs, until it is told to stop.

    May be repeated: Prefect may have begun to use another worker meanwhile.

    Args:
        listener: Called in the thread that sends the event. What it raises is logged
            and goes no further.
    """
    global _listeners  # noqa: PLW0603 - the one process-wide list, under a lock.
    worker = EventsWorker.instance()
    with _lock:
        if listener not in _listeners:
            _listeners = (*_listeners, listener)
        if worker not in _wrapped:
            worker.__dict__["send"] = functools.partial(_send, worker)
            _wrapped.append(worker)


def stop_listening(listener: Listener) -> None:
    """Let a listener hear no more; the last one leaves everything as it was."""
    global _listeners  # noqa: PLW0603 - as above.
    with _lock:
        _listeners = tuple(known for known in _listeners if known != listener)
        if not _listeners:
            for worker in _wrapped:
                worker.__dict__.pop("send", None)
            _wrapped.clear()


def is_listening() -> bool:
    """Tell whether anything listens."""
    return bool(_listeners)


def _send(worker: EventsWorker, event: Event) -> None:
    try:
        if event.event.startswith(_PREFIXES):
            flow_run_id = flow_run_of(event)
            if flow_run_id is not None:
                for listener in _listeners:
                    listener(event, flow_run_id)
    except Exception:
        # Whatever a listener does wrong, the flow and its events go on.
        logger.exception("An event could not be listened to")
    type(worker).send(worker, event)


def flow_run_of(event: Event) -> str | None:
    """Return the id of the flow run that an event is about, or of the innermost around.

    What another process forwards says so itself. For what happens in this one Prefect
    adds it later, from the context that the event was sent in.
    """
    if event.event.startswith("prefect.flow-run."):
        return event.resource.id.removeprefix("prefect.flow-run.")
    for related in event.related:
        if related.role == "flow-run":
            return related.id.removeprefix("prefect.flow-run.")
    flow: Any = FlowRunContext.get()
    if flow is not None and flow.flow_run is not None:
        return str(flow.flow_run.id)
    task = TaskRunContext.get()
    if task is not None and task.task_run.flow_run_id is not None:
        return str(task.task_run.flow_run_id)
    return None
