"""Writes a flow-of-flows into the registry."""

from __future__ import annotations

from typing import Any

from prefect_lume.composition import FlowOfFlowsSpec, composition_of, spec_to_rows
from prefect_lume.config import open_context
from prefect_lume.errors import NotFoundError, name_list
from prefect_lume.registry import SubflowEntry


def register(spec: FlowOfFlowsSpec, services: Any = None) -> str:
    """Store a flow-of-flows: its project, the parent and all its subflows.

    Args:
        spec: What it is made of.
        services: Whose registry.

    Returns:
        The parent's flow id in Prefect.

    Raises:
        NotFoundError: The flow of a subflow is not in the registry.
        ConflictError: The parent's name belongs to a flow that a deployment serves.
    """
    context = open_context(services)
    registry = context.model_db_service()
    rows = spec_to_rows(spec)
    # One query a project, however many subflows it has.
    ids = {
        (project, flow.flow_name): flow.flow_id
        for project in sorted({row["project_name"] for row in rows})
        for flow in registry.get_flows(project_name=project)
    }
    wanted = dict.fromkeys((row["project_name"], row["flow_name"]) for row in rows)
    missing = ["/".join(key) for key in wanted if key not in ids]
    if missing:
        raise NotFoundError(
            "registered flow",
            missing[0],
            known=[f"{f.project_name}/{f.flow_name}" for f in registry.get_flows()],
            hint=f"To register {name_list(missing)}, store a deployment of the package "
            f"that holds it: Model.store_deployment(source, project_name=...).",
        )
    entries = [
        SubflowEntry(
            flow_id=ids[row["project_name"], row["flow_name"]],
            name=row["name"],
            position=row["position"],
            mapped_parameters=row["mapped_parameters"],
            parameters=row["parameters"],
            options=row["options"],
        )
        for row in rows
    ]
    scheduling = context.scheduling_service()
    scheduling.create_project(spec.project_name)
    return registry.store_flow_of_flows(
        parent_flow_id=scheduling.flow_id(spec.name),
        parent_flow_name=spec.name,
        project_name=spec.project_name,
        subflows=entries,
        composition=dict(composition_of(spec)),
    )
