"""Which document holds which blob; compressed and large blobs; options of indices.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-20

On MySQL and MariaDB, where a change of tables cannot be taken back, every step looks
first whether it was done: an upgrade or a downgrade that was killed half-way can be run
again. Nobody else may store results while it runs.
"""

from __future__ import annotations

import warnings
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from prefect_lume.migrations import _blob_links

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MYSQL = ("mysql", "mariadb")


def _on_mysql() -> bool:
    return op.get_context().dialect.name in _MYSQL


def _options() -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in _MYSQL:
        options[f"{name}_engine"] = "InnoDB"
        options[f"{name}_charset"] = "utf8mb4"
        options[f"{name}_collate"] = "utf8mb4_bin"
    return options


def _name() -> TypeEngine[str]:
    if _on_mysql():
        return mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin")
    on_postgresql = op.get_context().dialect.name == "postgresql"
    return sa.String(255, collation="C" if on_postgresql else None)


def _ascii(length: int) -> TypeEngine[str]:
    if _on_mysql():
        return mysql.CHAR(length, charset="ascii", collation="ascii_bin")
    on_postgresql = op.get_context().dialect.name == "postgresql"
    return sa.CHAR(length, collation="C" if on_postgresql else None)


def _bytes() -> TypeEngine[bytes]:
    return mysql.LONGBLOB() if _on_mysql() else sa.LargeBinary()


def upgrade() -> None:
    """Add what is new, and note the blobs of the documents that are there."""
    _add_columns()
    there = _tables()
    if "blob_upload" not in there:
        _create_upload()
    if "blob_upload_chunk" not in there:
        _create_upload_chunk()
    if "result_blob" not in there:
        _create_result_blob()
    _create_index("ix_blob_upload_sha256", "blob_upload", ["sha256"], unique=True)
    _create_index("ix_result_blob_sha256", "result_blob", ["sha256"])
    if not op.get_context().as_sql:
        for problem in _blob_links.fill(op.get_bind()):
            warnings.warn(problem, stacklevel=2)


def _tables() -> set[str]:
    if op.get_context().as_sql:
        return set()
    return set(sa.inspect(op.get_bind()).get_table_names())


def _add_columns() -> None:
    # SQLite adds a column with a plain default only, MySQL with an expression.
    default = sa.text("('{}')" if _on_mysql() else "'{}'")
    _add_column(
        "result_index",
        sa.Column("options", sa.Text, nullable=False, server_default=default),
    )
    _add_column(
        "blob",
        sa.Column("encoding", sa.String(16), nullable=False, server_default=""),
    )


def _add_column(table: str, column: sa.Column[Any]) -> None:
    if not op.get_context().as_sql:
        there = sa.inspect(op.get_bind()).get_columns(table)
        if column.name in {item["name"] for item in there}:
            return
    op.add_column(table, column)


def _create_index(
    name: str, table: str, columns: list[str], *, unique: bool = False
) -> None:
    if not op.get_context().as_sql:
        there = sa.inspect(op.get_bind()).get_indexes(table)
        if name in {item["name"] for item in there}:
            return
    op.create_index(name, table, columns, unique=unique)


def _create_upload() -> None:
    op.create_table(
        "blob_upload",
        sa.Column("id", _ascii(64), nullable=False),
        sa.Column("sha256", _ascii(64), nullable=True),
        sa.Column("renewed", _ascii(27), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_blob_upload"),
        sa.ForeignKeyConstraint(
            ["sha256"],
            ["blob.sha256"],
            name="fk_blob_upload_sha256",
            ondelete="CASCADE",
        ),
        **_options(),
    )


def _create_upload_chunk() -> None:
    op.create_table(
        "blob_upload_chunk",
        sa.Column("upload", _ascii(64), nullable=False),
        sa.Column("n", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("data", _bytes(), nullable=False),
        sa.PrimaryKeyConstraint("upload", "n", name="pk_blob_upload_chunk"),
        sa.ForeignKeyConstraint(
            ["upload"],
            ["blob_upload.id"],
            name="fk_blob_upload_chunk_upload",
            ondelete="CASCADE",
        ),
        **_options(),
    )


def _create_result_blob() -> None:
    op.create_table(
        "result_blob",
        sa.Column("collection", _name(), nullable=False),
        sa.Column("unique_hash", _ascii(64), nullable=False),
        sa.Column("sha256", _ascii(64), nullable=False),
        sa.PrimaryKeyConstraint(
            "collection", "unique_hash", "sha256", name="pk_result_blob"
        ),
        sa.ForeignKeyConstraint(
            ["collection", "unique_hash"],
            ["result.collection", "result.unique_hash"],
            name="fk_result_blob_collection",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["sha256"],
            ["blob.sha256"],
            name="fk_result_blob_sha256",
            ondelete="RESTRICT",
        ),
        **_options(),
    )


def downgrade() -> None:
    """Store all blobs as they were stored before, and drop what was added."""
    # As a whole: on MySQL and MariaDB the first change of tables commits it.
    if "result_blob" in _tables():
        _blob_links.unpack(op.get_bind())
    for name in ("result_blob", "blob_upload_chunk", "blob_upload"):
        op.drop_table(name, if_exists=True)
    _drop_column("blob", "encoding")
    _drop_column("result_index", "options")


def _drop_column(table: str, name: str) -> None:
    if not op.get_context().as_sql:
        there = sa.inspect(op.get_bind()).get_columns(table)
        if name not in {item["name"] for item in there}:
            return
    op.drop_column(table, name)
