"""Every state change of a run, as a table in the order of time, and as JSON."""

from __future__ import annotations

from typing import Any, Final

from rich.table import Table
from rich.text import Text

from prefect_lume.cli.results._tables import cell, plain_table
from prefect_lume.cli.runs._shown import LOOKS, iso, message_text
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.rows import TaskResultRow
from prefect_lume.pipelines.tree import ExecutionTree

_TOGETHER: Final = 500
_CLOCK: Final = "%Y-%m-%d %H:%M:%S.%f"
Named = list[tuple[str, StateChange]]


def read_histories(storage: PipelineStorage, tree: ExecutionTree) -> Named:
    """Return the changes of every object that a tree lists, the oldest first.

    Args:
        storage: The storage that the tree was read from.
        tree: The execution.

    Returns:
        Pairs of the object's name and the change.
    """
    names = _names(tree)
    ids = list(names)
    found: Named = []
    for start in range(0, len(ids), _TOGETHER):
        history = storage.get_history(ids[start : start + _TOGETHER])
        for target, changes in history.items():
            found += [(names[target], change) for change in changes]
    return sorted(found, key=lambda item: (item[1].timestamp, item[1].id))


def _names(tree: ExecutionTree) -> dict[str, str]:
    names = {tree.row.id: tree.row.pipeline_id or "run"}
    for result in tree.results:
        own = f"object {result.row.index}" if tree.row.is_mapped else "run"
        names[result.row.id] = own
        prefix = f"{own} · " if tree.row.is_mapped else ""
        for task in result.tasks:
            title = f"{prefix}{task.row.pipeline_task or task.row.task_id}"
            names[task.row.id] = title
            names |= {run.id: _run_name(title, run) for run in task.runs}
    return names


def _run_name(title: str, run: TaskResultRow) -> str:
    if run.index is not None:
        return f"{title} [{run.index}]"
    return f"{title} · {run.name}" if run.name else title


def history_table(histories: Named) -> Table:
    """Return changes as a table."""
    table = plain_table("time (UTC)", "what", "status", "Prefect", "message")
    for column in table.columns[:4]:
        column.no_wrap = True
    for name, change in histories:
        colour, sign = LOOKS[change.status]
        by = change.state_name or ""
        table.add_row(
            cell(change.timestamp.strftime(_CLOCK)[:-3]),
            cell(name),
            Text(f"{sign} {change.status}", style=colour),
            cell(f"{by} (concluded)" if change.inferred else by),
            cell(message_text(change.message)),
        )
    return table


def history_json(histories: Named) -> list[dict[str, Any]]:
    """Return changes for JSON."""
    return [
        {
            "id": change.id,
            "kind": str(change.kind),
            "target": change.target,
            "name": name,
            "timestamp": iso(change.timestamp),
            "status": str(change.status),
            "state_type": change.state_type,
            "state_name": change.state_name,
            "message": change.message,
            "run_count": change.run_count,
            "inferred": change.inferred,
        }
        for name, change in histories
    ]
