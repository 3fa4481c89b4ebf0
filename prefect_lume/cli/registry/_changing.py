"""Changes on the command line: tried first, shown, confirmed, done, told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.registry._shown import event_json, event_text, say
from prefect_lume.cli.results._parameters import dry_run_option, yes_option
from prefect_lume.registry import FlowRecord, ModelDBService, RegistryEvent

_Command = Callable[..., Any]
_WOULD: Final = "Would be done: "


def change_options(command: _Command) -> _Command:
    """Add what every change takes: ``--reason``, ``--dry-run``, ``--services``, ..."""
    reason = click.option(
        "--reason", metavar="TEXT", default="", help="Why, for the history."
    )
    return reason(dry_run_option(services_option(json_option(command))))


def guarded_options(command: _Command) -> _Command:
    """Add what a change takes that somebody is asked about: ``--yes`` besides."""
    return change_options(yes_option(command))


def perform(
    registry: ModelDBService,
    change: Callable[[ModelDBService], Any],
    *,
    dry_run: bool,
    as_json: bool,
    question: str | Callable[[Sequence[RegistryEvent]], str] = "",
    yes: bool = False,
) -> None:
    """Do a change, or say what it would do, or ask first.

    Whether asked or only tried, the change is made and taken back: what would refuse
    it, does.

    Args:
        registry: Where.
        change: Does it, with the service that it is given.
        dry_run: Whether to do it at all.
        as_json: Whether to print the events as JSON.
        question: What to ask before, if anything; or what tells it from what would
            happen.
        yes: Whether the answer is known.

    Raises:
        InvalidInputError: Somebody has to be asked and nobody is there.
    """
    events: list[RegistryEvent] = []
    if dry_run or question:
        change(registry.preview(events.extend))
        moved = [flow for event in events for flow in _moved(registry, event)]
        if dry_run:
            _tell(events, moved, as_json=as_json, dry_run=True)
            return
        asked = question(events) if callable(question) else question
        if asked and events and not yes:
            _print(events, moved, _WOULD, err=True)
            # Late, as it imports Prefect, for which no completion can wait.
            from prefect_lume.cli.results._running import confirm

            confirm(asked)
        events.clear()
    change(registry.heard_by(events.extend))
    _tell(events, [], as_json=as_json, dry_run=False)


def _moved(registry: ModelDBService, event: RegistryEvent) -> list[FlowRecord]:
    """Return the flows that a promotion which is only tried would move."""
    if event.kind not in {"deployment.promoted", "deployment.rolled-back"}:
        return []
    found = registry.get_deployments(deployment_id=event.deployment_id)
    return [
        flow
        for deployment in found
        for flow in registry.get_flows()
        if flow.flow_name in deployment.entrypoints
        and flow.deployment is not None
        and flow.deployment.model_id == deployment.model_id
        and flow.deployment_id != deployment.deployment_id
    ]


def _tell(
    events: list[RegistryEvent],
    moved: list[FlowRecord],
    *,
    as_json: bool,
    dry_run: bool,
) -> None:
    if as_json:
        found: dict[str, Any] = {
            "dry_run": dry_run,
            "events": [event_json(event) for event in events],
        }
        if dry_run:
            found["flows"] = [_name(flow) for flow in moved]
        click.echo(json.dumps(found))
    elif events:
        _print(events, moved, _WOULD if dry_run else "")
    else:
        click.echo("It is so already: nothing to do.")


def _print(
    events: list[RegistryEvent],
    moved: list[FlowRecord],
    before: str,
    *,
    err: bool = False,
) -> None:
    for event in events:
        click.echo(f"{before}{event_text(event)}", err=err)
    for flow in moved:
        was = say(flow.deployment.version) if flow.deployment else ""
        click.echo(f"{before}flow {say(_name(flow))} follows, from {was}", err=err)


def _name(flow: FlowRecord) -> str:
    return f"{flow.project_name}/{flow.flow_name}"
