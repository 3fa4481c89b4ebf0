"""What lies below objects, counted by the database.

The same as :func:`prefect_lume.pipelines.rules.summarise`, without reading the rows.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, case, false, func, select, tuple_

from prefect_lume.pipelines.orm.statements import chunks
from prefect_lume.pipelines.rules import Below, Failure
from prefect_lume.pipelines.status import PipelineTaskStatus

_S = PipelineTaskStatus
_FAILED: Final = tuple(sorted(_S.failed_statuses()))


def summarise(
    connection: Connection, table: Table, parent_ids: Collection[str]
) -> dict[str, Below]:
    """Return what lies directly below each of these objects, if anything does."""
    found: dict[str, Below] = {}
    for ids in chunks(parent_ids):
        found.update(_summarise(connection, table, ids))
    return found


def _summarise(
    connection: Connection, table: Table, ids: list[str]
) -> dict[str, Below]:
    columns = table.c
    failed_at = case((columns.status.in_(_FAILED), columns.completed))
    statement = (
        select(
            columns.parent_id,
            func.count(),
            func.count(case((columns.status == _S.PENDING, 1))),
            func.count(case((columns.status == _S.DONE, 1))),
            func.min(columns.started),
            func.max(columns.completed),
            func.max(columns.last_at),
            func.min(failed_at),
        )
        .where(columns.parent_id.in_(ids), columns.superseded == false())
        .group_by(columns.parent_id)
    )
    counted = [tuple(row) for row in connection.execute(statement)]
    failed = {row[0]: row[-1] for row in counted if row[-1] is not None}
    failures = _failures(connection, table, failed)
    return {
        parent_id: Below(
            total, pending, done, started, completed, last_at, failures.get(parent_id)
        )
        for parent_id, total, pending, done, started, completed, last_at, _ in counted
    }


def _failures(
    connection: Connection, table: Table, failed: dict[str, datetime]
) -> dict[str, Failure]:
    """Return the first failure below each object, given when it was."""
    if not failed:
        return {}
    columns = table.c
    first = (
        select(func.min(columns.id))
        .where(
            tuple_(columns.parent_id, columns.completed).in_(list(failed.items())),
            columns.superseded == false(),
            columns.status.in_(_FAILED),
        )
        .group_by(columns.parent_id)
    )
    ids = list(connection.scalars(first))
    wanted: list[Any] = [
        columns.parent_id,
        columns.completed,
        columns.id,
        columns.status,
        columns.message,
    ]
    statement = select(*wanted).where(columns.id.in_(ids))
    return {row[0]: Failure(*row[1:]) for row in connection.execute(statement)}
