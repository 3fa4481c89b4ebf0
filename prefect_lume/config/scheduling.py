"""The service that keeps the registry and Prefect's own objects in step."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.orchestration import get_client

if TYPE_CHECKING:
    from prefect_lume.registry import ModelDBService


class SchedulingService:
    """Creates what registry and Prefect both know: projects and flows.

    Args:
        model_db_service: The registry.
    """

    def __init__(self, model_db_service: ModelDBService) -> None:
        self._registry = model_db_service

    def create_project(self, project_name: str, description: str = "") -> str:
        """Create a project, or find it.

        Prefect 3 has no projects: ours is a row of the registry and a tag on Prefect's
        objects.

        Args:
            project_name: Its name, which is its tag, too.
            description: What it is about; empty keeps the one it has.

        Returns:
            The project's name.
        """
        return self._registry.store_project(
            project_name=project_name, description=description
        )

    def flow_id(self, flow_name: str) -> str:
        """Return the id by which Prefect knows a flow of that name, creating it.

        Args:
            flow_name: The flow's name in Prefect.
        """
        with get_client(sync_client=True) as client:
            identifier: UUID = client.create_flow_from_name(flow_name)
        return str(identifier)

    def register_flow(
        self, flow_name: str, project_name: str, deployment_id: int | None = None
    ) -> str:
        """Create a flow in Prefect and point the registry's row of it at a deployment.

        Args:
            flow_name: The flow's name in Prefect.
            project_name: A project of the registry.
            deployment_id: The registry's deployment that serves the flow.

        Returns:
            The flow's id.

        Raises:
            NotFoundError: There is no such project or deployment.
            ConflictError: The name belongs to another project or model.
        """
        return self._registry.store_flow(
            flow_id=self.flow_id(flow_name),
            flow_name=flow_name,
            project_name=project_name,
            deployment_id=deployment_id,
        )
