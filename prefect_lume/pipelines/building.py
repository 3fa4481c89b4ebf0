"""Making the objects of a run before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from prefect_lume.errors import ConflictError
from prefect_lume.pipelines.jsonable import jsonable
from prefect_lume.pipelines.rows import (
    ExecutionRow,
    Kind,
    ResultRow,
    Row,
    TaskExecutionRow,
    TaskResultRow,
    result_id,
    task_execution_id,
    task_result_id,
)
from prefect_lume.pipelines.session import PipelineSession

_WAITING: Final = {
    Kind.EXECUTION: "The pipeline is waiting to start.",
    Kind.RESULT: "The pipeline is waiting to start.",
    Kind.TASK_EXECUTION: "The task is waiting to start.",
    Kind.TASK_RESULT: "The task is waiting to start.",
}

Plan = dict[Kind, list[Row]]


def plan(
    pipeline: Any,
    run_id: str,
    runner: Any,
    reporter: Any,
    input_data: Mapping[str, Any] | None,
    *,
    build_all: bool,
) -> Plan:
    """Return the rows that a run of a pipeline starts with."""
    now = datetime.now(UTC)
    objects = pipeline.get_iterator() if build_all else None
    execution = ExecutionRow(
        id=run_id,
        run_id=run_id,
        pipeline_id=pipeline.id,
        input_data=jsonable(dict(input_data or {})),
        runner=path_of(runner),
        is_mapped=objects is not None,
        closed=build_all,
    )
    rows: Plan = {kind: [] for kind in Kind}
    rows[Kind.EXECUTION].append(execution)
    if build_all:
        for index, obj in enumerate([None] if objects is None else objects):
            result = ResultRow(
                id=result_id(run_id, index),
                run_id=run_id,
                parent_id=run_id,
                pipeline_id=pipeline.id,
                index=index,
                pipeline_object=(
                    None
                    if objects is None
                    else pipeline.get_serializable_pipeline_object(obj)
                ),
                runner=path_of(runner),
                reporter=path_of(reporter),
                closed=True,
            )
            rows[Kind.RESULT].append(result)
            for task in _tasks(pipeline):
                _plan_task(rows, task, result)
    for kind, made in rows.items():
        for row in made:
            row.created, row.message = now, _WAITING[kind]
    return rows


def _tasks(pipeline: Any) -> Iterable[Any]:
    tasks = pipeline.tasks or ()
    return tasks.values() if isinstance(tasks, Mapping) else tasks


def _plan_task(rows: Plan, task: Any, result: ResultRow) -> None:
    task_id = task.task_id or task.pipeline_task
    execution = TaskExecutionRow(
        id=task_execution_id(result.id, task_id),
        run_id=result.run_id,
        parent_id=result.id,
        task_id=task_id,
        pipeline_task=task.pipeline_task,
        config=jsonable(dict(task.config or {})),
        closed=True,
    )
    rows[Kind.TASK_EXECUTION].append(execution)
    objects = task.get_iterator()
    for index, obj in enumerate([None] if objects is None else objects):
        mapped = objects is not None
        leaf = TaskResultRow(
            id=task_result_id(execution.id, index),
            run_id=result.run_id,
            parent_id=execution.id,
            pipeline_result_id=result.id,
            name=task.pipeline_task,
            index=index if mapped else None,
            task_object=task.get_serializable_task_object(obj) if mapped else None,
        )
        rows[Kind.TASK_RESULT].append(leaf)


def build(session: PipelineSession, rows: Plan) -> None:
    """Store the rows of a new run.

    Raises:
        ConflictError: There is a run of this id already.
    """
    execution = rows[Kind.EXECUTION][0]
    session.lock([execution.id])
    if session.get(Kind.EXECUTION, [execution.id]):
        raise ConflictError(
            f"There is a run {execution.id!r} already: each run of a pipeline has an "
            f"id of its own."
        )
    for kind, made in rows.items():
        session.put(kind, made)
    for row in rows[Kind.RESULT]:
        if isinstance(row, ResultRow):
            session.count(None, row)


def path_of(thing: Any) -> str | None:
    """Return the Python path of an object's class; a text as it is.

    Example:
        >>> path_of("process"), path_of(None), path_of(Kind.RESULT)
        ('process', None, 'prefect_lume.pipelines.rows.Kind')
    """
    if thing is None or type(thing) is str:
        return thing
    kind = thing if isinstance(thing, type) else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"
