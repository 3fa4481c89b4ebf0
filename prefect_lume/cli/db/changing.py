"""``prefect-lume db upgrade`` and ``downgrade``."""

from __future__ import annotations

import click
from sqlalchemy import Engine

from prefect_lume import migrations
from prefect_lume.cli.db._databases import databases_options, opened, revision_option
from prefect_lume.cli.results._running import confirm
from prefect_lume.results.describing import counted
from prefect_lume.storage.sql import safe_url

_dry_run = click.option(
    "--dry-run", is_flag=True, help="Print the SQL, and change nothing."
)


@click.command("upgrade")
@databases_options
@revision_option(required=False)
@_dry_run
def upgrade(
    services: str | None, url: str | None, revision: str, dry_run: bool
) -> None:
    """Create the tables, or bring them to this version's revision."""
    with opened(services, url) as engines:
        for engine in engines:
            if dry_run:
                _print_plan(engine, revision)
                continue
            before = migrations.current(engine)
            migrations.upgrade(engine, revision)
            _tell(engine, before)


@click.command("downgrade")
@databases_options
@revision_option(required=True)
@_dry_run
@click.option("--yes", is_flag=True, help="Do not ask.")
def downgrade(
    services: str | None, url: str | None, revision: str, dry_run: bool, yes: bool
) -> None:
    """Take the tables back to an older revision. What it does not know is lost."""
    with opened(services, url) as engines:
        if dry_run:
            for engine in engines:
                _print_plan(engine, revision)
            return
        if not yes:
            for engine in engines:
                _warn(engine, revision)
            confirm("Go on?")
        for engine in engines:
            before = migrations.current(engine)
            migrations.downgrade(engine, revision)
            _tell(engine, before)


def _tell(engine: Engine, before: str | None) -> None:
    after = migrations.current(engine)
    change = f"{before or 'no tables'} → {after or 'no tables'}"
    if before == after:
        change = f"at {after} already" if after else "no tables"
    click.echo(f"{safe_url(engine)}: {change}")


def _print_plan(engine: Engine, revision: str) -> None:
    found = migrations.current(engine) or "no tables"
    plan = migrations.plan(engine, revision)
    target = migrations.head() if revision == "head" else revision
    click.echo(f"-- {safe_url(engine)}: {found} → {target}")
    if not plan:
        click.echo("-- Nothing to do.")
        return
    click.echo("-- To be read: rows that the command fills or moves are not shown.")
    click.echo(plan, nl=False)


def _warn(engine: Engine, revision: str) -> None:
    before = migrations.current(engine) or "no tables"
    click.echo(f"{safe_url(engine)}: {before} → {revision}", err=True)
    for name, rows in migrations.losses(engine, revision).items():
        click.echo(f"  drops the table {name} ({counted(rows, 'row')})", err=True)
    click.echo(
        f"  What revision {revision} has no place for is lost. Make a backup first.",
        err=True,
    )
