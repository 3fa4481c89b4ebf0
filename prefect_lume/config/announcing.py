"""Tells Prefect of the registry's changes, so that automations can react to them.

The history in the registry is the truth; an event is a note of it. It is sent after the
change is committed, and a Prefect server that cannot be reached takes nothing back.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import EventTooLarge
from prefect.logging import get_logger
from prefect.settings import get_current_settings

from prefect_lume.errors import clip

if TYPE_CHECKING:
    from prefect_lume.registry import RegistryEvent

#: What the names of our events and resources begin with.
PREFIX: Final = "prefect-lume"

_logger = get_logger("prefect_lume.registry")


@cache
def _host() -> str:
    return socket.gethostname()


def actor(name: str = "") -> str:
    """Return who changes the registry, for its history: a person, or a flow run.

    Args:
        name: The name to give; empty: the user and the machine of this process.

    Example:
        >>> actor("beam operations")
        'beam operations'
    """
    from prefect_lume.registry.service import login_name

    who = name or f"{login_name()}@{_host()}"
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return clip(who, 255)
    run = f", flow run {context.flow_run.name} ({context.flow_run.id})"
    return clip(who, 255 - len(run)) + run


def announce(events: Sequence[RegistryEvent]) -> None:
    """Send one Prefect event for each event of the registry.

    Nothing is sent when no Prefect server is set (`PREFECT_API_URL`): an embedded
    registry starts none for this. What cannot be sent is said in the log.

    Args:
        events: What was committed.
    """
    if not get_current_settings().api.url:
        return
    for event in events:
        try:
            emit_event(
                f"{PREFIX}.{event.kind}",
                resource=_resource(event),
                related=_related(event),
                payload=_payload(event),
                occurred=event.happened,
            )
        except EventTooLarge as error:
            _logger.warning(
                "The change %s of the registry is not told to Prefect: %s",
                event.kind,
                error,
            )


def _resource(event: RegistryEvent) -> dict[str, str]:
    return {
        "prefect.resource.id": f"{PREFIX}.{event.subject}.{event.subject_id}",
        "prefect.resource.role": event.subject,
        f"{PREFIX}.actor": event.actor,
    }


def _related(event: RegistryEvent) -> list[dict[str, str]]:
    related = [
        ("deployment", f"{PREFIX}.deployment", event.deployment_id),
        ("previous-deployment", f"{PREFIX}.deployment", event.previous_deployment_id),
        ("flow", "prefect.flow", event.flow_id),
    ]
    return [
        {"prefect.resource.id": f"{kind}.{number}", "prefect.resource.role": role}
        for role, kind, number in related
        if number is not None
    ]


def _payload(event: RegistryEvent) -> dict[str, Any]:
    return {
        "number": event.number,
        "actor": event.actor,
        "reason": event.reason,
        "deployment_id": event.deployment_id,
        "previous_deployment_id": event.previous_deployment_id,
        "flow_id": event.flow_id,
        "before": event.before,
        "after": event.after,
    }
