"""What artifacts say of recorded runs: a digest, or one run with its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from prefect_lume.pipelines.describing import counts_text, duration_text, seconds_of
from prefect_lume.pipelines.digest import PipelineDigest, PipelineDigestItem
from prefect_lume.pipelines.rows import Row
from prefect_lume.pipelines.tree import ExecutionTree, TaskNode
from prefect_lume.tasks._artifacts import escaped

_DIGEST: Final = (
    "pipeline",
    "runs",
    "succeeded",
    "failed",
    "open",
    "success",
    "average",
    "last ran (UTC)",
)
_LONGEST: Final = 200


def digest_markdown(digest: PipelineDigest) -> str:
    """Return a digest as a markdown table."""
    title = f"### Pipelines, {_time(datetime.now(UTC))} UTC"
    if not digest:
        return f"{title}\n\nNo runs recorded yet."
    rows = [_digest_row(name, item) for name, item in digest.items()]
    align = "|---|" + "---:|" * 6 + "---|"
    return "\n".join([title, "", _cells(*_DIGEST), align, *rows])


def _digest_row(name: str, item: PipelineDigestItem) -> str:
    rate = f"{item.total_success / item.total_runs:.1%}" if item.total_runs else ""
    return _cells(
        name,
        item.total_runs,
        item.total_success,
        item.total_failure,
        item.total_open,
        rate,
        duration_text(item.average_runtime),
        _time(item.last_ran),
    )


def run_markdown(tree: ExecutionTree) -> str:
    """Return a run with its objects and tasks as nested lists."""
    row = tree.row
    name = " · ".join(part for part in (row.pipeline_id, row.run_name) if part)
    lines = [
        f"### {escaped(name)}",
        "",
        f"{_told(row)}, started {_time(row.started) or 'never'} UTC",
        "",
        *_tree_lines(tree),
    ]
    return "\n".join(lines)


def _tree_lines(tree: ExecutionTree) -> Iterator[str]:
    for result in tree.results:
        indent = ""
        if tree.row.is_mapped:
            yield f"- **object {result.row.index}** {_told(result.row)}"
            indent = "    "
        for task in result.tasks:
            yield from _task_lines(task, indent)
        if result.tasks and result.hidden:
            yield f"{indent}- … {result.hidden} more tasks"
    if tree.hidden:
        yield f"- … {tree.hidden} more objects (in all {counts_text(tree.counts)})"


def _task_lines(task: TaskNode, indent: str) -> Iterator[str]:
    name = escaped(task.row.pipeline_task or task.row.task_id)
    total = task.counts.total + task.counts.superseded
    if total == 1 and task.runs:
        yield f"{indent}- **{name}** {_told(task.runs[0])}"
        return
    told = _told(task.row, message=False)
    yield f"{indent}- **{name}** {told}: {counts_text(task.counts)}"
    for run in task.runs:
        if run.status.is_failed or not run.status.is_final:
            place = f"\\[{run.index}\\] " if run.index is not None else ""
            yield f"{indent}    - {place}{escaped(run.name)} {_told(run)}"


def _told(row: Row, *, message: bool = True) -> str:
    """Return status, duration and, of what failed, the message."""
    parts = [escaped(row.status), duration_text(seconds_of(row))]
    if row.superseded:
        parts.append("superseded")
    if message and row.message and row.status.is_failed:
        parts.append(escaped(row.message[:_LONGEST]))
    return ", ".join(part for part in parts if part)


def _cells(*values: object) -> str:
    return "".join(f"| {escaped(value)} " for value in values) + "|"


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if moment else ""
