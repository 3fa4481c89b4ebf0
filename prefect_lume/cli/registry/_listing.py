"""What lists and histories on the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from prefect_lume.cli.registry._shown import event_json, print_history
from prefect_lume.registry import RegistryEvent

_Command = Callable[..., Any]


def search_options(sort: str) -> Callable[[_Command], _Command]:
    """Add ``[WHERE]``, ``--sort``, ``--limit`` and ``--page``.

    Args:
        sort: The order by default.
    """

    def add(command: _Command) -> _Command:
        where = click.argument("where", required=False, default="")
        order = click.option(
            "--sort",
            metavar="COLUMNS",
            default=sort,
            show_default=True,
            help="Columns to sort by, each with DESC if need be.",
        )
        limit = click.option(
            "--limit",
            type=click.IntRange(1, 10_000),
            default=100,
            show_default=True,
            help="How many at most.",
        )
        page = click.option(
            "--page", metavar="TOKEN", help="The next page, as the last one named it."
        )
        return where(order(limit(page(command))))

    return add


def limit_option(command: _Command) -> _Command:
    """Add ``--limit`` to a history."""
    return click.option(
        "--limit",
        type=click.IntRange(1),
        default=50,
        show_default=True,
        help="How many at most, the newest.",
    )(command)


def tell_history(events: Sequence[RegistryEvent], *, as_json: bool) -> None:
    """Print a history, the newest event first."""
    if as_json:
        click.echo(json.dumps([event_json(event) for event in events]))
    elif events:
        print_history(events)
    else:
        click.echo("Nothing has happened yet.", err=True)


def tell_more(token: str | None) -> None:
    """Say how to get at the next page, if there is one."""
    if token is not None:
        click.echo(f"There are more. The next page: --page {token}", err=True)


def tags_of(pairs: Sequence[str], remove: Sequence[str]) -> dict[str, str | None]:
    """Return tags from ``KEY=VALUE`` and from keys to remove.

    Raises:
        BadParameter: A pair has no ``=``, a key comes twice, or there is nothing.
    """
    tags: dict[str, str | None] = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found or not key:
            raise click.BadParameter(
                f"{pair!r} is no tag: write KEY=VALUE, or --remove KEY."
            )
        if key in tags:
            raise click.BadParameter(f"The key {key!r} is given twice.")
        tags[key] = value
    for key in remove:
        if key in tags:
            raise click.BadParameter(f"The key {key!r} is both set and removed.")
        tags[key] = None
    if not tags:
        raise click.BadParameter("Give at least one KEY=VALUE, or --remove KEY.")
    return tags


def tag_options(command: _Command) -> _Command:
    """Add ``[KEY=VALUE]...`` and ``--remove KEY``."""
    pairs = click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
    remove = click.option(
        "--remove", metavar="KEY", multiple=True, help="Remove this tag."
    )
    return pairs(remove(command))
