"""A run as it goes: redrawn on a terminal, line by line elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live

from prefect_lume.cli.runs._drawing import draw
from prefect_lume.cli.runs._shown import LOOKS, counts_json, iso, message_text
from prefect_lume.errors import StorageError
from prefect_lume.pipelines.describing import counts_text, is_active
from prefect_lume.pipelines.rows import Row, TaskExecutionRow
from prefect_lume.pipelines.tally import NO_COUNTS, Counts
from prefect_lume.pipelines.tree import ExecutionTree
from prefect_lume.results.describing import one_line

_EVERY: Final = 1.0
#: Seconds for which the storage may be away before the command gives up.
_PATIENCE: Final = 60.0
Read = Callable[[], ExecutionTree]


def is_over(tree: ExecutionTree) -> bool:
    """Tell whether nothing more is to be expected of a run."""
    if not tree.row.status.is_final or tree.counts.open:
        return False
    return not any(is_active(result.row) for result in tree.results)


def follow_live(console: Console, read: Read) -> ExecutionTree:
    """Redraw a run on a terminal each second until it is over.

    Returns:
        The run as it was last.
    """
    tree = read()
    with Live(
        draw(tree), console=console, refresh_per_second=4, vertical_overflow="ellipsis"
    ) as live:
        for latest in _trees(read, tree):
            tree = latest
            live.update(draw(tree))
    return tree


def follow_lines(read: Read, *, as_json: bool) -> ExecutionTree:
    """Print a line for each change of a run until it is over.

    Args:
        read: Reads the run.
        as_json: Print each line as a JSON object.

    Returns:
        The run as it was last.
    """
    known: dict[str, tuple[Any, ...]] = {}
    tree = read()
    for latest in _trees(read, tree):
        tree = latest
        for name, row, counts in _watched(tree):
            state = (row.status, row.state_name, row.superseded, counts)
            if known.get(row.id) != state:
                known[row.id] = state
                line = _as_json if as_json else _as_line
                click.echo(line(name, row, counts))
    return tree


def _trees(read: Read, tree: ExecutionTree) -> Iterator[ExecutionTree]:
    yield tree
    lost: float | None = None
    while not is_over(tree):
        time.sleep(_EVERY)
        try:
            tree = read()
        except StorageError:
            # A database that is restarted comes back.
            lost = lost or time.monotonic()
            if time.monotonic() - lost > _PATIENCE:
                raise
            continue
        lost = None
        yield tree


def _watched(tree: ExecutionTree) -> Iterator[tuple[str, Row, Counts]]:
    """Yield what gets lines: run, objects, tasks, and task runs that are listed."""
    yield tree.row.pipeline_id or "run", tree.row, NO_COUNTS
    for result in tree.results:
        name = f"object {result.row.index}"
        prefix = f"{name} · " if tree.row.is_mapped else ""
        if tree.row.is_mapped:
            yield name, result.row, NO_COUNTS
        for task in result.tasks:
            title = f"{prefix}{task.row.pipeline_task or task.row.task_id}"
            yield title, task.row, task.counts
            for run in task.runs:
                place = f"[{run.index}]" if run.index is not None else run.name
                if run.status.is_failed:
                    yield f"{title} {place}", run, NO_COUNTS


def _as_line(name: str, row: Row, counts: Counts) -> str:
    when = row.completed or row.state_at or row.started or row.created
    clock = when.strftime("%H:%M:%S") if when else "--:--:--"
    about = counts_text(counts) if isinstance(row, TaskExecutionRow) else ""
    told = message_text(row.message) if row.status.is_failed or not about else ""
    marks = " superseded" if row.superseded else ""
    parts = [clock, one_line(name), f"{LOOKS[row.status][1]} {row.status}{marks}"]
    return "  ".join([*parts, *(part for part in (about, told) if part)])


def _as_json(name: str, row: Row, counts: Counts) -> str:
    found: dict[str, Any] = {
        "id": row.id,
        "name": name,
        "status": str(row.status),
        "state_name": row.state_name,
        "message": row.message,
        "superseded": row.superseded,
        "started": iso(row.started),
        "completed": iso(row.completed),
    }
    if isinstance(row, TaskExecutionRow):
        found["run_counts"] = counts_json(counts)
    return json.dumps(found)
