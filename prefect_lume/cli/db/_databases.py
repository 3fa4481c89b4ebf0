"""Which databases a command is about: those of the services, or one by its URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
from sqlalchemy import Engine

from prefect_lume import migrations
from prefect_lume.cli._options import services_option
from prefect_lume.cli._progress import quiet_prefect
from prefect_lume.config import open_context
from prefect_lume.storage import sql

_Command = Callable[..., Any]

#: Holds a URL, password and all: unlike an argument, other users do not see it.
URL_VARIABLE: Final = "PREFECT_LUME_DB_URL"


def databases_options(command: _Command) -> _Command:
    """Add ``--services`` and ``--url``."""
    url = click.option(
        "--url",
        metavar="URL",
        envvar=URL_VARIABLE,
        default=None,
        show_envvar=True,
        help="This database, and no Block. A password belongs in the environment "
        "variable, not on the command line.",
    )
    return services_option(url(command))


def revision_option(*, required: bool) -> Callable[[_Command], _Command]:
    """Add ``--to REVISION``.

    Args:
        required: It must be given. Else it is the newest one.
    """
    return click.option(
        "--to",
        "revision",
        metavar="REVISION",
        required=required,
        default=None if required else "head",
        shell_complete=_complete,
        help="The revision to reach; `base`: no table at all."
        if required
        else "The revision to reach. Default: the newest.",
    )


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    del context, parameter
    known = [*migrations.revisions(), "head", "base"]
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


@contextmanager
def opened(services: str | None, url: str | None) -> Iterator[list[Engine]]:
    """Yield the engines of the databases that are meant, each once.

    Args:
        services: The value of ``--services``.
        url: The value of ``--url``. From the environment it gives way to
            ``--services``.
    """
    source = click.get_current_context().get_parameter_source("url")
    if services and url and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("Give --services or --url, not both.")
    if url is None or services:
        yield _of_services(services)
        return
    engine = sql.get_engine(url)
    try:
        yield [engine]
    finally:
        engine.dispose()


def _of_services(services: str | None) -> list[Engine]:
    with quiet_prefect():
        context = open_context(services)
    blocks = context.services
    chosen = [blocks.registry, blocks.results_sql]
    found = [item.get_engine() for item in chosen if item is not None]
    in_embedded = blocks.registry is None or not (
        blocks.results_sql or blocks.results_mongodb
    )
    if in_embedded:
        found.append(context.embedded_engine())
    return list(dict.fromkeys(found))
