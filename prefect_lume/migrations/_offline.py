"""The SQL of revisions, as text: for a person or another program to run."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from typing import Any, Final

from alembic import command

#: What ends a statement in Alembic's output. No statement of ours holds it.
_END: Final = ";\n"
_INDEX: Final = re.compile(r"CREATE (UNIQUE )?INDEX ")
_DROPPED: Final = re.compile(r"^DROP TABLE (?:IF EXISTS )?(\w+)", re.MULTILINE)


def sql(config: Any, buffer: io.StringIO, start: str | None, end: str) -> str:
    """Return the SQL that leads from one revision to another one.

    Args:
        config: Alembic's, with the dialect's name, writing into ``buffer``.
        buffer: Where Alembic writes.
        start: The revision from which it starts; ``None``: an empty database.
        end: The revision to reach, older or newer, or ``"base"``.
    """
    if end == "base" or (start is not None and end < start):
        command.downgrade(config, f"{start}:{end}", sql=True)
    else:
        command.upgrade(config, end if start is None else f"{start}:{end}", sql=True)
    return _END.join(_in_order(buffer.getvalue().split(_END)))


def _in_order(statements: list[str]) -> Iterator[str]:
    # The indices of a table are a set: their order would differ from run to run.
    def is_index(statement: str) -> bool:
        return _INDEX.match(statement.lstrip()) is not None

    tidy = ("\n".join(map(str.rstrip, item.split("\n"))) for item in statements)
    for are_indices, group in itertools.groupby(tidy, key=is_index):
        run = list(group)
        yield from sorted(run) if are_indices else run


def dropped(script: str) -> list[str]:
    r"""Return the tables that a script drops, in alphabetical order.

    Example:
        >>> dropped("DROP INDEX i;\n\nDROP TABLE IF EXISTS flow;\n")
        ['flow']
    """
    return sorted(set(_DROPPED.findall(script)))
