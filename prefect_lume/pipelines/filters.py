"""By which fields and times the rows of a storage can be found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from prefect_lume.errors import InvalidInputError, name_list
from prefect_lume.pipelines.rows import Kind, Row

#: Fields by which rows of each kind can be found.
FILTERS: Final[dict[Kind, frozenset[str]]] = {
    Kind.EXECUTION: frozenset(
        {
            "id",
            "status",
            "pipeline_id",
            "project_name",
            "deployment_id",
            "flow_id",
            "parent_run_id",
            "state_type",
        }
    ),
    Kind.RESULT: frozenset(
        {
            "id",
            "run_id",
            "parent_id",
            "status",
            "pipeline_id",
            "flow_run_id",
            "state_type",
        }
    ),
    Kind.TASK_EXECUTION: frozenset(
        {
            "id",
            "run_id",
            "parent_id",
            "status",
            "superseded",
            "task_id",
            "pipeline_task",
        }
    ),
    Kind.TASK_RESULT: frozenset(
        {"id", "run_id", "parent_id", "status", "superseded", "pipeline_result_id"}
    ),
}


def check_where(kind: Kind, where: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Return the conditions with a list of values each.

    Raises:
        InvalidInputError: There is no such filter for the kind.
    """
    given = where or {}
    unknown = set(given) - FILTERS[kind]
    if unknown:
        raise InvalidInputError(
            f"A {kind.replace('_', ' ')} cannot be found by {name_list(unknown)}: it "
            f"can by {name_list(FILTERS[kind])}."
        )
    return {
        name: list(value) if isinstance(value, list | tuple | set) else [value]
        for name, value in given.items()
    }


def check_time(name: str, value: datetime | None) -> None:
    """Check that a time has a zone.

    Raises:
        InvalidInputError: It has none.
    """
    if value is not None and value.tzinfo is None:
        raise InvalidInputError(
            f"{name!r} is {value.isoformat()}, a time without a zone: give an aware "
            f"one, such as datetime.now(timezone.utc)."
        )


def select(
    rows: Iterable[Row],
    where: Mapping[str, list[Any]],
    *,
    since: datetime | None = None,
    before: datetime | None = None,
    limit: int | None = None,
    skip: int = 0,
    newest_first: bool = False,
) -> list[Row]:
    """Return those of some rows that match, in their order.

    It does what :meth:`PipelineStorage.find` has to do, for a storage that can only go
    through all of its rows of a kind.

    Args:
        rows: The rows, all of one kind.
        where: The conditions, as :func:`check_where` returns them.
        since: As in ``find``.
        before: As in ``find``.
        limit: As in ``find``.
        skip: As in ``find``.
        newest_first: As in ``find``.

    Raises:
        InvalidInputError: A time has no zone.
    """
    check_time("since", since)
    check_time("before", before)
    found = [
        row
        for row in rows
        if all(getattr(row, name) in among for name, among in where.items())
        and _is_between(row, since, before)
    ]
    found.sort(key=lambda row: (_place(row), row.id))
    found.sort(key=_created, reverse=newest_first)
    return found[skip : None if limit is None else skip + limit]


def _is_between(row: Row, since: datetime | None, before: datetime | None) -> bool:
    when = row.started or row.created
    if since is not None and (when is None or when < since):
        return False
    return before is None or (when is not None and when < before)


def _created(row: Row) -> float:
    return row.created.timestamp() if row.created else 0.0


def _place(row: Row) -> int:
    index = getattr(row, "index", None)
    return -1 if index is None else int(index)
