"""Column types that mean the same on SQLite, MySQL, MariaDB and PostgreSQL.

Text is compared exactly: case, accents and trailing spaces count, and every Unicode
character fits. Times are UTC to the microsecond and come back aware of their zone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import CHAR, JSON, DateTime, Dialect, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

#: ``None`` in Python is NULL in the database, not the JSON word ``null``.
PLAIN_JSON = JSON(none_as_null=True)

#: A SHA-256 as 64 hexadecimal digits.
SHA256 = CHAR(64).with_variant(
    mysql.CHAR(64, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)


def exact_collation(dialect: Dialect) -> str:
    """Return the collation of a MySQL or MariaDB server that compares exactly.

    Its name differs between the two; the older ``utf8mb4_bin``, which both know,
    takes ``"a"`` and ``"a "`` for equal.
    """
    is_mariadb = getattr(dialect, "is_mariadb", False)
    return "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"


class ExactString(TypeDecorator[str]):
    """Text of a bounded number of characters, compared exactly."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of one dialect."""
        if dialect.name not in {"mysql", "mariadb"}:
            return self.impl_instance
        return dialect.type_descriptor(
            mysql.VARCHAR(
                self.length, charset="utf8mb4", collation=exact_collation(dialect)
            )
        )


class ExactText(TypeDecorator[str]):
    """Long text, compared exactly; up to 16 MiB on MySQL and MariaDB."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of one dialect."""
        if dialect.name not in {"mysql", "mariadb"}:
            return self.impl_instance
        return dialect.type_descriptor(
            mysql.MEDIUMTEXT(charset="utf8mb4", collation=exact_collation(dialect))
        )


class UTCDateTime(TypeDecorator[datetime]):
    """A point in time, stored as UTC to the microsecond."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of one dialect."""
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Turn an aware time into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,
    ) -> datetime | None:
        """Give a stored time its zone back."""
        if value is None:
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value.astimezone(UTC)
