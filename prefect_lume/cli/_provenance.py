"""Stored results with where they come from, as rows for a table or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from prefect_lume.config import Context
from prefect_lume.results import FileReference

if TYPE_CHECKING:
    from prefect_lume.results import Result


def provenance_rows(
    context: Context, results: Iterable[Result], names: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return one row per result: what it is, and which release of which model made it.

    Args:
        context: Whose registry knows the deployments.
        results: Stored results.
        names: Flow run id → the name of that run, as far as they are known.
    """
    found = list(results)
    wanted = {result.deployment_id for result in found} - {None}
    registry = context.model_db_service()
    deployments = {
        number: deployment
        for number in wanted
        for deployment in registry.get_deployments(deployment_id=number)
    }
    rows = []
    for result in found:
        deployment = deployments.get(result.deployment_id or 0)
        rows.append(
            {
                "stored": result.date_modified.isoformat(timespec="seconds"),
                "result": result.result_type,
                "unique_hash": result.unique_hash,
                "project": result.project_name,
                "flow_run_id": result.flow_run_id,
                "flow_run": (names or {}).get(result.flow_run_id or "", ""),
                "model_id": deployment.model.model_id if deployment else None,
                "model": deployment.model.description if deployment else None,
                "deployment_id": result.deployment_id,
                "version": deployment.version if deployment else None,
                "source": deployment.source if deployment else None,
                "sha256": deployment.sha256 if deployment else None,
                "outputs": _scalars(result.outputs),
            }
        )
    return rows


def _scalars(outputs: dict[str, Any]) -> dict[str, Any]:
    """Return the outputs that a person would look at: plain numbers and text."""
    return {
        name: value
        for name, value in outputs.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    }


def provenance_table(rows: Sequence[dict[str, Any]], new: Iterable[str] = ()) -> Table:
    """Return rows as a table: what was stored when, by which run of which release.

    Args:
        rows: What :func:`provenance_rows` returned.
        new: Flow run ids whose results are marked as new.
    """
    fresh = set(new)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stored (UTC)", "flow run", "result", "model · version", "sha256"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        run_id = row["flow_run_id"] or ""
        model = f"{row['model_id']} · {row['version']}" if row["version"] else "unknown"
        table.add_row(
            row["stored"][:19].replace("T", " "),
            f"{row['flow_run']} {run_id[:8]}".strip(),
            row["result"],
            model,
            (row["sha256"] or "")[:12],
            style="bold" if run_id in fresh else "dim",
        )
    return table


def outputs_table(rows: Sequence[dict[str, Any]], shown: Sequence[str]) -> Table:
    """Return the outputs of a run's results side by side, a column per result.

    Args:
        rows: What :func:`provenance_rows` returned.
        shown: The outputs to show, where a result has them.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("output", no_wrap=True)
    for row in rows:
        table.add_column(row["flow_run"] or row["unique_hash"][:8], justify="right")
    for name in shown:
        values = [row["outputs"].get(name, "") for row in rows]
        if any(value != "" for value in values):
            table.add_row(name, *map(_number, values))
    return table


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def file_references(value: Any) -> list[FileReference]:
    """Return every file reference in nested data, in order."""
    if isinstance(value, FileReference):
        return [value]
    if isinstance(value, dict):
        return [item for part in value.values() for item in file_references(part)]
    if isinstance(value, list | tuple):
        return [item for part in value for item in file_references(part)]
    return []
