"""What happened in the registry, in words."""

from __future__ import annotations

from typing import Any, Final

from prefect_lume.errors import clip
from prefect_lume.registry.records import RegistryEvent

#: Kind of event → what happened. "{it}" is the deployment, "{flow}" the flow's name.
_WORDS: Final = {
    "model.stored": "model registered",
    "model.tagged": "model tagged",
    "model.deleted": "model deleted",
    "deployment.stored": "{it} registered",
    "deployment.described": "{it} described anew",
    "deployment.tagged": "{it} tagged",
    "deployment.deleted": "{it} deleted",
    "deployment.promoted": "{it} made live",
    "deployment.rolled-back": "rolled back to {it}",
    "deployment.demoted": "{it} not live any more",
    "deployment.retired": "{it} retired",
    "deployment.restored": "{it} taken back into use",
    "alias.set": "alias set",
    "alias.removed": "alias removed",
    "project.stored": "project created",
    "project.described": "project described anew",
    "project.renamed": "project renamed",
    "project.deleted": "project deleted",
    "flow.stored": "flow {flow} registered",
    "flow.pointed": "flow {flow} now served by {it}",
    "flow.deleted": "flow {flow} deleted",
    "flow-of-flows.stored": "flow-of-flows {flow} stored",
}
#: Kinds of events of which each value is told, before and after.
_VALUES: Final = (".tagged", "alias.", ".renamed", ".described")
_LONGEST: Final = 60


def in_words(event: RegistryEvent) -> str:
    """Return what happened in a few words, with what was before and what is since.

    Example:
        >>> from datetime import UTC, datetime
        >>> event = RegistryEvent(
        ...     "model", "3", 7, "deployment.promoted", datetime.now(UTC), "Émile", "",
        ...     deployment_id=12, before={"live": 9},
        ...     after={"live": 12, "version": "2"},
        ... )
        >>> in_words(event)
        'deployment 12 (version 2) made live, in place of 9'
    """
    version = either(event, "version")
    about = f" (version {clip(version, _LONGEST)})" if version else ""
    words = _WORDS.get(event.kind, event.kind)
    told = words.replace("{it}", f"deployment {event.deployment_id}{about}")
    told = told.replace("{flow}", repr(clip(either(event, "flow_name"), _LONGEST)))
    was = event.before.get("live")
    if was is not None and was != event.deployment_id:
        return f"{told}, in place of {was}"
    if not any(part in event.kind for part in _VALUES):
        return told
    names = dict.fromkeys([*event.before, *event.after])
    return f"{told}: {', '.join(_difference(event, name) for name in names)}"


def either(event: RegistryEvent, name: str) -> str:
    """Return a value that an event tells, as it is since or else was before."""
    return str(event.after.get(name) or event.before.get(name) or "")


def _difference(event: RegistryEvent, name: str) -> str:
    # A renamed project has one name only, which needs none.
    label = "" if name in {"project_name", "description"} else f"{name} "
    before, after = (_value(part.get(name)) for part in (event.before, event.after))
    return f"{clip(label, _LONGEST)}{before} → {after}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return repr(clip(value, _LONGEST)) if isinstance(value, str) else str(value)
