"""By which fields and times the rows of a storage can be found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from prefect_lume.errors import InvalidInputError, name_list
from prefect_lume.pipelines.rows import Kind

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
        }
    ),
    Kind.RESULT: frozenset(
        {"id", "run_id", "parent_id", "status", "pipeline_id", "flow_run_id"}
    ),
    Kind.TASK_EXECUTION: frozenset(
        {"id", "run_id", "parent_id", "status", "task_id", "pipeline_task"}
    ),
    Kind.TASK_RESULT: frozenset(
        {"id", "run_id", "parent_id", "status", "pipeline_result_id"}
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
