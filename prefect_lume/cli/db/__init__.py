"""``prefect-lume db``: the tables of an SQL database."""

from __future__ import annotations

import click

from prefect_lume.cli.db.changing import downgrade, upgrade
from prefect_lume.cli.db.looking import check, current
from prefect_lume.cli.db.printing import diagram, grants, schema


@click.group("db")
def command() -> None:
    """Create or upgrade the SQL database's tables."""


for _subcommand in (check, current, diagram, downgrade, grants, schema, upgrade):
    command.add_command(_subcommand)
