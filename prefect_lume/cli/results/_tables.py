"""Tables of stored data on a terminal: shown as it is, and as wide as there is room."""

from __future__ import annotations

import os
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefect_lume.results.describing import one_line

#: The width of what no terminal shows: nothing in it is cut.
_UNBOUNDED: Final = 100_000


def output(*, err: bool = False) -> Console:
    """Return the console to print tables on.

    A file or pipe gets whole lines; a terminal, or what ``COLUMNS`` says, its width.

    Args:
        err: Whether to print on the error stream.
    """
    console = Console(stderr=err, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(stderr=err, highlight=False, width=_UNBOUNDED)
    return console


def cell(text: object) -> Text:
    """Return stored data for a table: no markup, no control characters."""
    return Text(one_line(text))


def plain_table(*names: str, numbers: tuple[str, ...] = ()) -> Table:
    """Return an empty table.

    Args:
        *names: The columns' headers.
        numbers: Those of them that hold numbers.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        right = name in numbers
        table.add_column(
            cell(name), justify="right" if right else "left", overflow="fold"
        )
    return table


def add(table: Table, *values: Any) -> None:
    """Add a row of stored data to a table."""
    table.add_row(*map(cell, values))
