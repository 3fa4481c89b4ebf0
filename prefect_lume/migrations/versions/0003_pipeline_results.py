"""Pipeline results: executions, their parts, every change of their states.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-20

A revision is frozen: it repeats what the code's tables were when it was written, and
does not import them. What they are for is told in ``pipelines/orm/tables.py``.

On MySQL and MariaDB, where a change of tables cannot be taken back, tables that are
there already are left: an upgrade that was killed half-way can be run again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MYSQL = ("mysql", "mariadb")


def _on_mysql() -> bool:
    return op.get_context().dialect.name in _MYSQL


def _exact() -> str:
    is_mariadb = getattr(op.get_context().dialect, "is_mariadb", False)
    return "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"


def _id() -> TypeEngine[str]:
    if _on_mysql():
        return mysql.VARCHAR(64, charset="utf8mb4", collation=_exact())
    on_postgresql = op.get_context().dialect.name == "postgresql"
    return sa.String(64, collation="C" if on_postgresql else None)


def _ascii(length: int) -> TypeEngine[str]:
    if _on_mysql():
        return mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    on_postgresql = op.get_context().dialect.name == "postgresql"
    return sa.String(length, collation="C" if on_postgresql else None)


def _name() -> TypeEngine[str]:
    if _on_mysql():
        return mysql.VARCHAR(255, charset="utf8mb4", collation=_exact())
    return sa.String(255)


def _text() -> TypeEngine[str]:
    if _on_mysql():
        return mysql.MEDIUMTEXT(charset="utf8mb4", collation=_exact())
    return sa.Text()


def _time() -> TypeEngine[Any]:
    return mysql.DATETIME(fsp=6) if _on_mysql() else sa.DateTime(timezone=True)


def _options() -> dict[str, Any]:
    options: dict[str, Any] = {"sqlite_with_rowid": False}
    for name in _MYSQL:
        options[f"{name}_engine"] = "InnoDB"
        options[f"{name}_charset"] = "utf8mb4"
    return options


def _needed(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _optional(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def upgrade() -> None:
    """Create the tables."""
    there = _tables()
    for name, create in _CREATE.items():
        if name not in there:
            create(name)


def _tables() -> set[str]:
    if op.get_context().as_sql:
        return set()
    return set(sa.inspect(op.get_bind()).get_table_names())


def _belongs(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["run_id"],
        ["pipeline_run.run_id"],
        name=f"fk_{table}_run_id",
        ondelete="CASCADE",
    )


def _create_run(table: str) -> None:
    op.create_table(
        table,
        _needed("run_id", _id()),
        sa.PrimaryKeyConstraint("run_id", name=f"pk_{table}"),
        **_options(),
    )


def _create_kind(table: str, *own: Any) -> None:
    op.create_table(
        table,
        _needed("id", _id()),
        _needed("run_id", _id()),
        _optional("parent_id", _id()),
        _needed("status", _ascii(16)),
        _needed("message", _text()),
        _optional("created", _time()),
        _optional("started", _time()),
        _optional("completed", _time()),
        _needed("closed", sa.Boolean()),
        _needed("superseded", sa.Boolean()),
        _optional("last_at", _time()),
        _optional("state_type", _name()),
        _optional("state_name", _name()),
        _optional("state_at", _time()),
        *own,
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        _belongs(table),
        sa.Index(f"ix_{table}_run_id", "run_id"),
        **_options(),
    )


def _below(table: str) -> sa.Index:
    return sa.Index(
        f"ix_{table}_below",
        "parent_id",
        "superseded",
        "status",
        "started",
        "completed",
        "last_at",
    )


def _create_execution(table: str) -> None:
    _create_kind(
        table,
        _needed("pipeline_id", _name()),
        _needed("run_name", _name()),
        _needed("input_data", _text()),
        _optional("flow_id", _name()),
        _optional("project_name", _name()),
        _optional("deployment_id", sa.Integer()),
        _optional("prefect_deployment_id", _name()),
        _optional("parent_run_id", _name()),
        _optional("runner", _name()),
        _needed("is_mapped", sa.Boolean()),
        _optional("last_seen", _time()),
        sa.Column(
            "ran_at",
            _time(),
            sa.Computed("coalesce(started, created)", persisted=True),
            nullable=True,
        ),
        sa.Index(f"ix_{table}_created", "created"),
        sa.Index(f"ix_{table}_ran_at", "ran_at"),
        sa.Index(f"ix_{table}_status", "status", "created"),
        sa.Index(f"ix_{table}_pipeline_id", "pipeline_id", "created"),
        sa.Index(f"ix_{table}_project_name", "project_name", "created"),
        sa.Index(f"ix_{table}_deployment_id", "deployment_id", "created"),
        sa.Index(f"ix_{table}_flow_id", "flow_id", "created"),
        sa.Index(f"ix_{table}_parent_run_id", "parent_run_id"),
        sa.Index(f"ix_{table}_state_type", "state_type"),
    )


def _create_result(table: str) -> None:
    _create_kind(
        table,
        _needed("pipeline_id", _name()),
        _needed("index", sa.Integer()),
        _optional("pipeline_object", _text()),
        _optional("flow_run_id", _id()),
        _optional("flow_run_at", _time()),
        _optional("again_at", _time()),
        _optional("runner", _name()),
        _optional("reporter", _name()),
        _below(table),
        sa.Index(f"ix_{table}_pipeline_id", "pipeline_id", "started"),
        sa.Index(f"ix_{table}_flow_run_id", "flow_run_id"),
        sa.Index(f"ix_{table}_state_type", "state_type"),
    )


def _create_task_execution(table: str) -> None:
    _create_kind(
        table,
        _needed("pipeline_task", _name()),
        _needed("task_id", _name()),
        _needed("config", _text()),
        _below(table),
        sa.Index(f"ix_{table}_pipeline_task", "pipeline_task"),
        sa.Index(f"ix_{table}_task_id", "task_id"),
    )


def _create_task_result(table: str) -> None:
    _create_kind(
        table,
        _needed("pipeline_result_id", _id()),
        _needed("name", _name()),
        _optional("index", sa.Integer()),
        _optional("task_object", _text()),
        _needed("run_count", sa.Integer()),
        _below(table),
        sa.Index(f"ix_{table}_pipeline_result_id", "pipeline_result_id"),
    )


def _create_state(table: str) -> None:
    op.create_table(
        table,
        _needed("target", _id()),
        _needed("id", _id()),
        _needed("run_id", _id()),
        _needed("kind", _ascii(32)),
        _needed("status", _ascii(16)),
        _needed("timestamp", _time()),
        _needed("message", _text()),
        _optional("state_type", _name()),
        _optional("state_name", _name()),
        _optional("run_count", sa.Integer()),
        _needed("inferred", sa.Boolean()),
        sa.PrimaryKeyConstraint("target", "id", name=f"pk_{table}"),
        _belongs(table),
        sa.Index(f"ix_{table}_run_id", "run_id"),
        **_options(),
    )


def _create_digest(table: str) -> None:
    op.create_table(
        table,
        _needed("pipeline_id", _name()),
        _needed("success", sa.BigInteger()),
        _needed("failure", sa.BigInteger()),
        _needed("unfinished", sa.BigInteger()),
        _needed("runtime", sa.BigInteger()),
        _needed("runtimes", sa.BigInteger()),
        sa.PrimaryKeyConstraint("pipeline_id", name=f"pk_{table}"),
        **_options(),
    )


def _create_position(table: str) -> None:
    op.create_table(
        table,
        _needed("source", _name()),
        _needed("position", _time()),
        sa.PrimaryKeyConstraint("source", name=f"pk_{table}"),
        **_options(),
    )


#: In the order in which they refer to each other.
_CREATE = {
    "pipeline_run": _create_run,
    "pipeline_execution": _create_execution,
    "pipeline_result": _create_result,
    "task_execution": _create_task_execution,
    "task_result": _create_task_result,
    "pipeline_state": _create_state,
    "pipeline_digest": _create_digest,
    "recorder_position": _create_position,
}


def downgrade() -> None:
    """Drop the tables, those that refer to others first; some may be gone already."""
    for name in reversed(_CREATE):
        op.drop_table(name, if_exists=True)
