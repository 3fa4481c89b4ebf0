"""``prefect-lume runs``: what ran, how it went, and what it made."""

from __future__ import annotations

from typing import Final

import click

from prefect_lume.cli._lazy import LazyGroup

#: Command → (module that holds it, line shown by ``--help``).
COMMANDS: Final = {
    "cleanup": ("prefect_lume.cli.runs.cleanup", "Remove the records of old runs."),
    "digest": (
        "prefect_lume.cli.runs.digest",
        "Show how often each pipeline ran, and how well.",
    ),
    "list": ("prefect_lume.cli.runs.list_", "List runs, the newest first."),
    "record": (
        "prefect_lume.cli.runs.record",
        "Follow a Prefect server and record all that runs.",
    ),
    "show": (
        "prefect_lume.cli.runs.show",
        "Show one run: objects, tasks, messages, plot.",
    ),
    "trace": (
        "prefect_lume.cli.runs.trace",
        "Walk from a result or run to source, lock and model.",
    ),
}


@click.group("runs", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Show and record what ran: runs, tasks, states, origins."""
