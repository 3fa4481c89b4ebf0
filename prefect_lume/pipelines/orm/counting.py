"""The digest: counters by pipeline, kept up with every change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select

from prefect_lume.pipelines.digest import PipelineDigest, PipelineDigestItem
from prefect_lume.pipelines.orm.statements import add, chunks
from prefect_lume.pipelines.orm.tables import pipeline_digest, pipeline_result
from prefect_lume.pipelines.rows import ResultRow
from prefect_lume.pipelines.status import PipelineTaskStatus

_MICROSECOND: Final = timedelta(microseconds=1)
_COUNTERS: Final = ("success", "failure", "unfinished", "runtime", "runtimes")


@dataclass(slots=True)
class _Counters:
    success: int = 0
    failure: int = 0
    unfinished: int = 0
    runtime: int = 0
    runtimes: int = 0

    def count(
        self,
        sign: int,
        status: PipelineTaskStatus,
        started: datetime | None,
        completed: datetime | None,
    ) -> None:
        """Take in one pipeline result, or take it out again."""
        if status is PipelineTaskStatus.DONE:
            self.success += sign
        elif status.is_failed:
            self.failure += sign
        else:
            self.unfinished += sign
        if started is not None and completed is not None:
            self.runtime += sign * ((completed - started) // _MICROSECOND)
            self.runtimes += sign


class Counting:
    """Collects how a transaction changes the digest, and stores it at its end."""

    def __init__(self) -> None:
        self._by_pipeline: dict[str, _Counters] = {}

    def count(self, before: ResultRow | None, after: ResultRow | None) -> None:
        """Note that a pipeline result changed, came or went."""
        for sign, row in ((-1, before), (1, after)):
            if row is not None:
                self.add(sign, row.pipeline_id, row.status, row.started, row.completed)

    def add(
        self,
        sign: int,
        pipeline_id: str,
        status: PipelineTaskStatus,
        started: datetime | None,
        completed: datetime | None,
    ) -> None:
        """Note that a pipeline result came (1) or went (-1)."""
        counters = self._by_pipeline.setdefault(pipeline_id, _Counters())
        counters.count(sign, status, started, completed)

    def store(self, connection: Connection) -> None:
        """Add what was collected to the digest.

        It comes last in a transaction, since all runs of a pipeline change the same
        row, and in the order of the names, so that no two writers wait for each other.
        """
        changed = {
            name: values
            for name, counters in sorted(self._by_pipeline.items())
            if any(values := astuple(counters))
        }
        if not changed:
            return
        connection.execute(
            add(pipeline_digest, connection.dialect.name),
            [
                {"pipeline_id": name, **dict(zip(_COUNTERS, values, strict=True))}
                for name, values in changed.items()
            ],
        )
        _forget_empty(connection, [n for n, v in changed.items() if min(v[:3]) < 0])


def _forget_empty(connection: Connection, names: Iterable[str]) -> None:
    columns = pipeline_digest.c
    for some in chunks(list(names)):
        connection.execute(
            delete(pipeline_digest).where(
                columns.pipeline_id.in_(some),
                columns.success == 0,
                columns.failure == 0,
                columns.unfinished == 0,
            )
        )


def read(connection: Connection) -> PipelineDigest:
    """Return how each pipeline did, in the order of the pipelines' ids."""
    columns = pipeline_digest.c
    last = (
        select(func.max(pipeline_result.c.started))
        .where(pipeline_result.c.pipeline_id == columns.pipeline_id)
        .scalar_subquery()
    )
    wanted: list[Any] = [columns[name] for name in _COUNTERS]
    found = connection.execute(select(columns.pipeline_id, last, *wanted)).all()
    return {
        row[0]: _item(row[1], *row[2:])
        for row in sorted(found, key=lambda row: str(row[0]))
        if any(row[2:5])
    }


def _item(
    last_ran: datetime | None,
    success: int,
    failure: int,
    unfinished: int,
    runtime: int,
    runtimes: int,
) -> PipelineDigestItem:
    return PipelineDigestItem(
        total_runs=success + failure,
        total_success=success,
        total_failure=failure,
        total_open=unfinished,
        last_ran=last_ran,
        average_runtime=runtime / runtimes / 1e6 if runtimes else None,
    )
