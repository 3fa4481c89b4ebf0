"""The root command. A command's module is imported when the command is used."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any, Final

import click

from prefect_lume import __version__
from prefect_lume.cli._lazy import LazyGroup
from prefect_lume.errors import LumeError

#: Command → (module that holds it, line shown by ``--help``).
COMMANDS: Final = {
    "check": ("prefect_lume.cli.check", "Try every service once and say how it is."),
    "compose": (
        "prefect_lume.cli.compose",
        "Check a flow-of-flows and draw it, or run it.",
    ),
    "completion": (
        "prefect_lume.cli.completion",
        "Print the script that lets a shell complete this command.",
    ),
    "db": ("prefect_lume.cli.db", "Create or upgrade the SQL database's tables."),
    "deployments": (
        "prefect_lume.cli.registry.deployments",
        "Show and change the registry's deployments.",
    ),
    "demo": (
        "prefect_lume.cli.demo",
        "Run the main job on the built-in example.",
    ),
    "flows": (
        "prefect_lume.cli.registry.flows",
        "Show and remove the registry's flows and flows-of-flows.",
    ),
    "import": (
        "prefect_lume.cli.import_",
        "Take over the results of another system.",
    ),
    "models": (
        "prefect_lume.cli.registry.models",
        "Show and change the registry's models.",
    ),
    "projects": (
        "prefect_lume.cli.registry.projects",
        "Show and change the registry's projects.",
    ),
    "results": (
        "prefect_lume.cli.results",
        "Find, show, compare, move and clean up stored results.",
    ),
    "runs": (
        "prefect_lume.cli.runs",
        "Show and record what ran: runs, tasks, states, origins.",
    ),
}


class RootGroup(LazyGroup):
    """The root group, in which an error of ours is one message."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of ours ends it with one message, no traceback."""
        if ctx.params.get("debug"):
            return super().invoke(ctx)
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            try:
                return super().invoke(ctx)
            except LumeError as error:
                click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
                click.echo(str(error), err=True)
                ctx.exit(1)


def _warn(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    """Show a warning's message, without the line of code that gave it."""
    del args, kwargs
    click.secho("Warning: ", fg="yellow", bold=True, nl=False, err=True)
    click.echo(str(message), err=True)


@click.group(
    cls=RootGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="prefect-lume")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Scientific models as Prefect flows: registered, composed, recorded."""
    del debug


def main() -> None:
    """Run the command line (the console script ``prefect-lume``)."""
    for stream in (sys.stdout, sys.stderr):
        # Stored text may hold what the terminal's encoding does not know.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="prefect-lume", args=sys.argv[1:])
