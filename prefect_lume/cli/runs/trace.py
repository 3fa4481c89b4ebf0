"""``prefect-lume runs trace``: from a number to its source, and from a release on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._parameters import MOST
from prefect_lume.cli.results._tables import output
from prefect_lume.cli.runs._links import (
    Pair,
    deployment_pairs,
    document_pairs,
    print_links,
    produced_json,
    produced_pairs,
    project_pairs,
    released,
    run_in_words,
    trace_json,
)
from prefect_lume.cli.runs._lookup import find_run
from prefect_lume.cli.runs._parameters import open_services
from prefect_lume.cli.runs._shown import time_text
from prefect_lume.config import Context
from prefect_lume.errors import AmbiguousError, NotFoundError
from prefect_lume.provenance import (
    Trace,
    documents_by_hash,
    produced_by,
    trace_document,
    trace_run,
)
from prefect_lume.results import Result

_HASH: Final = re.compile(r"[0-9a-f]{4,64}")


@click.command("trace")
@click.argument("what", required=False)
@click.option(
    "--deployment",
    metavar="N",
    type=click.IntRange(1, MOST),
    help="Show what this deployment made, by the registry's number, instead.",
)
@click.option("--project", metavar="NAME", help="The project of the result.")
@services_option
@json_option
def command(
    what: str | None,
    deployment: int | None,
    project: str | None,
    services: str | None,
    as_json: bool,
) -> None:
    """Walk from a result or a run to source, lock, model and project.

    WHAT is a result's unique hash or a run's id, or the beginning of either. With
    --deployment N the walk goes the other way: to all that a deployment made.
    """
    if (what is None) == (deployment is None):
        raise click.UsageError("Name a result or a run, or give --deployment N.")
    context = open_services(services)
    console = output()
    if deployment is not None:
        produced = produced_by(context, deployment)
        if as_json:
            click.echo(json.dumps(produced_json(produced)))
            return
        print_links(console, released(produced.deployment), "Deployment")
        console.print()
        print_links(console, produced_pairs(produced), "Made")
        return
    trace = _trace(context, what or "", project)
    if as_json:
        click.echo(json.dumps(trace_json(trace)))
        return
    for place, (title, pairs) in enumerate(_sections(trace)):
        if place:
            console.print()
        print_links(console, iter(pairs), title)


def _trace(context: Context, what: str, project: str | None) -> Trace:
    """Return the walk from a result, or from a run."""
    document = _document(context, what.strip().lower(), project)
    if document is not None:
        return trace_document(context, document)
    try:
        run_id = find_run(context.pipeline_storage(), what)
    except NotFoundError as error:
        where = f"the project {project!r}" if project else "any project"
        raise NotFoundError(
            "result or run",
            what,
            hint=f"No result in {where} has a hash that begins "
            f"so, and no run such an id. {_hint(error)}",
        ) from None
    return trace_run(context, run_id)


def _hint(error: NotFoundError) -> str:
    return str(error).partition(". ")[2]


def _document(context: Context, prefix: str, project: str | None) -> Result | None:
    """Return the result whose hash begins so, if it is one."""
    if not _HASH.fullmatch(prefix):
        return None
    found = documents_by_hash(context, prefix, project)
    if len(found) > 1:
        first, second = (f"{r.unique_hash} ({r.project_name})" for r in found)
        raise AmbiguousError(
            f"Several results have hashes that begin with {prefix}, for example "
            f"{first} and {second}: give more digits, or --project NAME."
        )
    return found[0] if found else None


def _sections(trace: Trace) -> Iterator[tuple[str, list[Pair]]]:
    """Yield the steps of the walk, each with its title."""
    if trace.document is not None:
        yield "Result", list(_result_pairs(trace.document))
    yield "Run", list(_run_pairs(trace))
    yield "Deployment", list(deployment_pairs(trace))
    yield "Project", list(project_pairs(trace)) or [("project", "none")]


def _result_pairs(document: Result) -> Iterator[Pair]:
    yield "unique hash", document.unique_hash
    yield "type", document.type_name
    yield "project", document.project_name
    yield "stored", f"{time_text(document.date_modified)} UTC"


def _run_pairs(trace: Trace) -> Iterator[Pair]:
    execution = trace.execution
    if execution is None:
        flow_run = trace.document.flow_run_id if trace.document else None
        yield "run", f"{flow_run}, not recorded" if flow_run else "unknown"
        return
    yield "run", execution.id
    yield "pipeline", f"{execution.pipeline_id} · {execution.run_name}"
    yield "status", str(execution.status)
    yield "started", f"{time_text(execution.started) or 'never'} UTC"
    if trace.pipeline_result is not None:
        index, obj = trace.pipeline_result.index, trace.pipeline_result.pipeline_object
        yield "object", f"[{index}] {json.dumps(obj)}"
    if execution.prefect_deployment_id:
        yield "Prefect deployment", execution.prefect_deployment_id
    for place, parent in enumerate(trace.parents):
        yield "parent" if place == 0 else "its parent", run_in_words(parent)
    for place, child in enumerate(trace.children):
        yield "" if place else "subflows", run_in_words(child)
    if trace.child_count > len(trace.children):
        yield "", f"… {trace.child_count - len(trace.children)} more"
    yield from document_pairs(trace.documents)
