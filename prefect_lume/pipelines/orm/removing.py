"""Removing runs with all that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from prefect_lume.pipelines.orm.columns import is_id
from prefect_lume.pipelines.orm.counting import Counting
from prefect_lume.pipelines.orm.statements import chunks
from prefect_lume.pipelines.orm.tables import OF_RUNS, pipeline_result, pipeline_run


def remove(connection: Connection, run_ids: Sequence[str]) -> None:
    """Remove runs from every table, and take them off the digest."""
    counting = Counting()
    for ids in chunks(sorted({id_ for id_ in run_ids if is_id(id_)})):
        locked = (
            select(pipeline_run.c.run_id)
            .where(pipeline_run.c.run_id.in_(ids))
            .order_by(pipeline_run.c.run_id)
            .with_for_update()
        )
        there = list(connection.scalars(locked))
        if not there:
            continue
        _uncount(connection, there, counting)
        for table in OF_RUNS:
            connection.execute(delete(table).where(table.c.run_id.in_(there)))
    counting.store(connection)


def _uncount(connection: Connection, run_ids: list[str], counting: Counting) -> None:
    columns = pipeline_result.c
    statement = select(
        columns.pipeline_id, columns.status, columns.started, columns.completed
    ).where(columns.run_id.in_(run_ids))
    for row in connection.execute(statement):
        counting.add(-1, *row)
