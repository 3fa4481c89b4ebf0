"""``prefect-lume results``: what is stored, found and looked after."""

from __future__ import annotations

from typing import Final

import click

from prefect_lume.cli._lazy import LazyGroup

#: Command → (module that holds it, line shown by ``--help``).
COMMANDS: Final = {
    "compare": (
        "prefect_lume.cli.results.compare",
        "Show in what two or more results differ.",
    ),
    "copy": (
        "prefect_lume.cli.results.copy",
        "Copy results to another results database.",
    ),
    "delete": ("prefect_lume.cli.results.delete", "Remove results, and their blobs."),
    "export": (
        "prefect_lume.cli.results.export",
        "Write results into a folder: JSON Lines and blobs.",
    ),
    "find": ("prefect_lume.cli.results.find", "Find results by query, as a table."),
    "import": (
        "prefect_lume.cli.results.import_",
        "Read results that were exported.",
    ),
    "indices": (
        "prefect_lume.cli.results.indices",
        "Show the indices of document types; create and drop them.",
    ),
    "prune": (
        "prefect_lume.cli.results.prune",
        "Remove old results and unused blobs.",
    ),
    "show": ("prefect_lume.cli.results.show", "Show one result: values, origin, plot."),
}


@click.group("results", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Find, show, compare, move and clean up stored results."""
