"""The body of the parent flow: checks how it can run, then runs its plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from prefect_lume.composer import children
from prefect_lume.composer.execution import Execution
from prefect_lume.composer.location import find_prefect_deployment
from prefect_lume.composer.plan import DEPLOYMENTS, Plan
from prefect_lume.composer.runners import AsDeployments, InProcess, Runner
from prefect_lume.config import open_context, running_services
from prefect_lume.errors import ConfigurationError


def run_plan(plan: Plan, how: str, given: Mapping[str, Any]) -> Any:
    """Run a plan inside the parent's flow run.

    Args:
        plan: What to run.
        how: ``"in-process"`` or ``"deployments"``.
        given: The parent's parameters.

    Raises:
        ConfigurationError: A subflow cannot be run so; nothing has run then.
        SubflowError: Subflows did not complete.
    """
    runner: Runner
    if how == DEPLOYMENTS:
        check_deployments(plan)
        runner = AsDeployments(children.parent_run_id())
    else:
        check_flows(plan)
        runner = InProcess(kept_results(plan.services))
    children.tag_parent(plan.tags)
    # Subflows in this process, and their tasks, use the composition's services.
    token = running_services.set(plan.services or running_services.get())
    try:
        return Execution(plan, given, runner).run()
    finally:
        running_services.reset(token)


def check_flows(plan: Plan) -> None:
    """Refuse a plan of which a subflow has no flow object."""
    missing = [step for step in plan.steps() if step.flow is None]
    if missing:
        names = ", ".join(repr(step.name) for step in missing)
        raise ConfigurationError(
            f"These subflows can only run as Prefect deployments, because their code "
            f"is not here: {names}. Run with run_subflows='deployments', or register "
            f"their package."
        )


def check_deployments(plan: Plan) -> None:
    """Refuse a plan of which a subflow has no Prefect deployment."""
    missing = []
    with get_client(sync_client=True) as client:
        for step in plan.steps():
            try:
                find_prefect_deployment(
                    client, step.prefect_deployment, step.project_name
                )
            except ObjectNotFound:
                missing.append(f"{step.name!r} needs {step.prefect_deployment!r}")
    if missing:
        raise ConfigurationError(
            f"These subflows have no Prefect deployment: {'; '.join(missing)}. Create "
            f"them with deploy_subflows(work_pool_name), name another one as "
            f"prefect_deployment, or run with run_subflows='in-process'."
        )


def kept_results(services: Any) -> str | None:
    """Return the Block that kept results are written to, if the services name one."""
    return open_context(services).services.file_storage or None
