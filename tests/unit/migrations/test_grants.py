"""The SQL of the roles: what the page shows, for any names, of every table."""

import re
from pathlib import Path

import pytest

from prefect_lume.errors import InvalidInputError
from prefect_lume.migrations.grants import (
    CHANGEABLE,
    DIALECTS,
    ROLES,
    create_user,
    grants,
)
from prefect_lume.registry.tables import metadata

PAGE = Path(__file__).parents[3] / "docs" / "registry-access.md"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_page_shows_what_is_made(role, dialect):
    """Word for word."""
    section = PAGE.read_text("utf-8").split(f"\n## The {role}\n")[1].split("\n## ")[0]
    kind = "PostgreSQL" if dialect == "postgresql" else "MySQL and MariaDB"
    found = re.search(rf"On {kind}:\n\n```sql\n(.*?)```", section, re.DOTALL)
    assert found is not None
    assert found[1] == f"{create_user(role, dialect)}\n\n{grants(role, dialect)}"


def test_every_table_and_only_columns_that_exist():
    """A new table has to be decided about."""
    assert set(CHANGEABLE) == set(metadata.tables)
    for table, columns in CHANGEABLE.items():
        assert set(columns) <= set(metadata.tables[table].columns.keys())


def test_names_are_quoted():
    """So that they are names, whatever they hold."""
    told = grants("reader", "mysql", user="o'b\\x", host="10.%", database="a`b")
    assert told == "GRANT SELECT ON `a``b`.* TO 'o''b\\\\x'@'10.%';\n"
    told = grants("reader", "postgresql", user='Re"ad', schema="Beam line")
    assert told.splitlines()[0] == 'GRANT USAGE ON SCHEMA "Beam line" TO "Re""ad";'
    assert create_user("reader", "postgresql", user="a b").startswith(
        'CREATE ROLE "a b"'
    )


def test_a_database_is_that_database_only():
    """In MySQL's grants on a database, underscores stand for any character."""
    assert r"ON `lume\_a`.* TO" in grants("reader", "mysql", database="lume_a")
    literal = grants("reader", "mysql", database="lume_a", partial_revokes=True)
    assert "ON lume_a.* TO" in literal
    assert "ON lume_a.model TO" in grants("registrar", "mysql", database="lume_a")


@pytest.mark.parametrize(
    ("role", "dialect", "names", "words"),
    [
        ("owner", "mysql", {}, "role 'owner'. Known: reader, registrar"),
        ("reader", "sqlite", {}, "has no users .* Known: mysql, mariadb, postgresql"),
        ("reader", "mysql", {"user": ""}, "The user is ''"),
        ("reader", "mysql", {"host": "a\nDROP"}, "The host is"),
        ("reader", "mysql", {"database": "a\0"}, "The database is"),
        ("reader", "postgresql", {"schema": ""}, "The schema is ''"),
        ("reader", "mariadb", {"partial_revokes": True}, "Only MySQL .* not mariadb"),
    ],
)
def test_what_cannot_be_is_refused(role, dialect, names, words):
    """With what is allowed."""
    with pytest.raises(InvalidInputError, match=words):
        grants(role, dialect, **names)
