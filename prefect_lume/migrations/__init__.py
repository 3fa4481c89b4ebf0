"""The SQL schema's revisions, and how a database gets to the one of this code.

The revisions create the registry's tables, those of the SQL result store and those of
pipeline results. They are part of the package: no file outside it is needed, nothing is
printed and no logging is set up.
"""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Engine, inspect, text

from prefect_lume.errors import SchemaError, clip, name_list, suggestion
from prefect_lume.migrations._locking import exclusive
from prefect_lume.migrations._privileges import as_owner
from prefect_lume.migrations._remains import count, drop_tables, make_room
from prefect_lume.storage.sql import read_only, safe_url, translated

if TYPE_CHECKING:
    from alembic.config import Config

#: The table that names the database's revision. Not Alembic's default name, so that
#: another program's revisions may live in the same database.
VERSION_TABLE: Final = "lume_schema_version"

#: The databases that the SQL can be printed for.
DIALECTS: Final = ("mysql", "mariadb", "postgresql", "sqlite")

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
    take back changes of tables, but what a failed first upgrade made is removed, and
    one that was killed can be run again.

    Args:
        engine: The database, from :func:`prefect_lume.storage.sql.get_engine`.
        revision: ``"head"``, the newest, or the name of an older one.

    Raises:
        SchemaError: The database holds tables of these names that no revision made, or
            is of a newer revision than this code knows, or than the one asked for.
        PermissionDeniedError: The database user may not change tables.
        StorageError: The server is gone.

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

    with _changing(engine) as connection:
        found = _recorded(connection)
        if found is None:
            make_room(connection, VERSION_TABLE)
        elif found > target:
            raise _wrong_way(engine, found, target, "downgrade")
        before = set(inspect(connection).get_table_names())
        try:
            command.upgrade(_config(connection), target)
        except BaseException:
            if found is None and connection.dialect.name in {"mysql", "mariadb"}:
                drop_tables(connection, before)
            raise


def downgrade(engine: Engine, revision: str = "base") -> None:
    """Take a database back to an older revision. Data of dropped tables is lost.

    Args:
        engine: The database.
        revision: The name of an older revision, or ``"base"``: no table at all.

    Raises:
        SchemaError: The revision is not known, or newer than the database's.
        PermissionDeniedError: The database user may not change tables.
        StorageError: The server is gone.
    """
    from alembic import command

    target = revision if revision == "base" else _known(revision)
    with _changing(engine) as connection:
        found = _recorded(connection)
        if found is None:
            return
        if target != "base" and target > found:
            raise _wrong_way(engine, found, target, "upgrade")
        command.downgrade(_config(connection), target)
        if target == "base":
            connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))


@contextmanager
def _changing(engine: Engine) -> Iterator[Connection]:
    with (
        _alembic,
        as_owner(engine),
        translated(engine),
        exclusive(engine) as connection,
    ):
        _refuse_newer(engine, _recorded(connection))
        yield connection


def _refuse_newer(engine: Engine, found: str | None) -> None:
    if found is not None and found not in revisions():
        where = safe_url(engine)
        raise SchemaError(_newer(where, found), where)


def _wrong_way(engine: Engine, found: str, target: str, way: str) -> SchemaError:
    where = safe_url(engine)
    return SchemaError(
        f"{where} is at schema revision {found}, so {target} is no "
        f"{'upgrade' if way == 'downgrade' else 'downgrade'}. To go there, run: "
        f"prefect-lume db {way} --to {target}",
        where,
    )


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

    It is the same whenever and wherever it is made. The row that names the revision is
    part of it, so :func:`ensure` accepts what it made.

    Args:
        dialect: One of :data:`DIALECTS`. Those of MySQL and MariaDB differ: the two
            servers have no collation in common that compares exactly.

    Example:
        >>> "CREATE TABLE deployment" in script("mysql")
        True
    """
    return _sql(dialect, None, head())


def plan(engine: Engine, revision: str = "head") -> str:
    """Return the SQL by which a database would get to a revision; change nothing.

    It changes tables only. An upgrade of a database with rows also fills what is new in
    them, which this SQL does not: it is to be read, not to be run there.

    Args:
        engine: The database.
        revision: An older or a newer one than the database's, or ``"base"``.

    Returns:
        The SQL; empty if the database is at that revision already.

    Raises:
        SchemaError: The revision, or the database's, is not known.
        StorageError: The database cannot be asked.
    """
    target = revision if revision == "base" else _known(revision)
    found = current(engine)
    _refuse_newer(engine, found)
    if found == target or (found is None and target == "base"):
        return ""
    is_mariadb = getattr(engine.dialect, "is_mariadb", False)
    return _sql("mariadb" if is_mariadb else engine.dialect.name, found, target)


def losses(engine: Engine, revision: str) -> dict[str, int]:
    """Return the tables that a downgrade would drop, and how many rows each has.

    Args:
        engine: The database.
        revision: As for :func:`downgrade`.

    Raises:
        SchemaError: The revision, or the database's, is not known.
        StorageError: The database cannot be asked.
    """
    from prefect_lume.migrations import _offline

    names = _offline.dropped(plan(engine, revision))
    with translated(engine), read_only(engine).connect() as connection:
        there = inspect(connection).get_table_names()
        return {
            name: count(connection, name)
            for name in names
            if name in there and name != VERSION_TABLE
        }


def _sql(dialect: str, start: str | None, end: str) -> str:
    from prefect_lume.migrations import _offline

    buffer = io.StringIO()
    config = _config(output_buffer=buffer)
    config.attributes["dialect"] = dialect
    with _alembic:
        return _offline.sql(config, buffer, start, end)


def _known(revision: str) -> str:
    if revision == "head":
        return head()
    if revision not in revisions():
        # "4" means "0004" rather than what looks most like it.
        meant = suggestion(revision.zfill(len(head())), revisions())
        raise SchemaError(
            f"There is no schema revision {clip(revision, 40)!r}."
            f"{clip(meant)} Known: {name_list(revisions())}."
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
