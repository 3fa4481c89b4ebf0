"""The service that keeps the registry and Prefect's own objects in step."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

from prefect_lume.errors import ConnectionFailedError, clip

if TYPE_CHECKING:
    from prefect_lume.registry import ModelDBService

_PAGE: Final = 100


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

    def rename_project(
        self,
        project_name: str,
        new_name: str,
        *,
        reason: str = "",
        registry: ModelDBService | None = None,
    ) -> int:
        """Rename a project in the registry, and its tag on Prefect's objects.

        The tag is that of the Prefect deployments of the project's flows; nothing else
        of them is touched. Past flow runs, and results, keep the name that they were
        made under. When Prefect cannot be reached half-way, call it again: a project
        that has its new name already only has its tags brought up to date.

        Args:
            project_name: The name it has.
            new_name: The name it gets.
            reason: Why, for the history.
            registry: The registry's service to use, in place of this one's.

        Returns:
            How many Prefect deployments got the new tag.

        Raises:
            NotFoundError: There is no such project.
            ConflictError: There is one of the new name.
            ConnectionFailedError: Prefect cannot be reached; the registry is renamed.
        """
        service = registry or self._registry
        known = {project.project_name for project in service.get_projects()}
        if project_name in known or new_name not in known:
            service.rename_project(project_name, new_name, reason=reason)
        flows = {flow.flow_id for flow in service.get_flows(project_name=new_name)}
        try:
            return _retag(flows, project_name, new_name)
        except httpx.HTTPError as error:
            raise ConnectionFailedError(
                f"The project {project_name!r} is renamed to {new_name!r} in the "
                f"registry, but Prefect cannot be reached to rename its tag "
                f"({clip(type(error).__name__)}). Do the same again when it can."
            ) from error

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


def _retag(flow_ids: Collection[str], old: str, new: str) -> int:
    """Give the Prefect deployments of flows, tagged by an old name, the new one."""
    changed = 0
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[old]))
    with get_client(sync_client=True) as client:
        offset = 0
        while True:
            page = client.read_deployments(
                deployment_filter=tagged, limit=_PAGE, offset=offset
            )
            for deployment in page:
                if str(deployment.flow_id) not in flow_ids:
                    # Another one's tag of the same word.
                    offset += 1
                    continue
                tags = [new if tag == old else tag for tag in deployment.tags]
                client.update_deployment(
                    deployment.id, DeploymentUpdate(tags=list(dict.fromkeys(tags)))
                )
                changed += 1
            if len(page) < _PAGE:
                return changed
