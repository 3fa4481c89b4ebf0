"""The SQL that gives a database user the rights of a role in the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, TypeAlias, get_args

from sqlalchemy import Dialect
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.sql.compiler import IdentifierPreparer

from prefect_lume.errors import InvalidInputError, clip
from prefect_lume.migrations import VERSION_TABLE
from prefect_lume.registry.tables import metadata

#: What a database user may do with the registry.
Role: TypeAlias = Literal["reader", "registrar"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
#: The kinds of databases that have users. MariaDB's grants are those of MySQL.
DIALECTS: Final = ("mysql", "mariadb", "postgresql")

#: The columns of each table that are meant to change; all others stay as stored.
CHANGEABLE: Final[dict[str, tuple[str, ...]]] = {
    "model": ("revision",),
    "model_tag": ("value", "value_start"),
    "deployment": ("is_live", "retired", "description", "search_text"),
    "deployment_lock": (),
    "deployment_alias": ("deployment_id",),
    "deployment_tag": ("value", "value_start"),
    "project": ("description", "revision"),
    "flow": ("deployment_id", "composition"),
    "flow_of_flows": (),
    "registry_event": (),
}
_WIDTH: Final = 88


def grants(
    role: Role,
    dialect: str,
    *,
    user: str | None = None,
    host: str = "%",
    database: str = "lume",
    schema: str = "public",
    partial_revokes: bool = False,
) -> str:
    """Return the SQL that gives a user the rights of a role in the registry.

    A reader may read everything in the database. A registrar may insert into the
    registry's tables and update what is meant to change, delete nothing. Running it
    twice does no harm; after an upgrade of the tables it is to be run again.

    Args:
        role: ``"reader"`` or ``"registrar"``.
        dialect: ``"mysql"``, ``"mariadb"`` or ``"postgresql"``.
        user: The user's name, ``lume_<role>`` by default.
        host: MySQL, MariaDB: where the user comes from; ``%`` is anywhere.
        database: MySQL, MariaDB: the database with the tables.
        schema: PostgreSQL: the schema with the tables, of the database that the owner
            is connected to.
        partial_revokes: MySQL: whether the server's variable of that name is on. It
            then takes a database's name in a grant as it stands, where else ``_``
            stands for any character and is escaped.

    Returns:
        The statements, each ended by a semicolon.

    Raises:
        InvalidInputError: There is no such role, the database has no users, a name is
            empty or cannot be printed, or ``partial_revokes`` is for another database
            than MySQL.

    Example:
        >>> print(grants("reader", "mysql"), end="")
        GRANT SELECT ON lume.* TO 'lume_reader'@'%';
    """
    user = _checked(role, dialect, user)
    if partial_revokes and dialect != "mysql":
        raise InvalidInputError(
            f"Only MySQL has the variable partial_revokes, not {dialect}: leave it out."
        )
    for what, name in {"host": host, "database": database, "schema": schema}.items():
        _check_name(what, name)
    sql = (
        _PostgreSQL(user, schema)
        if dialect == "postgresql"
        else _MySQL(user, host, database, partial_revokes)
    )
    statements = sql.reading() if role == "reader" else sql.registering()
    return "".join(f"{_wrapped(parts)};\n" for parts in statements)


def create_user(
    role: Role, dialect: str, *, user: str | None = None, host: str = "%"
) -> str:
    """Return the SQL that makes a user for a role; ``<password>`` is to be replaced.

    Args:
        role: ``"reader"`` or ``"registrar"``.
        dialect: ``"mysql"``, ``"mariadb"`` or ``"postgresql"``.
        user: The user's name, ``lume_<role>`` by default.
        host: MySQL, MariaDB: where the user comes from.

    Raises:
        InvalidInputError: As of :func:`grants`.

    Example:
        >>> create_user("reader", "postgresql")
        "CREATE ROLE lume_reader LOGIN PASSWORD '<password>';"
    """
    user = _checked(role, dialect, user)
    _check_name("host", host)
    if dialect == "postgresql":
        quoted = _preparer(postgresql.dialect).quote(user)
        return f"CREATE ROLE {quoted} LOGIN PASSWORD '<password>';"
    return f"CREATE USER {_text(user)}@{_text(host)} IDENTIFIED BY '<password>';"


def _checked(role: str, dialect: str, user: str | None) -> str:
    """Return the user's name, if all is as it may be."""
    if role not in ROLES:
        raise InvalidInputError(
            f"There is no role {clip(repr(role), 60)}. Known: {', '.join(ROLES)}."
        )
    if dialect not in DIALECTS:
        raise InvalidInputError(
            f"{clip(repr(dialect), 60)} has no users to grant rights to. Known: "
            f"{', '.join(DIALECTS)}."
        )
    user = f"lume_{role}" if user is None else user
    _check_name("user", user)
    return user


def _check_name(what: str, name: str) -> None:
    # A line break would end the comment that the command prints it in.
    if not name or not name.isprintable():
        raise InvalidInputError(
            f"The {what} is {clip(repr(name), 60)}. It must not be empty or hold "
            f"characters that cannot be printed."
        )


def _preparer(dialect: Callable[[], Dialect]) -> IdentifierPreparer:
    return dialect().identifier_preparer


class _MySQL:
    """The grants of MySQL and MariaDB."""

    def __init__(self, user: str, host: str, database: str, literal: bool) -> None:
        self._quote = _preparer(mysql.dialect).quote
        self._is_literal = literal
        self._database = self._quote(database)
        self._to = f"TO {_text(user)}@{_text(host)}"

    def reading(self) -> Iterator[list[str]]:
        """Yield the statements, in parts that may stand on lines of their own."""
        # In a grant on a whole database, "_" and "%" of its name stand for anything
        # unless they are escaped, and for themselves where partial_revokes is on.
        name = self._database
        if not self._is_literal:
            name = name.replace("_", r"\_").replace("%", r"\%")
        if name != self._database and not name.startswith("`"):
            name = f"`{name}`"
        yield [f"GRANT SELECT ON {name}.*", self._to]

    def registering(self) -> Iterator[list[str]]:
        """Yield the statements, in parts that may stand on lines of their own."""
        yield ["GRANT SELECT", f"ON {self._database}.{VERSION_TABLE}", self._to]
        for table, columns in CHANGEABLE.items():
            name = f"{self._database}.{self._quote(table)}"
            yield [_may(columns), f"ON {name}", self._to]


class _PostgreSQL:
    """The grants of PostgreSQL."""

    def __init__(self, user: str, schema: str) -> None:
        self._quote = _preparer(postgresql.dialect).quote
        self._schema = self._quote(schema)
        self._to = f"TO {self._quote(user)}"

    def reading(self) -> Iterator[list[str]]:
        """Yield the statements, in parts that may stand on lines of their own."""
        yield [f"GRANT USAGE ON SCHEMA {self._schema}", self._to]
        yield [f"GRANT SELECT ON ALL TABLES IN SCHEMA {self._schema}", self._to]

    def registering(self) -> Iterator[list[str]]:
        """Yield the statements, in parts that may stand on lines of their own."""
        yield [f"GRANT USAGE ON SCHEMA {self._schema}", self._to]
        yield ["GRANT SELECT", f"ON {self._schema}.{VERSION_TABLE}", self._to]
        sequences: list[str] = []
        for table, columns in CHANGEABLE.items():
            name = f"{self._schema}.{self._quote(table)}"
            yield [_may(columns), f"ON {name}", self._to]
            number = metadata.tables[table].autoincrement_column
            if number is not None:
                # As PostgreSQL itself names it.
                sequences.append(f"{self._schema}.{table}_{number.name}_seq")
        listed = [f"{name}," for name in sequences[:-1]] + sequences[-1:]
        yield ["GRANT USAGE ON SEQUENCE", *listed, self._to]


def _may(columns: Sequence[str]) -> str:
    update = f", UPDATE ({', '.join(columns)})" if columns else ""
    return f"GRANT SELECT, INSERT{update}"


def _text(value: str) -> str:
    """Return a literal of MySQL: both ways of escaping are on, unless set otherwise."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _wrapped(parts: Sequence[str]) -> str:
    """Return a statement on lines that are not too long; a part is never broken."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + 1 + len(part) < _WIDTH:
            lines[-1] += f" {part}"
        else:
            lines.append(f"  {part}")
    return "\n".join(lines)
