"""Groups of commands whose modules are imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem


class LazyGroup(click.Group):
    """A group that knows its commands by name, so that ``--help`` loads none.

    Args:
        lazy: Command → (module that holds it as ``command``, line shown by
            ``--help``).
        *args: For :class:`click.Group`.
        **kwargs: For :class:`click.Group`.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, tuple[str, str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names in alphabetical order."""
        return sorted(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command."""
        if cmd_name not in self.lazy:
            return None
        module = importlib.import_module(self.lazy[cmd_name][0])
        command: click.Command = module.command
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the commands and their help lines without importing them."""
        rows = [(name, self.lazy[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Return the commands that begin so, without importing them."""
        found = [
            CompletionItem(name, help=self.lazy[name][1])
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        # Past click.Group's own, which imports every command for its help line.
        return found + click.Command.shell_complete(self, ctx, incomplete)
