"""How rows of a pipelines storage look on a terminal, and in JSON."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any, Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from prefect_lume.errors import clip
from prefect_lume.pipelines.describing import seconds_of
from prefect_lume.pipelines.rows import Row
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.pipelines.tally import Counts
from prefect_lume.results.describing import one_line

_S = PipelineTaskStatus
#: Status → (colour, sign); the sign tells where colours do not.
LOOKS: Final = {
    _S.PENDING: ("bright_black", "○"),
    _S.RUNNING: ("cyan", "●"),
    _S.DONE: ("green", "✓"),
    _S.CONFIG_ERROR: ("magenta", "✗"),
    _S.VALIDATION_ERROR: ("magenta", "✗"),
    _S.RUNTIME_ERROR: ("red", "✗"),
    _S.CANCELLED: ("yellow", "⊘"),
}
#: Names of Prefect's states that say no more than the status does.
_SAME: Final = {
    _S.PENDING: {"Pending", "Scheduled"},
    _S.RUNNING: {"Running"},
    _S.DONE: {"Completed"},
    _S.CONFIG_ERROR: {"Failed"},
    _S.VALIDATION_ERROR: {"Failed"},
    _S.RUNTIME_ERROR: {"Failed"},
    _S.CANCELLED: {"Cancelled"},
}
#: Columns between columns, and the least that a column is cut to.
_GAP: Final = 2
_LEAST: Final = 8
#: So many digits of a run's id are shown where its beginning will do.
SHORT: Final = 8


def status_text(row: Row, *, brief: bool = False) -> Text:
    """Return a row's status with its sign, and Prefect's name if that says more.

    Args:
        row: The row.
        brief: Leave Prefect's name out.
    """
    colour, sign = LOOKS[row.status]
    text = Text(f"{sign} {row.status}", style=colour)
    if not brief and row.state_name and row.state_name not in _SAME[row.status]:
        text.append(f" ({one_line(clip(row.state_name, 30))})", style="dim")
    return text


def brief_counts(counts: Counts) -> Text:
    """Return how many are done, failed and open, with the signs of statuses."""
    text = Text()
    numbers = {
        _S.DONE: counts.done,
        _S.RUNTIME_ERROR: counts.failed,
        _S.RUNNING: counts.open,
    }
    for status, number in numbers.items():
        colour, sign = LOOKS[status]
        if number or status is _S.DONE:
            text.append(f"{' ' if text else ''}{number}{sign}", style=colour)
    return text


def counts_json(counts: Counts) -> dict[str, int]:
    """Return counts for JSON: each status, and how many are superseded."""
    by_status = {str(status): counts.by_status.get(status, 0) for status in _S}
    return {**by_status, "superseded": counts.superseded, "total": counts.total}


def time_text(moment: datetime | None) -> str:
    """Return a time in UTC, to the second."""
    if moment is None:
        return ""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso(moment: datetime | None) -> str | None:
    """Return a time in ISO 8601 with its zone, or nothing."""
    return moment.astimezone(UTC).isoformat() if moment else None


def row_json(row: Row) -> dict[str, Any]:
    """Return all that a row says, for JSON; times in ISO 8601, duration in seconds."""
    found = {
        item.name: getattr(row, item.name)
        for item in dataclasses.fields(row)
        if item.name not in {"closed", "last_at"}
    }
    for name, value in found.items():
        if isinstance(value, datetime):
            found[name] = iso(value)
    return {**found, "seconds": seconds_of(row)}


def message_text(message: str, limit: int = 200) -> str:
    """Return the first line of a message that says something, clipped."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return one_line(clip(lines[0], limit)) if lines else ""


def pin(table: Table, width: int, *flexible: str) -> None:
    """Let only some columns of a filled table give way where there is no room.

    Args:
        table: A table of texts.
        width: How wide it may be.
        *flexible: The headers of columns that are cut, the longest first.
    """
    needs = [
        max(cell_len(str(text)) for text in (column.header, *column.cells))
        for column in table.columns
    ]
    giving = [n for n, c in enumerate(table.columns) if str(c.header) in flexible]
    excess = sum(needs) + _GAP * (len(needs) - 1) - width
    for _ in range(excess):
        widest = max(giving, key=needs.__getitem__)
        if needs[widest] <= _LEAST:
            break
        needs[widest] -= 1
    for column, need in zip(table.columns, needs, strict=True):
        column.no_wrap, column.overflow, column.width = True, "ellipsis", need
