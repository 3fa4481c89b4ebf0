"""The registry's history; aliases, tags, descriptions, lineage; locks on their own.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-28

A revision is frozen: it repeats what the code's tables were when it was written, and
does not import them. What they are for is told in ``registry/tables.py``.

On MySQL and MariaDB, where a change of tables cannot be taken back, what is there
already is left, and what is gone is not missed: an upgrade or a downgrade that was
killed half-way can be run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_MYSQL = ("mysql", "mariadb")
#: Rows whose words are gathered at once.
_PAGE: Final = 500
#: What a search by text looks at, as it was when this revision was written.
_MODEL_WORDS: Final = ("author", "laboratory", "facility", "beampath", "description")
_DEPLOYMENT_WORDS: Final = ("version", "package_import_name", "source", "image")


def _on_mysql() -> bool:
    return op.get_context().dialect.name in _MYSQL


def _string(length: int) -> TypeEngine[str]:
    if _on_mysql():
        is_mariadb = getattr(op.get_context().dialect, "is_mariadb", False)
        exact = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
        return mysql.VARCHAR(length, charset="utf8mb4", collation=exact)
    return sa.String(length)


def _text() -> TypeEngine[str]:
    if _on_mysql():
        is_mariadb = getattr(op.get_context().dialect, "is_mariadb", False)
        exact = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
        return mysql.MEDIUMTEXT(charset="utf8mb4", collation=exact)
    return sa.Text()


def _time() -> TypeEngine[Any]:
    return mysql.DATETIME(fsp=6) if _on_mysql() else sa.DateTime(timezone=True)


def _options(*, numbered: bool) -> dict[str, Any]:
    options: dict[str, Any] = (
        {"sqlite_autoincrement": True} if numbered else {"sqlite_with_rowid": False}
    )
    for name in _MYSQL:
        options[f"{name}_engine"] = "InnoDB"
        options[f"{name}_charset"] = "utf8mb4"
    return options


def _new_columns() -> dict[str, list[sa.Column[Any]]]:
    return {
        "model": [
            sa.Column("revision", sa.Integer, nullable=False, server_default="0"),
            sa.Column("search_text", _text(), nullable=True),
        ],
        "project": [
            sa.Column("history_id", _string(36), nullable=True),
            sa.Column("revision", sa.Integer, nullable=False, server_default="0"),
        ],
        "deployment": [
            sa.Column("description", _string(4000), nullable=False, server_default=""),
            sa.Column("retired", _time(), nullable=True),
            sa.Column("parent_deployment_id", sa.Integer, nullable=True),
            sa.Column("search_text", _text(), nullable=True),
        ],
    }


_INDICES: Final = (
    ("deployment", "deploy_date"),
    ("deployment", "sha256"),
    ("deployment", "parent_deployment_id"),
    ("flow", "flow_name"),
    ("project", "history_id"),
)
_UNIQUE: Final = ("project", "history_id")


def upgrade() -> None:
    """Add the columns and tables, and begin the history of what is there."""
    for table, columns in _new_columns().items():
        there = _columns(table)
        for column in columns:
            if column.name not in there:
                op.add_column(table, column)
    for table, indexed in _INDICES:
        name = f"ix_{table}_{indexed}"
        if name not in _indices(table):
            unique = (table, indexed) == _UNIQUE
            op.create_index(name, table, [indexed], unique=unique)
    tables = _tables()
    for new, create in (
        ("deployment_lock", _create_locks),
        ("deployment_alias", _create_aliases),
        ("deployment_tag", lambda: _create_tags("deployment")),
        ("model_tag", lambda: _create_tags("model")),
        ("registry_event", _create_events),
    ):
        if new not in tables:
            create()
    if "lock" in _columns("deployment") or op.get_context().as_sql:
        _move_locks()
    if not op.get_context().as_sql:
        connection = op.get_bind()
        _gather_words(connection, "model", "model_id", _MODEL_WORDS)
        _gather_words(connection, "deployment", "deployment_id", _DEPLOYMENT_WORDS)
        _name_histories(connection)
        _begin_history(connection, "model", "model_id")
        _begin_history(connection, "project", "history_id")


def _create_locks() -> None:
    op.create_table(
        "deployment_lock",
        sa.Column("deployment_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("lock", _text(), nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", name="pk_deployment_lock"),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment.deployment_id"],
            name="fk_deployment_lock_deployment_id",
            ondelete="CASCADE",
        ),
        **{**_options(numbered=True), "sqlite_autoincrement": False},
    )


_DEPLOYMENT: Final = sa.table(
    "deployment", sa.column("deployment_id"), sa.column("lock")
)
_LOCK: Final = sa.table(
    "deployment_lock", sa.column("deployment_id"), sa.column("lock")
)


def _move_locks() -> None:
    there = sa.select(_LOCK.c.deployment_id).where(
        _LOCK.c.deployment_id == _DEPLOYMENT.c.deployment_id
    )
    locked = sa.select(_DEPLOYMENT.c.deployment_id, _DEPLOYMENT.c.lock).where(
        _DEPLOYMENT.c.lock.is_not(None), ~there.exists()
    )
    op.execute(_LOCK.insert().from_select(["deployment_id", "lock"], locked))
    op.drop_column("deployment", "lock")


def _create_aliases() -> None:
    op.create_table(
        "deployment_alias",
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("alias", _string(255), nullable=False),
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "alias", name="pk_deployment_alias"),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["model.model_id"],
            name="fk_deployment_alias_model_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment.deployment_id"],
            name="fk_deployment_alias_deployment_id",
            ondelete="CASCADE",
        ),
        sa.Index("ix_deployment_alias_deployment_id", "deployment_id"),
        sa.Index("ix_deployment_alias_alias", "alias"),
        **_options(numbered=False),
    )


def _create_tags(owner: str) -> None:
    table, key = f"{owner}_tag", f"{owner}_id"
    op.create_table(
        table,
        sa.Column(key, sa.Integer, nullable=False),
        sa.Column("key", _string(255), nullable=False),
        sa.Column("value", _string(5000), nullable=False),
        sa.Column("value_start", _string(120), nullable=False),
        sa.PrimaryKeyConstraint(key, "key", name=f"pk_{table}"),
        sa.ForeignKeyConstraint(
            [key], [f"{owner}.{key}"], name=f"fk_{table}_{key}", ondelete="CASCADE"
        ),
        sa.Index(f"ix_{table}_key_value_start", "key", "value_start"),
        **_options(numbered=False),
    )


def _create_events() -> None:
    op.create_table(
        "registry_event",
        sa.Column(
            "event_id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            nullable=False,
        ),
        sa.Column("subject", _string(16), nullable=False),
        sa.Column("subject_id", _string(36), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("kind", _string(32), nullable=False),
        sa.Column("deployment_id", sa.Integer, nullable=True),
        sa.Column("previous_deployment_id", sa.Integer, nullable=True),
        sa.Column("flow_id", _string(36), nullable=True),
        sa.Column("happened", _time(), nullable=False),
        sa.Column("actor", _string(255), nullable=False),
        sa.Column("reason", _string(4000), nullable=False),
        sa.Column("value_before", sa.JSON, nullable=True),
        sa.Column("value_after", sa.JSON, nullable=True),
        sa.Column("change_id", _string(32), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_registry_event"),
        sa.UniqueConstraint(
            "subject",
            "subject_id",
            "number",
            name="uq_registry_event_subject_subject_id_number",
        ),
        *(
            sa.Index(f"ix_registry_event_{column}", column)
            for column in (
                "deployment_id",
                "previous_deployment_id",
                "flow_id",
                "change_id",
            )
        ),
        **_options(numbered=True),
    )


def _gather_words(
    connection: sa.Connection, name: str, key: str, words: Sequence[str]
) -> None:
    table = sa.table(name, sa.column(key), sa.column("search_text"))
    read: list[sa.ColumnClause[Any]] = [sa.column(column) for column in (key, *words)]
    after = 0
    while True:
        found = connection.execute(
            sa.select(*read)
            .select_from(sa.table(name))
            .where(sa.column(key) > after)
            .order_by(sa.column(key))
            .limit(_PAGE)
        ).all()
        if not found:
            return
        connection.execute(
            table.update()
            .where(table.c[key] == sa.bindparam("row_key"))
            .values(search_text=sa.bindparam("row_words")),
            [
                {
                    "row_key": row[0],
                    "row_words": "\n".join(word for word in row[1:] if word).casefold(),
                }
                for row in found
            ],
        )
        after = found[-1][0]


def _name_histories(connection: sa.Connection) -> None:
    project = sa.table("project", sa.column("project_name"), sa.column("history_id"))
    unnamed = sa.select(project.c.project_name).where(project.c.history_id.is_(None))
    for name in connection.scalars(unnamed).all():
        connection.execute(
            project.update()
            .where(project.c.project_name == name)
            .values(history_id=str(uuid4()))
        )


def _begin_history(connection: sa.Connection, name: str, key: str) -> None:
    """Write one event for each row that was there before there was a history."""
    table = sa.table(name, sa.column(key), sa.column("revision"))
    events = sa.table(
        "registry_event",
        *(
            sa.column(column, kind)
            for column, kind in (
                ("subject", sa.String()),
                ("subject_id", sa.String()),
                ("number", sa.Integer()),
                ("kind", sa.String()),
                ("happened", _time()),
                ("actor", sa.String()),
                ("reason", sa.String()),
                ("change_id", sa.String()),
            )
        ),
    )
    now = datetime.now(UTC)
    if connection.dialect.name != "postgresql":
        now = now.replace(tzinfo=None)
    while True:
        keys = connection.scalars(
            sa.select(table.c[key]).where(table.c.revision == 0).limit(_PAGE)
        ).all()
        if not keys:
            return
        # An upgrade that was killed on MySQL may have written some of them.
        there = connection.scalars(
            sa.select(events.c.subject_id).where(
                events.c.subject == name, events.c.subject_id.in_(map(str, keys))
            )
        ).all()
        rows = [
            {
                "subject": name,
                "subject_id": str(value),
                "number": 1,
                "kind": f"{name}.history-begun",
                "happened": now,
                "actor": "prefect-lume db upgrade",
                "reason": "It was registered before the registry kept a history.",
                "change_id": "",
            }
            for value in keys
            if str(value) not in set(there)
        ]
        if rows:
            connection.execute(events.insert(), rows)
        connection.execute(
            table.update().where(table.c[key].in_(keys)).values(revision=1)
        )


def downgrade() -> None:
    """Take away what this revision added. History, aliases and tags are lost."""
    tables = _tables()
    if "lock" not in _columns("deployment") or op.get_context().as_sql:
        op.add_column("deployment", sa.Column("lock", _text(), nullable=True))
    if "deployment_lock" in tables or op.get_context().as_sql:
        lock = sa.select(_LOCK.c.lock).where(
            _LOCK.c.deployment_id == _DEPLOYMENT.c.deployment_id
        )
        op.execute(_DEPLOYMENT.update().values(lock=lock.scalar_subquery()))
        op.drop_table("deployment_lock")
    for name in ("registry_event", "model_tag", "deployment_tag", "deployment_alias"):
        if name in tables or op.get_context().as_sql:
            op.drop_table(name)
    for table, indexed in _INDICES:
        name = f"ix_{table}_{indexed}"
        if name in _indices(table) or op.get_context().as_sql:
            op.drop_index(name, table)
    for table, columns in _new_columns().items():
        there = _columns(table)
        for column in reversed(columns):
            if column.name in there or op.get_context().as_sql:
                op.drop_column(table, column.name)


def _tables() -> set[str]:
    if op.get_context().as_sql:
        return set()
    return set(sa.inspect(op.get_bind()).get_table_names())


def _columns(table: str) -> set[str]:
    if op.get_context().as_sql:
        return set()
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}


def _indices(table: str) -> set[str | None]:
    if op.get_context().as_sql:
        return set()
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}
