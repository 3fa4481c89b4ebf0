"""The registry's tables and those of the SQL result store.

Revision ID: 0001
Revises:
Create Date: 2026-11-20

A revision is frozen: it repeats what the code's tables were when it was written, and
does not import them. The column types are explained in ``storage/columns.py`` and
``results/stores/sql/tables.py``.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MYSQL = ("mysql", "mariadb")


def _on_mysql() -> bool:
    return op.get_context().dialect.name in _MYSQL


def _exact() -> str:
    is_mariadb = getattr(op.get_context().dialect, "is_mariadb", False)
    return "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"


def _string(length: int) -> TypeEngine[str]:
    if _on_mysql():
        return mysql.VARCHAR(length, charset="utf8mb4", collation=_exact())
    return sa.String(length)


def _text() -> TypeEngine[str]:
    if _on_mysql():
        return mysql.MEDIUMTEXT(charset="utf8mb4", collation=_exact())
    return sa.Text()


def _time() -> TypeEngine[Any]:
    return mysql.DATETIME(fsp=6) if _on_mysql() else sa.DateTime(timezone=True)


def _digest() -> TypeEngine[str]:
    if _on_mysql():
        return mysql.CHAR(64, charset="ascii", collation="ascii_bin")
    return sa.CHAR(64)


def _registry_options() -> dict[str, Any]:
    options: dict[str, Any] = {"sqlite_autoincrement": True}
    for name in _MYSQL:
        options[f"{name}_engine"] = "InnoDB"
        options[f"{name}_charset"] = "utf8mb4"
    return options


def _result_options() -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in _MYSQL:
        options[f"{name}_engine"] = "InnoDB"
        options[f"{name}_charset"] = "utf8mb4"
        options[f"{name}_collate"] = "utf8mb4_bin"
    return options


def _result_name() -> TypeEngine[str]:
    if _on_mysql():
        return mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin")
    on_postgresql = op.get_context().dialect.name == "postgresql"
    return sa.String(255, collation="C" if on_postgresql else None)


def _result_ascii(length: int) -> TypeEngine[str]:
    if _on_mysql():
        return mysql.CHAR(length, charset="ascii", collation="ascii_bin")
    on_postgresql = op.get_context().dialect.name == "postgresql"
    return sa.CHAR(length, collation="C" if on_postgresql else None)


def upgrade() -> None:
    """Create all tables."""
    _create_models()
    _create_flows()
    _create_results()
    _create_blobs()


def _create_models() -> None:
    op.create_table(
        "model",
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("author", _string(255), nullable=False),
        sa.Column("laboratory", _string(255), nullable=False),
        sa.Column("facility", _string(255), nullable=False),
        sa.Column("beampath", _string(255), nullable=False),
        sa.Column("description", _string(255), nullable=False),
        sa.Column("created", _time(), nullable=False),
        sa.Column("fingerprint", _digest(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name="pk_model"),
        sa.UniqueConstraint("fingerprint", name="uq_model_fingerprint"),
        **_registry_options(),
    )
    op.create_table(
        "deployment",
        sa.Column("deployment_id", sa.Integer, nullable=False),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("version", _string(255), nullable=False),
        sa.Column("deploy_date", _time(), nullable=False),
        sa.Column("package_import_name", _string(255), nullable=False),
        sa.Column("asset_dir", _string(1024), nullable=True),
        sa.Column("source", _text(), nullable=False),
        sa.Column("sha256", _digest(), nullable=False),
        sa.Column("image", _string(1024), nullable=True),
        sa.Column("is_live", sa.Boolean, nullable=False),
        sa.Column("entrypoints", sa.JSON, nullable=True),
        sa.Column("lock", _text(), nullable=True),
        sa.Column(
            "live_model_id",
            sa.Integer,
            sa.Computed(
                "CASE WHEN is_live THEN model_id ELSE NULL END", persisted=True
            ),
            nullable=True,
        ),
        sa.PrimaryKeyConstraint("deployment_id", name="pk_deployment"),
        sa.UniqueConstraint(
            "model_id", "version", name="uq_deployment_model_id_version"
        ),
        sa.UniqueConstraint("live_model_id", name="uq_deployment_live_model_id"),
        sa.ForeignKeyConstraint(
            ["model_id"], ["model.model_id"], name="fk_deployment_model_id"
        ),
        **_registry_options(),
    )


def _create_flows() -> None:
    op.create_table(
        "project",
        sa.Column("project_name", _string(255), nullable=False),
        sa.Column("description", _text(), nullable=False),
        sa.Column("created", _time(), nullable=False),
        sa.PrimaryKeyConstraint("project_name", name="pk_project"),
        **_registry_options(),
    )
    op.create_table(
        "flow",
        sa.Column("flow_id", _string(36), nullable=False),
        sa.Column("flow_name", _string(255), nullable=False),
        sa.Column("project_name", _string(255), nullable=False),
        sa.Column("deployment_id", sa.Integer, nullable=True),
        sa.Column("composition", sa.JSON, nullable=True),
        sa.Column("created", _time(), nullable=False),
        sa.PrimaryKeyConstraint("flow_id", name="pk_flow"),
        sa.UniqueConstraint(
            "project_name", "flow_name", name="uq_flow_project_name_flow_name"
        ),
        sa.ForeignKeyConstraint(
            ["project_name"], ["project.project_name"], name="fk_flow_project_name"
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployment.deployment_id"],
            name="fk_flow_deployment_id",
        ),
        sa.Index("ix_flow_deployment_id", "deployment_id"),
        **_registry_options(),
    )
    op.create_table(
        "flow_of_flows",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("parent_flow_id", _string(36), nullable=False),
        sa.Column("flow_id", _string(36), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("name", _string(255), nullable=False),
        sa.Column("mapped_parameters", sa.JSON, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_flow_of_flows"),
        sa.CheckConstraint("position >= 1", name="ck_flow_of_flows_position"),
        sa.UniqueConstraint(
            "parent_flow_id", "name", name="uq_flow_of_flows_parent_flow_id_name"
        ),
        sa.ForeignKeyConstraint(
            ["parent_flow_id"],
            ["flow.flow_id"],
            name="fk_flow_of_flows_parent_flow_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["flow_id"], ["flow.flow_id"], name="fk_flow_of_flows_flow_id"
        ),
        sa.Index("ix_flow_of_flows_flow_id", "flow_id"),
        **_registry_options(),
    )


def _create_results() -> None:
    document: TypeEngine[str] = sa.Text()
    if _on_mysql():
        document = mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin")
    op.create_table(
        "result",
        sa.Column("collection", _result_name(), nullable=False),
        sa.Column("unique_hash", _result_ascii(64), nullable=False),
        sa.Column("result_type", _result_name(), nullable=False),
        sa.Column("flow_id", _result_name(), nullable=True),
        sa.Column("flow_run_id", _result_name(), nullable=True),
        sa.Column("deployment_id", sa.Integer, nullable=True),
        sa.Column("date_modified", _result_ascii(27), nullable=False),
        sa.Column("document", document, nullable=False),
        sa.PrimaryKeyConstraint("collection", "unique_hash", name="pk_result"),
        sa.Index(
            "ix_result_date_modified", "collection", "date_modified", "unique_hash"
        ),
        sa.Index("ix_result_result_type", "collection", "result_type"),
        sa.Index("ix_result_flow_id", "collection", "flow_id"),
        sa.Index("ix_result_flow_run_id", "collection", "flow_run_id"),
        sa.Index("ix_result_deployment_id", "collection", "deployment_id"),
        **_result_options(),
    )
    op.create_table(
        "result_index",
        sa.Column("name", _result_ascii(64), nullable=False),
        sa.Column("result_type", _result_name(), nullable=False),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("is_unique", sa.Boolean, nullable=False),
        sa.Column("ready", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_result_index"),
        **_result_options(),
    )
    op.create_table(
        "result_index_key",
        sa.Column("collection", _result_name(), nullable=False),
        sa.Column("name", _result_ascii(64), nullable=False),
        sa.Column("key_hash", _result_ascii(64), nullable=False),
        sa.Column("guard", _result_ascii(64), nullable=False),
        sa.Column("unique_hash", _result_ascii(64), nullable=False),
        sa.PrimaryKeyConstraint(
            "collection", "name", "key_hash", "guard", name="pk_result_index_key"
        ),
        sa.ForeignKeyConstraint(
            ["name"],
            ["result_index.name"],
            name="fk_result_index_key_name",
            ondelete="CASCADE",
        ),
        sa.Index("ix_result_index_key_unique_hash", "collection", "unique_hash"),
        **_result_options(),
    )


def _create_blobs() -> None:
    data: TypeEngine[bytes] = sa.LargeBinary()
    if _on_mysql():
        data = mysql.LONGBLOB()
    op.create_table(
        "blob",
        sa.Column("sha256", _result_ascii(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("chunks", sa.Integer, nullable=False),
        sa.Column("created", _result_ascii(27), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_blob"),
        **_result_options(),
    )
    op.create_table(
        "blob_chunk",
        sa.Column("sha256", _result_ascii(64), nullable=False),
        sa.Column("n", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("data", data, nullable=False),
        sa.PrimaryKeyConstraint("sha256", "n", name="pk_blob_chunk"),
        sa.ForeignKeyConstraint(
            ["sha256"],
            ["blob.sha256"],
            name="fk_blob_chunk_sha256",
            ondelete="CASCADE",
        ),
        **_result_options(),
    )


def downgrade() -> None:
    """Drop all tables, those that refer to others first; some may be gone already."""
    for name in (
        "blob_chunk",
        "blob",
        "result_index_key",
        "result_index",
        "result",
        "flow_of_flows",
        "flow",
        "project",
        "deployment",
        "model",
    ):
        op.drop_table(name, if_exists=True)
