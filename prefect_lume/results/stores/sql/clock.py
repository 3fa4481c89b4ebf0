"""The time by the database server's clock, as the SQL store writes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, literal, literal_column

from prefect_lume.results.query.operands import time_text

_MYSQL: Final = "DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')"
_SERVER: Final = {
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "postgresql": (
        "to_char(clock_timestamp() AT TIME ZONE 'UTC', "
        '\'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')'
    ),
}


def server_time(connection: Connection) -> ColumnElement[str]:
    """Return the expression of now, in UTC, as ``YYYY-MM-DDTHH:MM:SS.ffffffZ``.

    SQLite has no server: there it is this machine's clock.
    """
    expression = _SERVER.get(connection.dialect.name)
    if expression is None:
        return literal(time_text(datetime.now(UTC)))
    return literal_column(expression)
