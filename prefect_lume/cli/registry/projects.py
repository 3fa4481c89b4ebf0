"""``prefect-lume projects``: named groups of flows."""

from __future__ import annotations

import json
from typing import Any

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.registry import _naming as naming
from prefect_lume.cli.registry._changing import (
    change_options,
    guarded_options,
    perform,
)
from prefect_lume.cli.registry._listing import limit_option, tell_history
from prefect_lume.cli.registry._shown import (
    local,
    print_fields,
    print_table,
    record_json,
    say,
)


@click.group("projects")
def command() -> None:
    """Show and change the registry's projects."""


@command.command("list")
@services_option
@json_option
def list_(services: str | None, as_json: bool) -> None:
    """List all projects."""
    found = naming.open_registry(services).get_projects()
    if as_json:
        click.echo(json.dumps([record_json(project) for project in found]))
        return
    if not found:
        click.echo("There is no project yet.", err=True)
        return
    rows = [[p.project_name, p.description, local(p.created)] for p in found]
    print_table(["project", "description", "created"], rows, "project", "description")


@command.command("show")
@naming.project_argument
@services_option
@json_option
def show(project: str, services: str | None, as_json: bool) -> None:
    """Show a project and its flows."""
    registry = naming.open_registry(services)
    record = registry.get_project(project)
    flows = registry.get_flows(project_name=project)
    if as_json:
        rows = [
            {
                "flow_id": flow.flow_id,
                "flow_name": flow.flow_name,
                "deployment_id": flow.deployment_id,
            }
            for flow in flows
        ]
        click.echo(json.dumps({**record_json(record), "flows": rows}))
        return
    print_fields(
        [
            ("project", record.project_name),
            ("description", record.description),
            ("created", local(record.created)),
            *(
                (
                    "flow",
                    f"{flow.flow_name}, "
                    + (
                        f"served by {flow.deployment.model.description} "
                        f"{flow.deployment.version}"
                        if flow.deployment
                        else "flow-of-flows"
                        if flow.composition is not None
                        else "served by nothing"
                    ),
                )
                for flow in flows
            ),
        ]
    )


@command.command("create")
@click.argument("project")
@click.option("--description", default="", help="What it is for.")
@change_options
def create(
    project: str, description: str, reason: str, services: str | None, **options: Any
) -> None:
    """Create a project, or describe the one there is anew."""
    perform(
        naming.open_registry(services),
        lambda service: service.store_project(project, description, reason=reason),
        **options,
    )


@command.command("rename")
@naming.project_argument
@click.argument("new_name")
@guarded_options
def rename(
    project: str, new_name: str, reason: str, services: str | None, **options: Any
) -> None:
    """Rename a project; the tags of its Prefect deployments follow."""
    from prefect_lume.config import open_context

    scheduling = open_context(services).scheduling_service()

    def change(service: Any) -> None:
        if service.is_preview:
            service.rename_project(project, new_name, reason=reason)
        else:
            scheduling.rename_project(
                project, new_name, reason=reason, registry=service
            )

    from prefect_lume.cli._progress import quiet_prefect

    with quiet_prefect():
        perform(
            naming.open_registry(services),
            change,
            question=f"Rename {say(project)} to {say(new_name)}?",
            **options,
        )


@command.command("delete")
@naming.project_argument
@guarded_options
def delete(project: str, reason: str, services: str | None, **options: Any) -> None:
    """Remove a project that has no flows."""
    perform(
        naming.open_registry(services),
        lambda service: service.delete_project(project, reason=reason),
        question=f"Delete the project {say(project)}?",
        **options,
    )


@command.command("history")
@naming.project_argument
@limit_option
@services_option
@json_option
def history(project: str, limit: int, services: str | None, as_json: bool) -> None:
    """Show what was changed, by whom, when and why."""
    registry = naming.open_registry(services)
    events = registry.get_history(project_name=project, limit=limit)
    tell_history(events, as_json=as_json)
