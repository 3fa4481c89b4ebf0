"""The service that keeps the registry and Prefect's own objects in step."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client

from prefect_lume.config.tagging import retag, tag, untag
from prefect_lume.errors import ConnectionFailedError, NotFoundError, clip

if TYPE_CHECKING:
    from prefect_lume.registry import ModelDBService


class SchedulingService:
    """Creates what registry and Prefect both know: projects and flows.

    Prefect 3 has no projects: ours is a row of the registry, and a tag of the Prefect
    deployments of its flows. The registry comes first; when Prefect cannot be reached
    then, the same call again does the rest.

    Args:
        model_db_service: The registry.
    """

    def __init__(self, model_db_service: ModelDBService) -> None:
        self._registry = model_db_service

    def create_project(self, project_name: str, description: str = "") -> str:
        """Create a project, or find it; its flows' Prefect deployments get its tag.

        Args:
            project_name: Its name, which is its tag, too.
            description: What it is about; empty keeps the one it has.

        Returns:
            The project's name.

        Raises:
            ConnectionFailedError: Prefect cannot be reached; the registry has it.
        """
        name = self._registry.store_project(
            project_name=project_name, description=description
        )
        flows = _flow_ids(self._registry, name)
        try:
            tag(flows, name)
        except httpx.HTTPError as error:
            raise _half_way(
                f"The project {name!r} is in the registry", error
            ) from error
        return name

    def rename_project(
        self,
        project_name: str,
        new_name: str,
        *,
        reason: str = "",
        registry: ModelDBService | None = None,
    ) -> int:
        """Rename a project in the registry, and its tag on Prefect's objects.

        Its flows, the flow-of-flows that they take part in and its history follow. The
        tag is that of those Prefect deployments of its flows that have it; nothing else
        of them is touched. They keep their names, and ``<flow>/<old name>`` goes on to
        serve a composition. Results and past runs stay under the old name.

        Args:
            project_name: The name it has.
            new_name: The name it gets.
            reason: Why, for the history.
            registry: The registry's service to use, in place of this one's.

        Returns:
            How many Prefect deployments were changed.

        Raises:
            NotFoundError: There is no such project.
            ConflictError: There is one of the new name.
            ConnectionFailedError: Prefect cannot be reached; the registry is renamed.
        """
        service = registry or self._registry
        if not _has_been_renamed(service, project_name, new_name):
            service.rename_project(project_name, new_name, reason=reason)
        flows = _flow_ids(service, new_name)
        try:
            return retag(flows, project_name, new_name)
        except httpx.HTTPError as error:
            raise _half_way(
                f"The project {project_name!r} is renamed to {new_name!r} in the "
                f"registry",
                error,
            ) from error

    def delete_project(
        self,
        project_name: str,
        *,
        reason: str = "",
        registry: ModelDBService | None = None,
    ) -> int:
        """Remove a project that has no flows, and its tag.

        The tag is that of the Prefect deployments of flows that the project had, unless
        they belong to another project now. Results that were stored under its name
        stay.

        Args:
            project_name: The project.
            reason: Why, for the history.
            registry: The registry's service to use, in place of this one's.

        Returns:
            How many Prefect deployments lost the tag.

        Raises:
            NotFoundError: There is no such project.
            ConflictError: It has flows.
            ConnectionFailedError: Prefect cannot be reached; nothing is removed.
        """
        service = registry or self._registry
        # Its history, which tells its flows, can be asked for as long as it is there.
        service.preview().delete_project(project_name)
        events = service.get_history(project_name=project_name, kind="flow.deleted")
        had = {event.flow_id for event in events if event.flow_id is not None}
        flows = had - {flow.flow_id for flow in service.get_flows()} if had else had
        try:
            changed = untag(flows, project_name)
        except httpx.HTTPError as error:
            raise _half_way(
                f"The project {project_name!r} is not removed", error
            ) from error
        service.delete_project(project_name, reason=reason)
        return changed

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


def _flow_ids(service: ModelDBService, project_name: str) -> Collection[str]:
    return {flow.flow_id for flow in service.get_flows(project_name=project_name)}


def _has_been_renamed(service: ModelDBService, old: str, new: str) -> bool:
    """Tell whether a project has got its new name already, by an earlier call."""
    known = {project.project_name for project in service.get_projects()}
    if old in known or new not in known:
        return False
    renamed = service.get_history(project_name=new, kind="project.renamed")
    if old in {event.before["project_name"] for event in renamed}:
        return True
    raise NotFoundError("project", old, known)


def _half_way(done: str, error: httpx.HTTPError) -> ConnectionFailedError:
    return ConnectionFailedError(
        f"{done}, but Prefect cannot be used to change its tag "
        f"({clip(type(error).__name__)}). Do the same again when it can."
    )
