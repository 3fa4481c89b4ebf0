"""The root command. A command's module is imported when the command is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import click

from prefect_lume import __version__
from prefect_lume.errors import LumeError

#: Command → (module that holds it, line shown by ``--help``).
COMMANDS: Final = {
    "check": ("prefect_lume.cli.check", "Try every service once and say how it is."),
    "compose": (
        "prefect_lume.cli.compose",
        "Check a flow-of-flows and draw it, or run it.",
    ),
    "db": ("prefect_lume.cli.db", "Create or upgrade the SQL database's tables."),
    "demo": (
        "prefect_lume.cli.demo",
        "Run the main job on the built-in example.",
    ),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name, so that ``--help`` loads none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names in alphabetical order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = module.command
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the commands and their help lines without importing them."""
        rows = [(name, COMMANDS[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of ours ends it with one message, no traceback."""
        try:
            return super().invoke(ctx)
        except LumeError as error:
            if ctx.params.get("debug"):
                raise
            click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
            click.echo(str(error), err=True)
            ctx.exit(1)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="prefect-lume")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Scientific models as Prefect flows: registered, composed, recorded."""
    del debug


def main() -> None:
    """Run the command line (the console script ``prefect-lume``)."""
    cli(prog_name="prefect-lume", args=sys.argv[1:])
