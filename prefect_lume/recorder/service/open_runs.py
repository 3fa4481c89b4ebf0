"""Flow runs of which a storage says that something of them has not ended.

A run that counts as failed since one of its tasks failed may still run in Prefect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.rows import ExecutionRow, Kind, ResultRow, Row
from prefect_lume.pipelines.status import PipelineTaskStatus

OPEN: Final = (PipelineTaskStatus.PENDING, PipelineTaskStatus.RUNNING)
#: Prefect's types of the states of flow runs that may still do something.
_ACTIVE_TYPES: Final = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
_TOGETHER: Final = 200


@dataclass
class OpenRun:
    """A flow run, and what there is of it in a storage.

    Attributes:
        flow_run_id: Prefect's id of the flow run.
        execution: The pipeline execution, if the flow run is one.
        result: The pipeline result that it works on; of a run over objects there is
            one for each flow run below.
    """

    flow_run_id: str
    execution: ExecutionRow | None = None
    result: ResultRow | None = None

    @property
    def row(self) -> Row:
        """The object whose states are the flow run's."""
        row = self.execution or self.result
        if row is None:
            raise RuntimeError(f"Nothing is known of flow run {self.flow_run_id}.")
        return row

    @property
    def last_change(self) -> datetime | None:
        """When it, or something below it, last changed by itself."""
        rows = [row for row in (self.execution, self.result) if row]
        times = [time for row in rows for time in (row.last_at, row.state_at) if time]
        return max(times, default=None)

    @property
    def last_seen(self) -> datetime | None:
        """The last sign of life of its process that the storage has."""
        return self.execution.last_seen if self.execution else None

    @property
    def parent_run_id(self) -> str | None:
        """The flow run above it."""
        if self.execution:
            return self.execution.parent_run_id
        return self.result.run_id if self.result else None


def open_runs(storage: PipelineStorage) -> dict[str, OpenRun]:
    """Return the flow runs of which an object has not ended, by their ids."""
    found: dict[str, OpenRun] = {}
    for where in ({"status": list(OPEN)}, {"state_type": list(_ACTIVE_TYPES)}):
        for row in storage.iterate(Kind.EXECUTION, where):
            found[row.id] = OpenRun(row.id, execution=cast("ExecutionRow", row))
    for where in ({"status": list(OPEN)}, {"state_type": list(_ACTIVE_TYPES)}):
        for row in storage.iterate(Kind.RESULT, where):
            _add(found, cast("ResultRow", row))
    for row in _results_with_open_tasks(storage):
        _add(found, row)
    # What ended may have tasks that did not.
    missing = [
        id_
        for id_, run in found.items()
        if run.execution is None and run.result and run.result.run_id == id_
    ]
    for row in _by_id(storage, Kind.EXECUTION, missing):
        found[row.id].execution = cast("ExecutionRow", row)
    return found


def _add(found: dict[str, OpenRun], row: ResultRow) -> None:
    # One without a flow run waits for one that the run above it would have made.
    if row.flow_run_id is not None:
        run = found.setdefault(row.flow_run_id, OpenRun(row.flow_run_id))
        run.result = row


def _results_with_open_tasks(storage: PipelineStorage) -> Iterator[ResultRow]:
    counts = storage.tally(Kind.TASK_RESULT, {"status": list(OPEN)})
    parents = {count.parent_id for count in counts if count.parent_id}
    results = {
        row.parent_id
        for row in _by_id(storage, Kind.TASK_EXECUTION, parents)
        if row.parent_id
    }
    for row in _by_id(storage, Kind.RESULT, results):
        yield cast("ResultRow", row)


def _by_id(storage: PipelineStorage, kind: Kind, ids: Collection[str]) -> Iterator[Row]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), _TOGETHER):
        yield from storage.find(kind, {"id": ordered[start : start + _TOGETHER]})
