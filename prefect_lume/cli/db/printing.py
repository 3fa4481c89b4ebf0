"""``db schema``, ``grants`` and ``diagram``: from the code; no database is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from prefect_lume import migrations
from prefect_lume.errors import InvalidInputError
from prefect_lume.migrations import diagram as drawing
from prefect_lume.migrations import grants as granting
from prefect_lume.migrations.grants import DIALECTS as USERS_IN
from prefect_lume.migrations.grants import ROLES, Role

_HEADER: Final = """\
-- The tables of prefect-lume at revision {head}, for {dialect}.
-- Made by: prefect-lume db schema --dialect {dialect}

"""

_GRANTS: Final = """\
-- What a {role} of the registry may do, at revision {head} of the tables.
-- To be run by the owner, also again after each `prefect-lume db upgrade`; and before,
-- with a password of your own, to make the user:
--   {create}

"""

_output = click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write it there instead of printing it.",
)


@click.command("schema")
@click.option(
    "--dialect",
    type=click.Choice(migrations.DIALECTS),
    required=True,
    help="The kind of database. MySQL's SQL does not fit MariaDB.",
)
@_output
def schema(dialect: str, output: Path | None) -> None:
    """Print the SQL that creates all tables in an empty database."""
    header = _HEADER.format(head=migrations.head(), dialect=dialect)
    _give(header + migrations.script(dialect).strip() + "\n", output)


@click.command("grants")
@click.argument("role", type=click.Choice(ROLES))
@click.option(
    "--dialect",
    type=click.Choice(USERS_IN),
    required=True,
    help="The kind of database.",
)
@click.option("--user", metavar="NAME", help="The user. Default: lume_<role>.")
@click.option(
    "--host",
    default="%",
    show_default=True,
    help="MySQL, MariaDB: where the user comes from.",
)
@click.option(
    "--database",
    metavar="NAME",
    default="lume",
    show_default=True,
    help="MySQL, MariaDB: the database with the tables.",
)
@click.option(
    "--schema",
    metavar="NAME",
    default="public",
    show_default=True,
    help="PostgreSQL: the schema with the tables.",
)
@click.option(
    "--partial-revokes",
    is_flag=True,
    help="MySQL: for a server whose variable partial_revokes is on.",
)
@_output
def grants(
    role: Role,
    dialect: str,
    user: str | None,
    host: str,
    database: str,
    schema: str,
    partial_revokes: bool,
    output: Path | None,
) -> None:
    """Print the SQL that gives a user the rights of a ROLE in the registry.

    A reader may read; a registrar may register, promote, name and describe, and
    delete nothing.
    """
    made = granting.grants(
        role,
        dialect,
        user=user,
        host=host,
        database=database,
        schema=schema,
        partial_revokes=partial_revokes,
    )
    create = granting.create_user(role, dialect, user=user, host=host)
    header = _GRANTS.format(role=role, head=migrations.head(), create=create)
    _give(header + made, output)


@click.command("diagram")
@click.option(
    "--part",
    type=click.Choice(drawing.PARTS),
    default="registry",
    show_default=True,
    help="Whose tables.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "svg"]),
    default="mermaid",
    show_default=True,
    help="Mermaid's language, or a picture.",
)
@_output
def diagram(part: str, form: str, output: Path | None) -> None:
    """Draw the tables and how they refer to each other."""
    draw = drawing.mermaid if form == "mermaid" else drawing.svg
    _give(draw(part), output)


def _give(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8", newline="\n")
    except OSError as error:
        raise InvalidInputError(
            f"{output} cannot be written: {error.strerror}."
        ) from error
