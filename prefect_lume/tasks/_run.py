"""What the running flow says of itself: flow, run, project and deployment."""

from __future__ import annotations

from dataclasses import dataclass

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, TaskRunContext

from prefect_lume.config import Context, running_deployment
from prefect_lume.errors import NotFoundError
from prefect_lume.registry import FlowRecord

#: The project of results that were stored outside any registered flow.
DEFAULT_PROJECT = "default"


@dataclass(frozen=True)
class Provenance:
    """Which run stores something.

    Attributes:
        project_name: The flow's project; ``"default"`` for an unregistered flow.
        flow_id: Prefect's flow id, or ``None`` outside a flow.
        flow_run_id: Prefect's flow run id, or ``None`` outside a flow.
        deployment_id: The registry's deployment that runs, or ``None`` when unknown.
    """

    project_name: str
    flow_id: str | None
    flow_run_id: str | None
    deployment_id: int | None


def _running_flow() -> tuple[str | None, str | None]:
    """Return flow id and flow run id of the run that this code is in."""
    flow_run = FlowRunContext.get()
    if flow_run is not None and flow_run.flow_run is not None:
        return str(flow_run.flow_run.flow_id), str(flow_run.flow_run.id)
    task_run = TaskRunContext.get()
    if task_run is None or task_run.task_run.flow_run_id is None:
        return None, None
    # A task runner in another process hands over the task run only.
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(task_run.task_run.flow_run_id)
    return str(run.flow_id), str(run.id)


def _registered(context: Context, flow_id: str) -> FlowRecord | None:
    try:
        return context.model_db_service().get_flow(flow_id=flow_id)
    except NotFoundError:
        return None


def provenance(context: Context, project_name: str | None = None) -> Provenance:
    """Return what the running flow says of itself.

    The deployment is the one that the composer or the worker started (a context
    variable, or `PREFECT_LUME_DEPLOYMENT_ID`); without these, the one that the
    registry's row of the flow points at.

    Args:
        context: Whose registry to ask.
        project_name: A project to use in place of the flow's own.
    """
    flow_id, flow_run_id = _running_flow()
    flow = _registered(context, flow_id) if flow_id is not None else None
    deployment_id = running_deployment.get() or context.settings.deployment_id
    if deployment_id is None and flow is not None and flow.deployment is not None:
        deployment_id = flow.deployment.deployment_id
    own_project = flow.project_name if flow is not None else DEFAULT_PROJECT
    return Provenance(
        project_name=project_name or own_project,
        flow_id=flow_id,
        flow_run_id=flow_run_id,
        deployment_id=deployment_id,
    )
