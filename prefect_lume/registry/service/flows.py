"""Projects, flows and flow-of-flows: stored, found, renamed, removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect_lume.registry import fields, repository
from prefect_lume.registry.changes import compositions, flows, projects
from prefect_lume.registry.records import (
    FlowOfFlowsRecord,
    FlowRecord,
    FlowUse,
    ProjectRecord,
    RegistryEvent,
    SubflowEntry,
)
from prefect_lume.registry.service.base import ServiceBase


class FlowCalls(ServiceBase):
    """The calls of the service that are about projects, flows and flow-of-flows."""

    def store_project(
        self, project_name: str, description: str = "", *, reason: str = ""
    ) -> str:
        """Store a project. A known one gets the description, unless that is empty.

        Args:
            project_name: Its name, 1 to 255 characters.
            description: What it is for.
            reason: Why, for the history.

        Returns:
            Its name.
        """
        name = fields.text("project_name", project_name)
        about = fields.text(
            "description", description, fields.SOURCE_LENGTH, empty=True
        )
        return self._change(lambda tx: projects.store_project(tx, name, about), reason)

    def get_project(self, project_name: str) -> ProjectRecord:
        """Return a project by its name.

        Raises:
            NotFoundError: There is none of that name.
        """
        name = fields.text("project_name", project_name)
        return self._read(lambda c: repository.find_project(c, name))

    def get_projects(self) -> list[ProjectRecord]:
        """Return all projects, by name."""
        return self._read(repository.find_projects)

    def rename_project(
        self, project_name: str, new_name: str, *, reason: str = ""
    ) -> RegistryEvent | None:
        """Give a project another name. Its flows and its history go with it.

        Tags on Prefect's objects follow when it is done through
        ``config.context.scheduling_service()``.

        Args:
            project_name: The name it has.
            new_name: The name it gets, 1 to 255 characters.
            reason: Why, for the history.

        Returns:
            The event, or ``None`` if both names are the same.

        Raises:
            NotFoundError: There is no such project.
            ConflictError: There is one of the new name.
        """
        old = fields.text("project_name", project_name)
        new = fields.text("new_name", new_name)
        return self._event(lambda tx: projects.rename_project(tx, old, new), reason)

    def delete_project(self, project_name: str, *, reason: str = "") -> None:
        """Remove a project.

        Raises:
            NotFoundError: There is no such project.
            ConflictError: It has flows.
        """
        name = fields.text("project_name", project_name)
        self._change(lambda tx: projects.delete_project(tx, name), reason)

    def store_flow(
        self,
        *,
        flow_id: str,
        flow_name: str,
        project_name: str,
        deployment_id: int | None = None,
    ) -> str:
        """Store a flow, or point a known one at another deployment of its model.

        Args:
            flow_id: Prefect's id of the flow, at most 36 characters.
            flow_name: Its name, unique within the project.
            project_name: A project that the registry knows.
            deployment_id: The deployment that serves the flow. Left out, a known flow
                keeps the one it has.

        Returns:
            The flow's id.

        Raises:
            NotFoundError: There is no such project or deployment.
            ConflictError: The id belongs to a flow of another name or project, the
                name to a flow of another id, or the flow to another model.
        """
        identifier = fields.text("flow_id", flow_id, fields.FLOW_ID_LENGTH)
        name = fields.text("flow_name", flow_name)
        project = fields.text("project_name", project_name)
        target = fields.optional_integer("deployment_id", deployment_id)
        values = identifier, name, project, target
        return self._change(lambda tx: flows.store_flow(tx, *values))

    def get_flow(self, **criteria: Any) -> FlowRecord:
        """Return the one flow that fits, with its project and deployment.

        Args:
            **criteria: Columns and their values: ``flow_id``, ``flow_name``,
                ``project_name``, ``deployment_id``, ``created``. Values are compared
                exactly; ``deployment_id=None`` finds flows without one.

        Raises:
            NotFoundError: There is none.
            AmbiguousError: There are several.
        """
        return self._read(lambda c: repository.find_flow(c, criteria))

    def get_flows(self, **criteria: Any) -> list[FlowRecord]:
        """Return all flows that fit (see :meth:`get_flow`), by project and name."""
        return self._read(lambda c: repository.find_flows(c, criteria))

    def delete_flow(self, flow_id: str, *, reason: str = "") -> None:
        """Remove a flow; of a flow-of-flows, the parent with its rows of subflows.

        Raises:
            NotFoundError: There is no such flow.
            ConflictError: It takes part in a flow-of-flows.
        """
        identifier = fields.text("flow_id", flow_id, fields.FLOW_ID_LENGTH)
        self._change(lambda tx: flows.delete_flow(tx, identifier), reason)

    def store_flow_of_flows(
        self,
        *,
        parent_flow_id: str,
        parent_flow_name: str,
        project_name: str,
        subflows: Sequence[SubflowEntry],
        composition: Mapping[str, Any] | None = None,
    ) -> str:
        """Store a flow-of-flows: the parent and all its subflows, or nothing.

        Storing an equal one again changes nothing; another one takes its place.

        Args:
            parent_flow_id: Prefect's id of the parent, at most 36 characters.
            parent_flow_name: The parent's name, unique within the project.
            project_name: A project that the registry knows.
            subflows: At least one, each of a flow that the registry knows.
            composition: What to keep beside them, as plain JSON data.

        Returns:
            The parent's id.

        Raises:
            NotFoundError: There is no such project, or no such flow for a subflow.
            ConflictError: The parent's id or name belongs to another flow, or to one
                that a deployment serves.
            InvalidInputError: Two subflows have one name, a position is below 1, the
                parent would contain itself, or a value has no JSON form.
        """
        identifier = fields.text(
            "parent_flow_id", parent_flow_id, fields.FLOW_ID_LENGTH
        )
        name = fields.text("parent_flow_name", parent_flow_name)
        project = fields.text("project_name", project_name)
        entries = compositions.checked(subflows)
        extras = fields.json_object("composition", composition or {})
        values = identifier, name, project, entries, extras
        return self._change(lambda tx: compositions.store_flow_of_flows(tx, *values))

    def get_flow_of_flows(
        self,
        *,
        parent_flow_id: str | None = None,
        flow_name: str | None = None,
        project_name: str | None = None,
    ) -> FlowOfFlowsRecord:
        """Return the flow-of-flows with this parent, with its subflows in order.

        Raises:
            NotFoundError: There is none.
            AmbiguousError: There are several.
            InvalidInputError: All three were left out.
        """
        asked = parent_flow_id, flow_name, project_name
        return self._read(lambda c: repository.find_flow_of_flows(c, *asked))

    def get_flows_of_flows(
        self, *, project_name: str | None = None
    ) -> list[FlowOfFlowsRecord]:
        """Return all flow-of-flows, or those of a project, by project and name."""
        criteria = {} if project_name is None else {"project_name": project_name}
        return self._read(lambda c: repository.find_flows_of_flows(c, criteria))

    def get_flow_uses(self, flow_id: str) -> tuple[FlowUse, ...]:
        """Return where a flow takes part in a flow-of-flows.

        Raises:
            NotFoundError: There is no such flow.
        """
        identifier = fields.text("flow_id", flow_id, fields.FLOW_ID_LENGTH)
        return self._read(lambda c: repository.flow_uses(c, identifier))
