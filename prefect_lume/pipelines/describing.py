"""Rows of a pipelines storage in few words, for tables, artifacts and messages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from prefect_lume.pipelines.rows import ResultRow, Row
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.pipelines.tally import Counts

_S = PipelineTaskStatus
#: Prefect's types of states after which others come.
_ACTIVE: Final = {"SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"}
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400


def counts_text(counts: Counts) -> str:
    """Return counts in words, those that are zero left out.

    Example:
        >>> counts_text(Counts({_S.DONE: 487, _S.RUNTIME_ERROR: 3, _S.RUNNING: 10}))
        '487 done, 3 failed, 10 running'
    """
    cancelled = counts.by_status.get(_S.CANCELLED, 0)
    parts = {
        "done": counts.done,
        "failed": counts.failed - cancelled,
        "cancelled": cancelled,
        "running": counts.running,
        "waiting": counts.pending,
        "superseded": counts.superseded,
    }
    return ", ".join(f"{number} {name}" for name, number in parts.items() if number)


def seconds_of(row: Row, now: datetime | None = None) -> float | None:
    """Return how long something ran, or has been running until now.

    What failed by its first failure ran until the last change of anything below it.
    """
    if row.started is None:
        return None
    end = row.completed
    if is_active(row):
        end = now or datetime.now(UTC)
    elif end is not None and row.last_at is not None:
        # A first failure ends what is above; what ran beside it went on.
        end = max(end, row.last_at)
    return max(0.0, (end - row.started).total_seconds()) if end else None


def is_active(row: Row) -> bool:
    """Whether more is to be expected of a row, failed or not."""
    if row.superseded:
        return False
    if not row.status.is_final:
        return True
    return isinstance(row, ResultRow) and row.state_type in _ACTIVE and not row.closed


def duration_text(seconds: float | None) -> str:
    """Return a duration as a person would say it.

    Example:
        >>> [duration_text(s) for s in (None, 0.0123, 3.21, 75, 7300, 200000)]
        ['', '12 ms', '3.2 s', '1 min 15 s', '2 h 01 min', '2 d 07 h']
    """
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02d} h"
