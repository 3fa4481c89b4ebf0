"""What refers to a deployment besides the registry."""

from __future__ import annotations

from prefect_lume.config import Context
from prefect_lume.provenance import produced_by
from prefect_lume.results.describing import counted


def uses_of_deployment(context: Context, deployment_id: int) -> str:
    """Return in words what a deployment made, or "" if that is nothing.

    Args:
        context: The services.
        deployment_id: The registry's number of the deployment.

    Returns:
        For example ``"3 results and 2 runs"``.

    Raises:
        NotFoundError: The registry has no such deployment.
    """
    made = produced_by(context, deployment_id, limit=1)
    runs = made.executions.total + made.executions.superseded
    parts = [
        counted(number, what)
        for number, what in ((made.documents.total, "result"), (runs, "run"))
        if number
    ]
    return " and ".join(parts)
