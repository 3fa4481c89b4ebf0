"""``prefect-lume import``: results of another system."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli._progress import quiet_prefect
from prefect_lume.config import open_context
from prefect_lume.credentials import MongoDBCredentials
from prefect_lume.errors import ConfigurationError, NotFoundError
from prefect_lume.storage import mongo

if TYPE_CHECKING:
    from pymongo.database import Database

    from prefect_lume.results.importing import ImportProblem, ImportReport

#: The most reasons, and places for each, that are shown; ``--json`` has all of them.
_SHOWN = 20
_PLACES = 3


@click.group("import")
def command() -> None:
    """Take over the results of another system."""


@command.command("lume-services")
@click.option(
    "--source-block",
    metavar="NAME",
    help="Name of a stored MongoDBCredentials Block that leads to the source.",
)
@click.option(
    "--source-uri",
    metavar="URI",
    envvar="LUME_SOURCE_URI",
    show_envvar=True,
    help="Its address instead, mongodb://... A password belongs into the Block or the "
    "environment variable: what is written on a command line can be seen by others.",
)
@click.option(
    "--database",
    metavar="NAME",
    help="The source's database. Default: the Block's, or the one in the URI.",
)
@click.option(
    "--collection",
    "collections",
    multiple=True,
    metavar="NAME",
    help="Read this collection only. May be given several times.",
)
@click.option(
    "--project",
    metavar="NAME",
    help="The project of all results. Default: each document's own, else the name of "
    "its collection.",
)
@click.option(
    "--allow-pickle",
    is_flag=True,
    help="Read the arrays, which LUME-services pickled. A pickle can hold any program, "
    "and whoever could write to that database could put one there. It is not run: the "
    "arrays' bytes are taken out by a reader that knows numpy arrays and refuses all "
    "else by name. Without this, documents with pickles are not imported.",
)
@click.option(
    "--keep-text",
    is_flag=True,
    help="Leave arrays and tables that LUME-services kept as JSON text as they are.",
)
@click.option("--dry-run", is_flag=True, help="Read and check all; write nothing.")
@services_option
@json_option
def lume_services(
    source_block: str | None,
    source_uri: str | None,
    database: str | None,
    collections: tuple[str, ...],
    project: str | None,
    allow_pickle: bool,
    keep_text: bool,
    dry_run: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Import the results that LUME-services keeps in MongoDB.

    The source is only read. Importing twice stores nothing twice. Ends with status 1
    when a document could not be imported: the report says which, and why.
    """
    from prefect_lume.results.importing import import_lume_services

    with quiet_prefect():
        source = _source(source_block, source_uri, database)
        target = open_context(services).results_db_service()
    with _Bar() as bar:
        report = import_lume_services(
            source,
            target,
            project_name=project,
            collections=collections or None,
            allow_pickle=allow_pickle,
            decode_text=not keep_text,
            dry_run=dry_run,
            progress=bar.update,
        )
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        _show(report)
    if not report.complete:
        click.get_current_context().exit(1)


@command.command("mlflow")
@click.argument("tracking_uri", envvar="MLFLOW_TRACKING_URI")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="Take over this registered model only. May be given several times.",
)
@click.option(
    "--laboratory",
    default="unknown",
    show_default=True,
    help="The models' laboratory, where no tag lume.laboratory says it.",
)
@click.option(
    "--facility", default="unknown", show_default=True, help="Likewise their facility."
)
@click.option(
    "--beampath", default="unknown", show_default=True, help="Likewise their beam path."
)
@click.option(
    "--live-alias",
    metavar="ALIAS",
    default="champion",
    show_default=True,
    help="The alias whose version becomes live, else the stage Production does it. "
    "Empty: none.",
)
@click.option("--dry-run", is_flag=True, help="Read all; write nothing.")
@services_option
@json_option
def mlflow(
    tracking_uri: str,
    names: tuple[str, ...],
    laboratory: str,
    facility: str,
    beampath: str,
    live_alias: str,
    dry_run: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Import the registered models of an MLflow registry, with aliases and tags.

    MLflow is only read. Importing again stores what is new, and moves aliases. Ends
    with status 1 when something could not be taken over: the report says what and why.
    """
    from prefect_lume.bridge import import_mlflow_registry

    with quiet_prefect():
        context = open_context(services)
        with _Bar() as bar:
            report = import_mlflow_registry(
                tracking_uri,
                context,
                names=names,
                laboratory=laboratory,
                facility=facility,
                beampath=beampath,
                live_alias=live_alias,
                dry_run=dry_run,
                progress=bar.update,
            )
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        would = "would be " if dry_run else ""
        click.echo(
            f"{report.source}: {report.models} registered models; {report.stored} "
            f"versions {would}stored, {report.present} there already."
        )
        for alias, name in report.renamed.items():
            click.echo(f"The alias {alias} is called {name} here.")
        for what, why in report.refused.items():
            click.secho(f"not imported: {what}: ", fg="red", nl=False)
            click.echo(why)
    if not report.complete:
        click.get_current_context().exit(1)


def _source(
    block: str | None, uri: str | None, database: str | None
) -> Database[dict[str, Any]]:
    """Return the source's database, after trying to reach it."""
    if block is not None:
        credentials = _load(block)
        client, name = credentials.get_client(), database or credentials.database_name
    elif uri:
        client, name = mongo.get_client(uri), database or mongo.database_of(uri)
    else:
        raise click.UsageError(
            "Say where LUME-services keeps its results: --source-block NAME, or "
            "--source-uri URI (or the environment variable LUME_SOURCE_URI)."
        )
    if not name:
        raise ConfigurationError(
            f"{mongo.describe(client)} names no database: add --database NAME."
        )
    mongo.check(client, name)
    return client[name]


def _load(name: str) -> MongoDBCredentials:
    try:
        block = MongoDBCredentials.load(name, _sync=True)  # type: ignore[call-arg]
    except ValueError as error:
        raise NotFoundError("MongoDBCredentials Block named", name) from error
    if not isinstance(block, MongoDBCredentials):
        raise ConfigurationError(f"The Block {name!r} holds no MongoDBCredentials.")
    return block


class _Bar:
    """A progress bar per collection on the error stream, where that is a terminal."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            disable=not Console(stderr=True).is_terminal,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, collection: str, done: int, total: int | None = None) -> None:
        if collection not in self._tasks:
            self._tasks[collection] = self._progress.add_task(escape(collection))
        self._progress.update(self._tasks[collection], completed=done, total=total)


def _show(report: ImportReport) -> None:
    console = Console()
    stored = "would store" if report.dry_run else "stored"
    table = Table(
        "collection",
        *("read", stored, "there already", "failed"),
        box=None,
        pad_edge=False,
    )
    for name, counts in {**report.collections, "all": report.total}.items():
        numbers = (counts.read, counts.stored, counts.present, counts.failed)
        table.add_row(escape(name), *map(str, numbers))
    console.print(table)
    reasons: dict[str, list[ImportProblem]] = {}
    for problem in report.problems:
        reasons.setdefault(problem.reason, []).append(problem)
    for reason, problems in list(reasons.items())[:_SHOWN]:
        console.print(f"[red]not imported:[/] {escape(reason)}", soft_wrap=True)
        for problem in problems[:_PLACES]:
            place = f"{problem.collection} {problem.id} {problem.path}"
            console.print(f"  {escape(place)}", soft_wrap=True)
        if len(problems) > _PLACES:
            console.print(f"  and {len(problems) - _PLACES} more")
    if len(reasons) > _SHOWN:
        console.print(f"and {len(reasons) - _SHOWN} more reasons")
    if len(report.problems) > _PLACES:
        console.print("--json tells every document.")
