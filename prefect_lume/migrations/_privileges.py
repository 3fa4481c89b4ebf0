"""What a database user needs for a migration, told when it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Engine

from prefect_lume.errors import PermissionDeniedError

_ROWS: Final = "SELECT, INSERT, UPDATE, DELETE"
_NEEDED: Final = {
    "mysql": f"CREATE, ALTER, DROP, INDEX, REFERENCES, {_ROWS} on the database",
    "postgresql": "CREATE on the schema, and must own the tables",
}


@contextmanager
def as_owner(engine: Engine) -> Iterator[None]:
    """Say which privileges a migration needs when the user lacks one."""
    try:
        yield
    except PermissionDeniedError as error:
        dialect = engine.dialect.name
        needed = _NEEDED.get("mysql" if dialect == "mariadb" else dialect)
        if needed is None:
            raise
        raise PermissionDeniedError(
            f"{error} To change tables, the user needs {needed}. Grant it, or let a "
            f"user who has it run the command; the services themselves need no such "
            f"user.",
            error.where,
        ) from error
