"""The SQL schema's revisions, and how a database gets to the one of this code.

The revisions create the registry's tables, those of the SQL result store and those of
pipeline results. They are part of the package: no file outside it is needed, nothing is
printed and no logging is set up.
"""

from __future__ import annotations

import functools
import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Engine, MetaData, inspect, text

from prefect_lume.errors import SchemaError, clip, name_list
from prefect_lume.migrations._locking import exclusive
from prefect_lume.storage.sql import read_only, safe_url, translated

if TYPE_CHECKING:
    from alembic.config import Config

#: The table that names the database's revision. Not Alembic's default name, so that
#: another program's revisions may live in the same database.
VERSION_TABLE: Final = "lume_schema_version"

_FOLDER: Final = Path(__file__).parent
_REMEDY: Final = "Run: prefect-lume db upgrade"

# Alembic's `op` and `context` are global to the process.
_alembic = threading.RLock()


def head() -> str:
    """Return the newest revision that this code knows.

    Example:
        >>> head() >= "0001"
        True
    """
    return revisions()[-1]


@functools.cache
def revisions() -> tuple[str, ...]:
    """Return all revisions that this code knows, oldest first.

    They are the beginnings of the files' names, so that looking whether a database is
    up to date does not load Alembic, which takes a while.
    """
    files = (_FOLDER / "versions").glob("[0-9]*_*.py")
    return tuple(sorted(file.name.partition("_")[0] for file in files))


def current(engine: Engine) -> str | None:
    """Return the database's revision, or ``None`` if it has none.

    Raises:
        StorageError: The database cannot be asked.
    """
    with translated(engine), read_only(engine).connect() as connection:
        return _recorded(connection)


def _recorded(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    statement = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - ours.
    found: str | None = connection.execute(statement).scalar()
    return found


def ensure(engine: Engine) -> None:
    """Do nothing if the database is at this code's revision.

    Raises:
        SchemaError: It is not; the message says what to do.
        StorageError: The database cannot be asked.
    """
    found = current(engine)
    if found == head():
        return
    where = safe_url(engine)
    if found is None:
        what = f"{where} has no tables of prefect-lume yet. {_REMEDY}"
    elif found in revisions():
        what = (
            f"{where} is at schema revision {found}, and this code needs {head()}. "
            f"{_REMEDY}"
        )
    else:
        what = _newer(where, found)
    raise SchemaError(what, where)


def _newer(where: str, found: str) -> str:
    return (
        f"{where} is at schema revision {clip(found, 40)!r}, which this version of "
        f"prefect-lume does not know (it knows up to {head()}): a newer version was "
        f"here. Install that version or a later one."
    )


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring a database to a revision, creating the tables in an empty one.

    Several processes may call this at once: one works, the others wait for it. On
    SQLite and PostgreSQL it happens as a whole or not at all; MySQL and MariaDB cannot
    take back changes of tables, but what a failed first upgrade made is removed.

    Args:
        engine: The database, from :func:`prefect_lume.storage.sql.get_engine`.
        revision: ``"head"``, the newest, or the name of an older one.

    Raises:
        SchemaError: The database holds tables of these names that no revision made, or
            is of a newer revision than this code knows.
        StorageError: The database user may not create tables, or the server is gone.

    Example:
        >>> from prefect_lume.storage.sql import get_engine
        >>> engine = get_engine("sqlite://")
        >>> upgrade(engine)
        >>> current(engine) == head()
        True
        >>> engine.dispose()
    """
    target = _known(revision)
    if current(engine) == target:
        return
    from alembic import command

    with _alembic, translated(engine), exclusive(engine) as connection:
        found = _recorded(connection)
        if found is None:
            _refuse_strangers(connection)
        elif found not in revisions():
            where = safe_url(engine)
            raise SchemaError(_newer(where, found), where)
        before = set(inspect(connection).get_table_names())
        try:
            command.upgrade(_config(connection), target)
        except BaseException:
            if found is None and connection.dialect.name in {"mysql", "mariadb"}:
                _drop(connection, before)
            raise


def downgrade(engine: Engine, revision: str = "base") -> None:
    """Take a database back to an older revision. Data of dropped tables is lost.

    Args:
        engine: The database.
        revision: The name of an older revision, or ``"base"``: no table at all.

    Raises:
        SchemaError: The revision is not known.
        StorageError: The database user may not do it, or the server is gone.
    """
    from alembic import command

    target = revision if revision == "base" else _known(revision)
    with _alembic, translated(engine), exclusive(engine) as connection:
        found = _recorded(connection)
        if found is None:
            return
        if found not in revisions():
            where = safe_url(engine)
            raise SchemaError(_newer(where, found), where)
        command.downgrade(_config(connection), target)
        if target == "base":
            connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))


def check(engine: Engine) -> list[str]:
    """Return how the database differs from what this code expects, in words.

    Only the tables of prefect-lume are looked at; others in the same database are none
    of its business.

    Returns:
        One line per difference; empty when there is none.

    Raises:
        StorageError: The database cannot be asked.
    """
    from prefect_lume.migrations import _drift

    lines = []
    found = current(engine)
    if found != head():
        lines.append(f"The schema revision is {found or 'missing'}, not {head()}.")
    with _alembic, translated(engine), read_only(engine).connect() as connection:
        return lines + _drift.differences(connection)


def script(dialect: str = "mysql") -> str:
    """Return the SQL that creates everything in an empty database.

    Args:
        dialect: ``"mysql"``, ``"mariadb"``, ``"postgresql"`` or ``"sqlite"``.

    Example:
        >>> "CREATE TABLE deployment" in script("mysql")
        True
    """
    from alembic import command

    buffer = io.StringIO()
    config = _config(output_buffer=buffer)
    config.attributes["dialect"] = dialect
    with _alembic:
        command.upgrade(config, "head", sql=True)
    return buffer.getvalue()


def _known(revision: str) -> str:
    if revision == "head":
        return head()
    if revision not in revisions():
        raise SchemaError(
            f"There is no schema revision {clip(revision, 40)!r}. "
            f"Known: {name_list(revisions())}."
        )
    return revision


def _config(connection: Connection | None = None, **arguments: Any) -> Config:
    from alembic.config import Config

    config = Config(**arguments)
    # A percent sign in the path would be taken for a reference to another option.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _refuse_strangers(connection: Connection) -> None:
    from prefect_lume.migrations import _drift

    ours = {
        table.name
        for metadata in _drift.metadatas()
        for table in metadata.tables.values()
    }
    there = ours & set(inspect(connection).get_table_names())
    if there:
        where = safe_url(connection.engine)
        raise SchemaError(
            f"{where} has tables named {name_list(there)} already, and no schema "
            f"revision: another program made them, or an upgrade was killed half-way. "
            f"Use an empty database; if these tables are leftovers of an upgrade and "
            f"empty, drop them and run it again.",
            where,
        )


def _drop(connection: Connection, keep: set[str]) -> None:
    made = set(inspect(connection).get_table_names()) - keep
    metadata = MetaData()
    metadata.reflect(connection, only=sorted(made), resolve_fks=False)
    metadata.drop_all(connection)
