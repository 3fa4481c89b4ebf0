"""``prefect-lume db current`` and ``check``."""

from __future__ import annotations

import json

import click

from prefect_lume import migrations
from prefect_lume.cli._options import json_option
from prefect_lume.cli.db._databases import databases_options, opened
from prefect_lume.storage.sql import safe_url


@click.command("current")
@databases_options
@json_option
def current(services: str | None, url: str | None, as_json: bool) -> None:
    """Show each database's revision, and the one this version needs."""
    head = migrations.head()
    with opened(services, url) as engines:
        rows = [
            {
                "database": safe_url(engine),
                "revision": migrations.current(engine),
                "head": head,
            }
            for engine in engines
        ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        state = "up to date" if row["revision"] == head else f"needs {head}"
        click.echo(f"{row['database']}: {row['revision'] or 'no tables'} ({state})")


@click.command("check")
@databases_options
@json_option
def check(services: str | None, url: str | None, as_json: bool) -> None:
    """Show how the databases differ from what this version expects.

    One line per difference, and exit status 1 if there is any.
    """
    with opened(services, url) as engines:
        found = {safe_url(engine): migrations.check(engine) for engine in engines}
    if as_json:
        rows = [
            {"database": name, "differences": lines} for name, lines in found.items()
        ]
        click.echo(json.dumps(rows))
    else:
        for name, lines in found.items():
            for line in lines or ["as this version expects."]:
                click.echo(f"{name}: {line}")
    if any(found.values()):
        click.get_current_context().exit(1)
