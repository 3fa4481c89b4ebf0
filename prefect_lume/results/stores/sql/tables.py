"""The tables in which the SQL store keeps documents, their indices and blobs.

The migrations create them; ``metadata.create_all`` does the same for tests and for
whoever runs without migrations.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

#: Bytes of a blob in one row: far below the smallest ``max_allowed_packet`` in use
#: (16 MiB), and small enough that reading one chunk costs little memory.
CHUNK_SIZE: Final = 1 << 20

#: The length of ``YYYY-MM-DDTHH:MM:SS.ffffffZ``: text that sorts as time does, with
#: microseconds and without any driver's idea of time zones.
TIMESTAMP_LENGTH: Final = 27

_MYSQL: Final = ("mysql", "mariadb")
_INNODB: Final[dict[str, Any]] = {
    f"{dialect}_{option}": value
    for dialect in _MYSQL
    for option, value in (
        ("engine", "InnoDB"),
        ("charset", "utf8mb4"),
        ("collate", "utf8mb4_bin"),
    )
}

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _name() -> TypeEngine[str]:
    """Return a type for names which compares and sorts by code point everywhere."""
    return (
        String(255)
        .with_variant(
            mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), *_MYSQL
        )
        .with_variant(String(255, collation="C"), "postgresql")
    )


def _ascii(length: int) -> TypeEngine[str]:
    """Return a type for hexadecimal digests and timestamps: one byte a character."""
    return (
        CHAR(length)
        .with_variant(
            mysql.CHAR(length, charset="ascii", collation="ascii_bin"), *_MYSQL
        )
        .with_variant(CHAR(length, collation="C"), "postgresql")
    )


def _document() -> TypeEngine[str]:
    r"""Return a type for the document, which is JSON text and not a JSON column.

    JSON columns alter data: MySQL's turns 1.0 into 1 beside a key order of its own,
    PostgreSQL's ``jsonb`` drops -0.0 and refuses U+0000. The store writes canonical
    JSON in ASCII (``\uXXXX`` beyond it) and gets back exactly what it wrote.
    """
    return Text().with_variant(
        mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), *_MYSQL
    )


def _bytes() -> TypeEngine[bytes]:
    return LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL)


#: One row per document. What queries mostly ask for is promoted to columns; the
#: document holds everything, the promoted fields included.
result = Table(
    "result",
    metadata,
    Column("collection", _name(), primary_key=True),
    Column("unique_hash", _ascii(64), primary_key=True),
    Column("result_type", _name(), nullable=False),
    Column("flow_id", _name(), nullable=True),
    Column("flow_run_id", _name(), nullable=True),
    Column("deployment_id", Integer, nullable=True),
    Column("date_modified", _ascii(TIMESTAMP_LENGTH), nullable=False),
    Column("document", _document(), nullable=False),
    # unique_hash last in the first index: it is the order in which pages are read.
    Index("ix_result_date_modified", "collection", "date_modified", "unique_hash"),
    Index("ix_result_result_type", "collection", "result_type"),
    Index("ix_result_flow_id", "collection", "flow_id"),
    Index("ix_result_flow_run_id", "collection", "flow_run_id"),
    Index("ix_result_deployment_id", "collection", "deployment_id"),
    **_INNODB,
)

#: The custom indices of the document types, by the SHA-256 of their definition: a
#: changed definition is another index. Only a ``ready`` one answers queries.
result_index = Table(
    "result_index",
    metadata,
    Column("name", _ascii(64), primary_key=True),
    Column("result_type", _name(), nullable=False),
    Column("fields", Text, nullable=False),
    Column("is_unique", Boolean(create_constraint=False), nullable=False),
    Column("ready", Boolean(create_constraint=False), nullable=False),
    # In parentheses, because MySQL allows a default of TEXT as an expression only.
    Column("options", Text, nullable=False, server_default=text("('{}')")),
    **_INNODB,
)

#: One row per document and key that it has in a custom index. ``guard`` is the
#: document's hash, and zeros in a unique index, where a second document collides.
result_index_key = Table(
    "result_index_key",
    metadata,
    Column("collection", _name(), primary_key=True),
    Column(
        "name",
        _ascii(64),
        ForeignKey("result_index.name", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("key_hash", _ascii(64), primary_key=True),
    Column("guard", _ascii(64), primary_key=True),
    Column("unique_hash", _ascii(64), nullable=False),
    Index("ix_result_index_key_unique_hash", "collection", "unique_hash"),
    **_INNODB,
)

#: One row per blob. ``created`` is renewed when the blob is stored again, so that a
#: clean-up never takes what a writer counts on. ``encoding`` says what the chunks are:
#: the content itself (empty), or one ``zstd`` frame each.
blob = Table(
    "blob",
    metadata,
    Column("sha256", _ascii(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("created", _ascii(TIMESTAMP_LENGTH), nullable=False),
    Column("encoding", String(16), nullable=False, server_default=""),
    **_INNODB,
)

#: The bytes of a blob that was stored in one transaction: ``CHUNK_SIZE`` of its
#: content in each row but the last.
blob_chunk = Table(
    "blob_chunk",
    metadata,
    Column(
        "sha256",
        _ascii(64),
        ForeignKey("blob.sha256", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("data", _bytes(), nullable=False),
    **_INNODB,
)

#: A larger blob is stored in many transactions, under an identifier of its own, which
#: gets the blob's hash when it is complete. ``renewed`` is when bytes came last; it is
#: null when the bytes are to be removed.
blob_upload = Table(
    "blob_upload",
    metadata,
    Column("id", _ascii(64), primary_key=True),
    Column(
        "sha256",
        _ascii(64),
        ForeignKey("blob.sha256", ondelete="CASCADE"),
        nullable=True,
    ),
    Column("renewed", _ascii(TIMESTAMP_LENGTH), nullable=True),
    Index("ix_blob_upload_sha256", "sha256", unique=True),
    **_INNODB,
)

#: The bytes of uploads, as in ``blob_chunk``.
blob_upload_chunk = Table(
    "blob_upload_chunk",
    metadata,
    Column(
        "upload",
        _ascii(64),
        ForeignKey("blob_upload.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("data", _bytes(), nullable=False),
    **_INNODB,
)

#: Which document holds which blob, also by way of a part that is a blob itself. It is
#: the database that refuses a document whose blob is missing, and to remove a blob
#: that a document holds.
result_blob = Table(
    "result_blob",
    metadata,
    Column("collection", _name(), primary_key=True),
    Column("unique_hash", _ascii(64), primary_key=True),
    Column(
        "sha256",
        _ascii(64),
        ForeignKey("blob.sha256", ondelete="RESTRICT"),
        primary_key=True,
    ),
    ForeignKeyConstraint(
        ["collection", "unique_hash"],
        ["result.collection", "result.unique_hash"],
        ondelete="CASCADE",
    ),
    Index("ix_result_blob_sha256", "sha256"),
    **_INNODB,
)
