"""An execution as a tree on a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text
from rich.tree import Tree

from prefect_lume.cli.runs._shown import (
    brief_counts,
    counts_json,
    message_text,
    row_json,
    status_text,
    time_text,
)
from prefect_lume.errors import clip
from prefect_lume.pipelines.describing import counts_text, duration_text, seconds_of
from prefect_lume.pipelines.rows import Row, TaskResultRow
from prefect_lume.pipelines.tally import Counts
from prefect_lume.pipelines.tree import ExecutionTree, ResultNode, TaskNode
from prefect_lume.results.describing import one_line

_OBJECT = 60


def draw(tree: ExecutionTree, now: datetime | None = None) -> Tree:
    """Return an execution as a tree for a terminal.

    Args:
        tree: The execution.
        now: The time up to which what still runs has been running.
    """
    now = now or datetime.now(UTC)
    row = tree.row
    title = Text(one_line(row.pipeline_id or "unknown pipeline"), style="bold")
    title.append(f" · {one_line(row.run_name)}" if row.run_name else "", style="")
    head = _line(title, row, now)
    started = f"{time_text(row.started)} UTC" if row.started else "not started"
    head.append(f"  {started}", style="dim")
    if row.is_mapped:
        head.append("  ").append_text(brief_counts(tree.counts))
    drawn = Tree(_message(head, row), guide_style="dim")
    for result in tree.results:
        branch = drawn
        if row.is_mapped:
            branch = drawn.add(_result_line(result, now))
        for task in result.tasks:
            _add_task(branch, task, now)
        if result.tasks and result.hidden:
            branch.add(_more(result.counts, [t.row for t in result.tasks], "task"))
    if tree.hidden:
        drawn.add(_more(tree.counts, [r.row for r in tree.results], "object"))
    return drawn


def _result_line(result: ResultNode, now: datetime) -> Text:
    row = result.row
    name = Text(f"[{row.index}] ", style="bold")
    name.append(_object(row.pipeline_object), style="default")
    line = _line(name, row, now)
    if result.counts.total and not result.tasks:
        line.append(f"  {counts_text(result.counts)} tasks", style="dim")
    return _message(line, row)


def _add_task(branch: Tree, task: TaskNode, now: datetime) -> None:
    total = task.counts.total + task.counts.superseded
    name = one_line(task.row.pipeline_task or task.row.task_id)
    if total == 1 and len(task.runs) == 1 and task.runs[0].index is None:
        (only,) = task.runs
        branch.add(_message(_run_line(Text(name, style="bold"), only, now), only))
        return
    line = _line(Text(name, style="bold"), task.row, now)
    if total:
        line.append(f"  {counts_text(task.counts)}", style="dim")
    inner = branch.add(line)
    for run in task.runs:
        label = Text(f"[{run.index}] " if run.index is not None else "")
        label.append(_object(run.task_object) or one_line(run.name or run.id))
        inner.add(_message(_run_line(label, run, now), run))
    if task.hidden and task.runs:
        inner.add(_more(task.counts, task.runs, "run"))


def _run_line(label: Text, run: TaskResultRow, now: datetime) -> Text:
    line = _line(label, run, now)
    if run.run_count > 1:
        line.append(f"  started {run.run_count} times", style="yellow")
    return line


def _line(label: Text, row: Row, now: datetime) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append_text(label).append("  ").append_text(status_text(row))
    if row.superseded:
        line.append(" superseded", style="italic")
        line.stylize("dim")
    duration = duration_text(seconds_of(row, now))
    return line.append(f"  {duration}" if duration else "", style="default")


def _message(line: Text, row: Row) -> Text:
    """Add what was said with a status, unless it is what everyone says."""
    if row.message and (row.status.is_failed or not row.status.is_final):
        line.append(f"  {message_text(row.message)}", style="italic dim")
    return line


def _more(counts: Counts, listed: Sequence[Row], noun: str) -> Text:
    """Return what is not listed, by status."""
    rest = dict(counts.by_status)
    superseded = counts.superseded
    for row in listed:
        if row.superseded:
            superseded -= 1
        else:
            rest[row.status] = rest.get(row.status, 0) - 1
    told = counts_text(Counts({s: n for s, n in rest.items() if n > 0}, superseded))
    number = sum(n for n in rest.values() if n > 0) + max(0, superseded)
    plural = "" if number == 1 else "s"
    return Text(f"… {number} more {noun}{plural}: {told} (--all lists them)", "dim")


def _object(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return one_line(clip(text, _OBJECT))


def tree_json(tree: ExecutionTree) -> dict[str, Any]:
    """Return an execution for JSON: rows, each with its counts and what is listed."""
    return {
        **row_json(tree.row),
        "objects": counts_json(tree.counts),
        "results": [
            {
                **row_json(result.row),
                "task_counts": counts_json(result.counts),
                "tasks": [
                    {
                        **row_json(task.row),
                        "run_counts": counts_json(task.counts),
                        "runs": [row_json(run) for run in task.runs],
                    }
                    for task in result.tasks
                ],
            }
            for result in tree.results
        ],
    }
