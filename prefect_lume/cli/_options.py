"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_Command = Callable[..., Any]


def services_option(command: _Command) -> _Command:
    """Add ``--services NAME``."""
    return click.option(
        "--services",
        metavar="NAME",
        default=None,
        help="Name of a stored LumeServices Block. Default: the configured services, "
        "else the embedded ones.",
    )(command)


def json_option(command: _Command) -> _Command:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON for a script to read."
    )(command)
