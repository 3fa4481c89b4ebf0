"""The digest: how often each pipeline ran, how well, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from prefect_lume.pipelines.rows import ResultRow
from prefect_lume.pipelines.status import PipelineTaskStatus


@dataclass(frozen=True, slots=True)
class PipelineDigestItem:
    """How one pipeline did, over all of its pipeline results.

    Attributes:
        total_runs: How many ended, well or not.
        total_success: How many are ``DONE``.
        total_failure: How many ended otherwise.
        total_open: How many have not ended yet.
        last_ran: When the last of them started.
        average_runtime: Seconds from start to end, on average over those that have
            both; nothing if none has.
    """

    total_runs: int = 0
    total_success: int = 0
    total_failure: int = 0
    total_open: int = 0
    last_ran: datetime | None = None
    average_runtime: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the item as JSON, times in ISO 8601."""
        last = self.last_ran
        return {**asdict(self), "last_ran": last.isoformat() if last else None}


#: Pipelines' ids to how they did.
PipelineDigest = dict[str, PipelineDigestItem]


def runtime(row: ResultRow) -> float | None:
    """Return the seconds from start to end of a pipeline result, if it has both."""
    if row.started is None or row.completed is None:
        return None
    return (row.completed - row.started).total_seconds()


def digest_of(rows: Iterable[ResultRow]) -> PipelineDigest:
    """Count pipeline results by pipeline, in the order of the pipelines' ids."""
    by_pipeline: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_pipeline.setdefault(row.pipeline_id, []).append(row)
    return {name: _item(by_pipeline[name]) for name in sorted(by_pipeline)}


def _item(rows: list[ResultRow]) -> PipelineDigestItem:
    success = sum(row.status is PipelineTaskStatus.DONE for row in rows)
    failure = sum(row.status.is_failed for row in rows)
    runtimes = [seconds for row in rows if (seconds := runtime(row)) is not None]
    return PipelineDigestItem(
        total_runs=success + failure,
        total_success=success,
        total_failure=failure,
        total_open=len(rows) - success - failure,
        last_ran=max((row.started for row in rows if row.started), default=None),
        average_runtime=sum(runtimes) / len(runtimes) if runtimes else None,
    )
