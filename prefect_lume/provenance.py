"""The walk from a number to where it comes from, and from a release to what it made.

A result document knows its flow run; the pipeline execution of that run knows the
registry's deployment, its parent and its children; the deployment knows source, hash,
image, lock and model. What was not recorded or registered is nothing, and no error.

Example:
    >>> from prefect_lume.config import Context
    >>> context = Context()
    >>> trace_run(context, "no such run")
    Traceback (most recent call last):
        ...
    prefect_lume.errors.NotFoundError: There is no pipeline execution 'no such run'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final, cast

from prefect_lume.config import Context
from prefect_lume.errors import NotFoundError
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.rows import ExecutionRow, Kind, ResultRow
from prefect_lume.pipelines.tally import Counts, counts_of
from prefect_lume.registry import DeploymentRecord, ProjectRecord
from prefect_lume.results import Result, ResultReference

#: Documents, children and executions that are listed; of more there is the number.
MOST_LISTED: Final = 20
_TOGETHER: Final = 200


@dataclass(frozen=True, slots=True)
class Documents:
    """Result documents: how many, and the newest of them.

    Attributes:
        total: How many there are.
        by_project: Project → how many.
        newest: The newest, the latest first; their values are not loaded.
    """

    total: int = 0
    by_project: dict[str, int] = field(default_factory=dict)
    newest: tuple[Result, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """Where something comes from.

    Attributes:
        document: The result document that the walk began at, if it began at one.
        pipeline_result: Of a pipeline over objects, the object that the document's
            flow run worked on.
        execution: The pipeline execution; nothing if the run was not recorded.
        parents: The executions above, the nearest first.
        children: Executions of subflows, the oldest first, at most
            :data:`MOST_LISTED`.
        child_count: How many subflows there were.
        documents: The result documents that this execution stored.
        deployment_id: The registry's number of the deployment whose code ran.
        deployment: That deployment, with its model, source, sha256, image and lock;
            nothing if the registry does not have it.
        project_name: The project.
        project: The project as registered, if it is.
    """

    document: Result | None
    pipeline_result: ResultRow | None
    execution: ExecutionRow | None
    parents: tuple[ExecutionRow, ...]
    children: tuple[ExecutionRow, ...]
    child_count: int
    documents: Documents
    deployment_id: int | None
    deployment: DeploymentRecord | None
    project_name: str | None
    project: ProjectRecord | None


@dataclass(frozen=True, slots=True)
class Produced:
    """What a deployment made.

    Attributes:
        deployment: The deployment.
        executions: How many pipeline executions ran its code, by status.
        newest: The newest of them, the latest first, at most :data:`MOST_LISTED`.
        documents: The result documents that were made by it.
    """

    deployment: DeploymentRecord
    executions: Counts
    newest: tuple[ExecutionRow, ...]
    documents: Documents


def trace_result(
    context: Context, reference: ResultReference | Mapping[str, Any]
) -> Trace:
    """Walk from a result document to where it comes from.

    Args:
        context: The services that hold it.
        reference: A reference to the document, or its JSON form.

    Raises:
        NotFoundError: There is no such document.
        StorageError: A database cannot be used.
    """
    document = context.results_db_service().load(reference, lazy=True)
    return trace_document(context, document)


def documents_by_hash(
    context: Context, beginning: str, project_name: str | None = None, limit: int = 2
) -> list[Result]:
    """Return result documents whose unique hash begins so, at most ``limit``.

    Args:
        context: The services that hold them.
        beginning: Hexadecimal digits, in small letters.
        project_name: Look in this project only.
        limit: The most documents.
    """
    service = context.results_db_service()
    # "g" comes after every hexadecimal digit: an index answers this.
    query = {"unique_hash": {"$gte": beginning, "$lt": f"{beginning}g"}}
    found: list[Result] = []
    for project in service.projects():
        if project_name in (None, project) and len(found) < limit:
            left = limit - len(found)
            found += service.find(project, query, limit=left, lazy=True)
    return found


def trace_document(context: Context, document: Result) -> Trace:
    """Walk from a result document that is loaded already.

    Args:
        context: The services that hold it.
        document: What a results service returned.
    """
    storage = context.pipeline_storage()
    execution, result = _run_of(storage, document.flow_run_id)
    return _trace(context, execution, document, result)


def trace_run(context: Context, run_id: str) -> Trace:
    """Walk from a run to where its code comes from, and to what it stored.

    Args:
        context: The services that recorded it.
        run_id: The id of a flow run: that of a pipeline execution, or of the flow run
            that worked on one object of a pipeline.

    Raises:
        NotFoundError: No such run was recorded.
    """
    execution, result = _run_of(context.pipeline_storage(), run_id)
    if execution is None:
        raise NotFoundError("pipeline execution", run_id)
    return _trace(context, execution, None, result)


def produced_by(
    context: Context, deployment_id: int, *, limit: int = MOST_LISTED
) -> Produced:
    """Return what a deployment made: executions and result documents.

    Args:
        context: The services.
        deployment_id: The registry's number of the deployment.
        limit: The most executions, and documents, to list.

    Raises:
        NotFoundError: The registry has no such deployment.
    """
    deployment = context.model_db_service().get_deployment(deployment_id=deployment_id)
    storage, where = context.pipeline_storage(), {"deployment_id": deployment_id}
    newest = storage.find(Kind.EXECUTION, where, limit=limit, newest_first=True)
    return Produced(
        deployment=deployment,
        executions=counts_of(storage.tally(Kind.EXECUTION, where)),
        newest=tuple(cast("list[ExecutionRow]", newest)),
        documents=_documents(context, [where], limit),
    )


def _run_of(
    storage: PipelineStorage, flow_run_id: str | None
) -> tuple[ExecutionRow | None, ResultRow | None]:
    """Return the execution that a flow run is, or works on an object of."""
    if not flow_run_id:
        return None, None
    execution = _execution(storage, flow_run_id)
    if execution is not None:
        return execution, None
    found = storage.find(Kind.RESULT, {"flow_run_id": flow_run_id}, limit=1)
    if not found:
        return None, None
    return _execution(storage, found[0].run_id), cast("ResultRow", found[0])


def _execution(storage: PipelineStorage, run_id: str) -> ExecutionRow | None:
    found = storage.find(Kind.EXECUTION, {"id": run_id}, limit=1)
    return cast("ExecutionRow", found[0]) if found else None


def _trace(
    context: Context,
    execution: ExecutionRow | None,
    document: Result | None,
    result: ResultRow | None,
) -> Trace:
    storage = context.pipeline_storage()
    parents = tuple(_parents(storage, execution)) if execution else ()
    children: Sequence[ExecutionRow] = ()
    documents, child_count = Documents(), 0
    if execution is not None:
        below = {"parent_run_id": execution.id}
        found = storage.find(Kind.EXECUTION, below, limit=MOST_LISTED)
        children = cast("list[ExecutionRow]", found)
        child_count = len(children)
        if child_count == MOST_LISTED:
            child_count = counts_of(storage.tally(Kind.EXECUTION, below)).total
        documents = documents_of(context, execution)
    number = document.deployment_id if document is not None else None
    if number is None and execution is not None:
        number = execution.deployment_id
    project = document.project_name if document is not None else None
    project = project or (execution.project_name if execution else None)
    if project is None and number is not None and execution is not None:
        project = _project_of(context, number, execution.pipeline_id)
    return Trace(
        document=document,
        pipeline_result=result,
        execution=execution,
        parents=parents,
        children=tuple(children),
        child_count=child_count,
        documents=documents,
        deployment_id=number,
        deployment=_deployment(context, number),
        project_name=project,
        project=_project(context, project),
    )


def _parents(
    storage: PipelineStorage, execution: ExecutionRow
) -> Iterator[ExecutionRow]:
    above, seen = execution, {execution.id}
    while above.parent_run_id is not None:
        # A subflow may have been called by a run that works on an object.
        found, _ = _run_of(storage, above.parent_run_id)
        if found is None or found.id in seen:
            return
        seen.add(found.id)
        above = found
        yield above


def _deployment(context: Context, number: int | None) -> DeploymentRecord | None:
    if number is None:
        return None
    try:
        return context.model_db_service().get_deployment(deployment_id=number)
    except NotFoundError:
        return None


def _project_of(context: Context, number: int, flow_name: str) -> str | None:
    """Return the project of the flow of this name that a deployment serves.

    The environment of a run may say whose code it is, and not for which project.
    """
    flows = context.model_db_service().get_flows(
        deployment_id=number, flow_name=flow_name
    )
    projects = {flow.project_name for flow in flows}
    return projects.pop() if len(projects) == 1 else None


def _project(context: Context, name: str | None) -> ProjectRecord | None:
    if name is None:
        return None
    try:
        return context.model_db_service().get_project(name)
    except NotFoundError:
        return None


def documents_of(
    context: Context, execution: ExecutionRow, *, limit: int = MOST_LISTED
) -> Documents:
    """Return the result documents that a pipeline execution stored.

    Args:
        context: The services.
        execution: The execution.
        limit: The most documents to list.
    """
    ids = _flow_runs(context.pipeline_storage(), execution)
    queries = (
        {"flow_run_id": {"$in": some}}
        for some in iter(lambda: list(islice(ids, _TOGETHER)), [])
    )
    return _documents(context, queries, limit)


def _flow_runs(storage: PipelineStorage, execution: ExecutionRow) -> Iterator[str]:
    """Yield the ids of the flow runs of an execution, those of its objects included.

    A run that Prefect begins again is the same flow run.
    """
    yield execution.id
    if execution.is_mapped:
        for row in storage.iterate(Kind.RESULT, {"parent_id": execution.id}):
            own = cast("ResultRow", row).flow_run_id
            if own and own != execution.id:
                yield own


def _documents(
    context: Context, queries: Iterable[dict[str, Any]], limit: int
) -> Documents:
    service = context.results_db_service()
    newest: list[Result] = []
    by_project: dict[str, int] = {}
    projects = service.projects()
    for query in queries:
        for project in projects:
            number = service.count(project, query)
            if not number:
                continue
            by_project[project] = by_project.get(project, 0) + number
            newest += service.find(
                project, query, sort="-date_modified", limit=limit, projection=[]
            )
            newest = sorted(newest, key=_stored, reverse=True)[:limit]
    return Documents(sum(by_project.values()), by_project, tuple(newest))


def _stored(document: Result) -> datetime:
    return document.date_modified
