"""Changes on the command line: tried first, shown, confirmed, done, told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.registry._shown import event_json, event_text
from prefect_lume.cli.results._parameters import dry_run_option, yes_option
from prefect_lume.cli.results._running import confirm
from prefect_lume.registry import ModelDBService, RegistryEvent

_Command = Callable[..., Any]


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
        if dry_run:
            _tell(events, as_json=as_json, dry_run=True)
            return
        asked = question(events) if callable(question) else question
        if asked and events and not yes:
            for event in events:
                click.echo(f"Would be done: {event_text(event)}", err=True)
            confirm(asked)
        events.clear()
    change(registry.heard_by(events.extend))
    _tell(events, as_json=as_json, dry_run=False)


def _tell(events: list[RegistryEvent], *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        found = {"dry_run": dry_run, "events": [event_json(event) for event in events]}
        click.echo(json.dumps(found))
        return
    if not events:
        click.echo("It is so already: nothing to do.")
    for event in events:
        click.echo(f"{'Would be done: ' if dry_run else ''}{event_text(event)}")
