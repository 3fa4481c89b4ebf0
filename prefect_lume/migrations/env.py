"""Alembic's environment: runs the revisions on the connection that it is given."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from prefect_lume.migrations import VERSION_TABLE
from prefect_lume.migrations._whole_tables import create_whole_tables

settings = context.config.attributes
if context.is_offline_mode():
    context.configure(
        dialect_name=settings["dialect"],
        literal_binds=True,
        version_table=VERSION_TABLE,
    )
else:
    # The caller has begun the transaction and holds the lock.
    connection: Connection = settings["connection"]
    context.configure(
        connection=connection,
        version_table=VERSION_TABLE,
        render_as_batch=connection.dialect.name == "sqlite",
    )

if context.get_context().dialect.name in {"mysql", "mariadb"}:
    create_whole_tables(context.get_context().impl)

with context.begin_transaction():
    context.run_migrations()
