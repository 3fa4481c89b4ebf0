"""Column types of what people and programs name: taken as it is, cut, never refused.

A recorder must not stand still because a task's message is too long for a column or
holds a character that a database cannot store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import CHAR, Dialect, String
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from prefect_lume.errors import InvalidInputError, clip
from prefect_lume.pipelines.jsonable import is_storable, storable_text
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.storage.columns import ExactString, ExactText

#: Characters of an id. Prefect's have 36.
ID_LENGTH: Final = 64
#: Characters of a message: 4 MB of UTF-8 at most, which every server takes.
MESSAGE_LENGTH: Final = 1_000_000

_MYSQL: Final = ("mysql", "mariadb")


def ascii_text(length: int) -> TypeEngine[str]:
    """Return a type for words of this code, in ASCII."""
    return (
        String(length)
        .with_variant(
            mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), *_MYSQL
        )
        .with_variant(String(length, collation="C"), "postgresql")
    )


def is_id(value: object) -> bool:
    """Tell whether a value can be the id of a row.

    Example:
        >>> is_id("run-1"), is_id("x" * 65), is_id(None)
        (True, False, False)
    """
    return isinstance(value, str) and len(value) <= ID_LENGTH and is_storable(value)


def check_ids(ids: Iterable[str | None]) -> None:
    """Check that ids can be stored.

    Raises:
        InvalidInputError: One is too long, or holds what no database keeps.
    """
    known = [value for value in ids if value is not None]
    if _are_ids(known):
        return
    for value in known:
        if not is_id(value):
            raise InvalidInputError(
                f"{clip(value, 80)!r} cannot be an id here: ids have at most "
                f"{ID_LENGTH} characters, none of them U+0000."
            )


def _are_ids(values: list[str]) -> bool:
    """Tell whether all of many values can be ids, by one look at them together."""
    try:
        return max(map(len, values), default=0) <= ID_LENGTH and is_storable(
            "".join(values)
        )
    except TypeError:
        return False


def fitting(text: str, length: int) -> str:
    """Return a text as every database can store it, cut to ``length`` characters.

    Example:
        >>> fitting("too long", 4)
        'too…'
    """
    if len(text) > length:
        text = text[: length - 1] + "…"
    if is_storable(text):
        return text
    return fitting(storable_text(text), length)


class Id(ExactString):
    """An id of at most 64 characters; sorts by code, as texts do in Python."""

    cache_ok = True

    def __init__(self, length: int = ID_LENGTH) -> None:
        super().__init__(length)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of one dialect."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(String(self.length, collation="C"))
        return super().load_dialect_impl(dialect)


class Name(ExactString):
    """A name of at most 255 characters; a longer one is cut."""

    cache_ok = True

    def __init__(self, length: int = 255) -> None:
        super().__init__(length)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Make a name fit."""
        del dialect
        return None if value is None else fitting(value, self.length)


class Message(ExactText):
    """What was said with a change; cut far beyond what people read."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Make a message fit."""
        del dialect
        return None if value is None else fitting(value, MESSAGE_LENGTH)


class JsonText(TypeDecorator[Any]):
    """JSON data as ASCII text, which no database alters; nothing is NULL."""

    impl = ExactText
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Write data as text."""
        del dialect
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read data from text."""
        del dialect
        return None if value is None else json.loads(value)


class Status(TypeDecorator[PipelineTaskStatus]):
    """A status by its name."""

    impl = CHAR
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(16)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of one dialect."""
        return dialect.type_descriptor(ascii_text(16).dialect_impl(dialect))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Take a status, or its name."""
        del dialect
        return None if value is None else str(value)

    def process_result_value(
        self, value: str | None, dialect: Dialect
    ) -> PipelineTaskStatus | None:
        """Return the status of a name."""
        del dialect
        return None if value is None else _STATUSES[value]


_STATUSES: Final = {status.value: status for status in PipelineTaskStatus}
