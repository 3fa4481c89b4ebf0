"""Facts to rows: what becomes known fills in what was not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from prefect_lume.pipelines.changes import FlowRunFacts, TaskRunFacts
from prefect_lume.pipelines.jsonable import storable
from prefect_lume.pipelines.rows import (
    ExecutionRow,
    ResultRow,
    Row,
    TaskExecutionRow,
    TaskResultRow,
    result_id,
    task_execution_id,
)


def only_result(run_id: str) -> str:
    """Return the id of the one pipeline result of a run without objects."""
    return result_id(run_id, 0)


def results_of(run: FlowRunFacts) -> list[str]:
    """Return the id of the pipeline result that a flow run works on, if it does."""
    if run.index is not None:
        return [result_id(run.run_id, run.index)]
    return [] if run.is_mapped else [only_result(run.run_id)]


def execution_of(task: TaskRunFacts) -> str:
    """Return the id of the task execution that a task run belongs to."""
    return task_execution_id(task.pipeline_result_id, task.task_id)


def merge_execution(known: Row | None, run: FlowRunFacts) -> ExecutionRow:
    """Return the execution's row with what is now known of it."""
    row = known if isinstance(known, ExecutionRow) else None
    row = row or ExecutionRow(id=run.run_id, run_id=run.run_id)
    if run.last_seen and (row.last_seen is None or run.last_seen > row.last_seen):
        row.last_seen = run.last_seen
    row.pipeline_id = row.pipeline_id or run.pipeline_id or ""
    if run.is_object:
        # Of the run over all objects, the run on one of them knows whose code it is.
        row.is_mapped = True
        row.project_name = row.project_name or run.project_name
        row.deployment_id = row.deployment_id or run.deployment_id
        return row
    row.is_mapped = row.is_mapped or run.is_mapped
    row.run_name = _name(row.run_name, run.run_name, is_named=run.is_named)
    row.input_data = row.input_data or storable(run.input_data or {})
    row.flow_id = row.flow_id or run.flow_id
    row.project_name = row.project_name or run.project_name
    row.deployment_id = row.deployment_id or run.deployment_id
    row.prefect_deployment_id = row.prefect_deployment_id or run.prefect_deployment_id
    row.parent_run_id = row.parent_run_id or run.parent_run_id
    row.runner = row.runner or run.runner
    row.created = _first(row.created, run.created)
    return row


def merge_result(known: Row | None, id_: str, run: FlowRunFacts) -> ResultRow:
    """Return the pipeline result's row with what is now known of it."""
    row = known if isinstance(known, ResultRow) else None
    row = row or ResultRow(id=id_, run_id=run.run_id, parent_id=run.run_id)
    row.pipeline_id = row.pipeline_id or run.pipeline_id or ""
    row.index = run.index or 0
    if row.pipeline_object is None:
        row.pipeline_object = storable(run.pipeline_object)
    if run.flow_run_id == row.flow_run_id:
        row.flow_run_at = run.created or row.flow_run_at
    elif _is_later(run, row):
        row.flow_run_id, row.flow_run_at = run.flow_run_id, run.created
    row.runner = row.runner or run.runner
    row.reporter = row.reporter or run.reporter
    row.created = _first(row.created, run.created)
    return row


def merge_task_execution(
    known: Row | None, id_: str, task: TaskRunFacts
) -> TaskExecutionRow:
    """Return the task execution's row with what is now known of it."""
    row = known if isinstance(known, TaskExecutionRow) else None
    row = row or TaskExecutionRow(
        id=id_, run_id=task.run_id, parent_id=task.pipeline_result_id
    )
    row.task_id = row.task_id or task.task_id
    row.pipeline_task = _task_name(row.pipeline_task, task.pipeline_task, row.task_id)
    row.created = _first(row.created, task.created)
    return row


def merge_task_result(known: Row | None, id_: str, task: TaskRunFacts) -> TaskResultRow:
    """Return the task result's row with what is now known of it."""
    row = known if isinstance(known, TaskResultRow) else None
    row = row or TaskResultRow(id=task.task_run_id, run_id=task.run_id, parent_id=id_)
    row.pipeline_result_id = task.pipeline_result_id
    row.name = _name(row.name, task.name, is_named=task.is_named)
    if row.index is None:
        row.index = task.index
    if row.task_object is None:
        row.task_object = storable(task.task_object)
    row.created = _first(row.created, task.created)
    return row


def _first(known: datetime | None, told: datetime | None) -> datetime | None:
    if known is None or told is None:
        return known or told
    return min(known, told)


def _name(known: str, told: str | None, *, is_named: bool) -> str:
    """Return the name that a run keeps, or the one it has until it has that."""
    return (told or known) if is_named else (known or told or "")


def _task_name(known: str, told: str, task_id: str) -> str:
    """Return the name to show: rather one that a person gave than the function's.

    Which of several is told first must not matter.
    """
    return min(known, told, key=lambda name: (not name, name == task_id, name))


def _is_later(run: FlowRunFacts, row: ResultRow) -> bool:
    """Tell whether a flow run is later than the one known; any is, if none is known."""
    if row.flow_run_id is None:
        return True
    told, known = run.created or _NEVER, row.flow_run_at or _NEVER
    return (told, run.flow_run_id) > (known, row.flow_run_id)


_NEVER: Final = datetime.min.replace(tzinfo=UTC)
