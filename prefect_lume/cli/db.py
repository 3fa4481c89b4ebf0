"""``prefect-lume db``: the tables of an SQL database."""

from __future__ import annotations

import json

import click
from sqlalchemy import Engine

from prefect_lume import migrations
from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli._progress import quiet_prefect
from prefect_lume.config import Context, open_context
from prefect_lume.storage import sql


@click.group("db")
def command() -> None:
    """Create or upgrade the SQL database's tables."""


def _context(services: str | None) -> Context:
    with quiet_prefect():
        return open_context(services)


def _engines(context: Context) -> list[Engine]:
    """Return the engines of a context's SQL databases, each once."""
    services = context.services
    chosen = [services.registry, services.results_sql]
    found = [item.get_engine() for item in chosen if item is not None]
    in_embedded = services.registry is None or not (
        services.results_sql or services.results_mongodb
    )
    if in_embedded:
        found.append(context.embedded_engine())
    return list(dict.fromkeys(found))


@command.command("upgrade")
@services_option
def upgrade(services: str | None) -> None:
    """Create the tables, or bring them to this version's revision."""
    for engine in _engines(_context(services)):
        before = migrations.current(engine)
        migrations.upgrade(engine)
        after = migrations.current(engine)
        change = f"at {after} already" if before == after else f"{before} → {after}"
        click.echo(f"{sql.safe_url(engine)}: {change}")


@command.command("current")
@services_option
@json_option
def current(services: str | None, as_json: bool) -> None:
    """Show each database's revision, and the one this version needs."""
    head = migrations.head()
    rows = [
        {
            "database": sql.safe_url(engine),
            "revision": migrations.current(engine),
            "head": head,
        }
        for engine in _engines(_context(services))
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        state = "up to date" if row["revision"] == head else f"needs {head}"
        click.echo(f"{row['database']}: {row['revision'] or 'no tables'} ({state})")
