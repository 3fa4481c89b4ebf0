"""Where a run or a result comes from, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from prefect_lume.cli.results._tables import add, cell
from prefect_lume.cli.runs._shown import SHORT, counts_json, time_text
from prefect_lume.errors import clip
from prefect_lume.pipelines.describing import counts_text
from prefect_lume.pipelines.rows import ExecutionRow
from prefect_lume.provenance import Documents, Produced, Trace
from prefect_lume.registry import DeploymentRecord
from prefect_lume.results import Result
from prefect_lume.results.describing import counted, describe, size_text
from prefect_lume.results.flattening import header

_NEWEST: Final = 5
_LONGEST: Final = 300
Pair = tuple[str, str]


def links_table(pairs: Iterator[Pair]) -> Table:
    """Return names and values as a table of two columns."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        add(table, name, value)
    return table


def run_links(trace: Trace) -> Iterator[Pair]:
    """Yield what a run belongs to and what it stored."""
    execution = trace.execution
    if execution is None:
        return
    yield "run", execution.id
    if execution.input_data:
        yield "parameters", describe_parameters(execution.input_data)
    if execution.runner:
        yield "runner", execution.runner
    if execution.prefect_deployment_id:
        yield "Prefect deployment", execution.prefect_deployment_id
    yield from project_pairs(trace)
    yield from deployment_pairs(trace)
    for place, parent in enumerate(trace.parents):
        yield "parent" if place == 0 else "its parent", run_in_words(parent)
    for place, child in enumerate(trace.children):
        yield "" if place else "subflows", run_in_words(child)
    if trace.child_count > len(trace.children):
        yield "", f"… {trace.child_count - len(trace.children)} more"
    yield from document_pairs(trace.documents)


def describe_parameters(parameters: dict[str, Any]) -> str:
    """Return a run's parameters in one line."""
    told = ", ".join(f"{name}={describe(v)}" for name, v in parameters.items())
    return clip(told, _LONGEST)


def project_pairs(trace: Trace) -> Iterator[Pair]:
    """Yield the project, with its description if it is registered."""
    if trace.project_name is not None:
        about = f" ({trace.project.description})" if trace.project else ""
        yield "project", f"{trace.project_name}{about if about != ' ()' else ''}"


def deployment_pairs(trace: Trace) -> Iterator[Pair]:
    """Yield the registry's deployment: version, source, hash, image, lock, model."""
    if trace.deployment is not None:
        yield from released(trace.deployment)
    elif trace.deployment_id is not None:
        yield "deployment", f"{trace.deployment_id}, which the registry does not have"
    elif trace.children:
        yield "deployment", "none of its own; its subflows may have some"
    else:
        yield "deployment", "none: this code is not registered"


def released(deployment: DeploymentRecord) -> Iterator[Pair]:
    """Yield what a deployment is."""
    live = ", live" if deployment.is_live else ""
    number = f"{deployment.deployment_id} (version {deployment.version}{live})"
    yield "deployment", number
    yield "source", deployment.source
    yield "sha256", deployment.sha256
    yield "image", deployment.image or "none"
    lock = deployment.lock
    size = size_text(len(lock.encode())) if lock else ""
    yield "lock", f"yes, {size}" if lock else "none"
    model = deployment.model
    where = "/".join(
        part for part in (model.laboratory, model.facility, model.beampath) if part
    )
    yield "model", f"{model.model_id}: {model.description} ({model.author}, {where})"


def run_in_words(row: ExecutionRow) -> str:
    """Return an execution in one line."""
    name = f" · {row.run_name}" if row.run_name else ""
    return f"{row.id[:SHORT]}  {row.pipeline_id}{name}  {row.status}"


def document_pairs(documents: Documents) -> Iterator[Pair]:
    """Yield how many result documents there are, and the newest."""
    if not documents.total:
        yield "results", "none stored"
        return
    by_project = ", ".join(f"{n} in {p}" for p, n in documents.by_project.items())
    yield "results", f"{counted(documents.total, 'document')}: {by_project}"
    for document in documents.newest[:_NEWEST]:
        yield "", document_in_words(document)
    if documents.total > _NEWEST:
        yield "", f"… {documents.total - min(_NEWEST, len(documents.newest))} more"


def document_in_words(document: Result) -> str:
    """Return a result document in one line."""
    stored = time_text(document.date_modified)
    beginning = document.unique_hash[:12]
    return f"{beginning}  {document.type_name}  {document.project_name}  {stored} UTC"


def print_links(console: Console, pairs: Iterator[Pair], title: str = "") -> None:
    """Print names and values, below a title."""
    if title:
        console.print(cell(title), style="bold underline")
    console.print(links_table(pairs))


def trace_json(trace: Trace) -> dict[str, Any]:
    """Return where something comes from for JSON."""
    result = trace.pipeline_result
    return {
        "result": header(trace.document) if trace.document else None,
        "object": (
            {"index": result.index, "pipeline_object": result.pipeline_object}
            if result
            else None
        ),
        "run": run_json(trace.execution) if trace.execution else None,
        "parents": [run_json(row) for row in trace.parents],
        "children": [run_json(row) for row in trace.children],
        "child_count": trace.child_count,
        "results": documents_json(trace.documents),
        "deployment_id": trace.deployment_id,
        "deployment": deployment_json(trace.deployment) if trace.deployment else None,
        "project": trace.project_name,
        "project_description": trace.project.description if trace.project else None,
    }


def produced_json(produced: Produced) -> dict[str, Any]:
    """Return what a deployment made for JSON."""
    return {
        "deployment": deployment_json(produced.deployment),
        "runs": counts_json(produced.executions),
        "newest_runs": [run_json(row) for row in produced.newest],
        "results": documents_json(produced.documents),
    }


def produced_pairs(produced: Produced) -> Iterator[Pair]:
    """Yield what a deployment made."""
    total = produced.executions.total
    told = f": {counts_text(produced.executions)}" if total else ""
    yield "runs", f"{counted(total, 'run')}{told}"
    for row in produced.newest[:_NEWEST]:
        yield "", f"{run_in_words(row)}  {time_text(row.started)} UTC"
    if total > len(produced.newest[:_NEWEST]):
        yield "", f"… {total - len(produced.newest[:_NEWEST])} more"
    yield from document_pairs(produced.documents)


def run_json(row: ExecutionRow) -> dict[str, Any]:
    """Return an execution in short for JSON."""
    return {
        "id": row.id,
        "pipeline_id": row.pipeline_id,
        "run_name": row.run_name,
        "status": str(row.status),
        "started": row.started.isoformat() if row.started else None,
        "completed": row.completed.isoformat() if row.completed else None,
        "prefect_deployment_id": row.prefect_deployment_id,
        "parent_run_id": row.parent_run_id,
    }


def deployment_json(deployment: DeploymentRecord) -> dict[str, Any]:
    """Return a deployment with its model for JSON; of the lock only whether it is."""
    model = deployment.model
    return {
        "deployment_id": deployment.deployment_id,
        "version": deployment.version,
        "deploy_date": deployment.deploy_date.isoformat(),
        "source": deployment.source,
        "sha256": deployment.sha256,
        "image": deployment.image,
        "is_live": deployment.is_live,
        "has_lock": deployment.lock is not None,
        "model": {
            "model_id": model.model_id,
            "author": model.author,
            "laboratory": model.laboratory,
            "facility": model.facility,
            "beampath": model.beampath,
            "description": model.description,
        },
    }


def documents_json(documents: Documents) -> dict[str, Any]:
    """Return result documents for JSON: how many, and the newest."""
    return {
        "total": documents.total,
        "by_project": documents.by_project,
        "newest": [header(document) for document in documents.newest],
    }
