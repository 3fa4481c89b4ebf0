"""``prefect-lume flows``: what the registry knows of Prefect's flows."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.tree import Tree

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.registry import _naming as naming
from prefect_lume.cli.registry._changing import guarded_options, perform
from prefect_lume.cli.registry._listing import limit_option, tell_history
from prefect_lume.cli.registry._shown import (
    flow_json,
    local,
    print_fields,
    print_table,
    record_json,
    say,
)
from prefect_lume.cli.results._tables import output
from prefect_lume.registry import FlowOfFlowsRecord, FlowUse


@click.group("flows")
def command() -> None:
    """Show and remove the registry's flows and flows-of-flows."""


@command.command("list")
@naming.project_option
@services_option
@json_option
def list_(project: str | None, services: str | None, as_json: bool) -> None:
    """List flows, and what serves them."""
    registry = naming.open_registry(services)
    found = registry.get_flows(**({"project_name": project} if project else {}))
    if as_json:
        click.echo(json.dumps([flow_json(flow) for flow in found]))
        return
    if not found:
        click.echo("There is no such flow.", err=True)
        return
    rows = [
        [
            f"{flow.project_name}/{flow.flow_name}",
            flow.deployment.model.description
            if flow.deployment
            else "flow-of-flows"
            if flow.composition is not None
            else "",
            flow.deployment.version if flow.deployment else "",
            flow.flow_id,
        ]
        for flow in found
    ]
    print_table(["flow", "served by", "version", "id"], rows, "flow", "served by")


@command.command("show")
@naming.flow_argument
@services_option
@json_option
def show(flow: str, services: str | None, as_json: bool) -> None:
    """Show a flow, its subflows by position, and where it takes part itself."""
    registry = naming.open_registry(services)
    record = naming.find_flow(registry, flow)
    uses = registry.get_flow_uses(record.flow_id)
    parent = (
        registry.get_flow_of_flows(parent_flow_id=record.flow_id)
        if record.composition is not None
        else None
    )
    if as_json:
        subflows = [record_json(item) for item in parent.subflows] if parent else []
        answer = {
            **flow_json(record),
            "subflows": subflows,
            "uses": [record_json(use) for use in uses],
        }
        click.echo(json.dumps(answer))
        return
    served = record.deployment
    print_fields(
        [
            ("flow", f"{record.project_name}/{record.flow_name}"),
            ("id", record.flow_id),
            ("registered", local(record.created)),
            (
                "served by",
                f"deployment {served.deployment_id} ({served.model.description} "
                f"{served.version})"
                if served
                else None,
            ),
            *(("part of", _place(use)) for use in uses),
        ]
    )
    if parent is not None:
        output().print(_tree(parent))


def _place(use: FlowUse) -> str:
    parent = f"{use.project_name}/{use.parent_flow_name}"
    return f"{parent}: {use.position}. {use.name}"


def _tree(parent: FlowOfFlowsRecord) -> Tree:
    root = Tree("subflows")
    for item in parent.subflows:
        flow = f"{item.flow.project_name}/{item.flow.flow_name}"
        branch = root.add(_safe(f"{item.position}. {say(item.name)} ({say(flow)})"))
        for name, source in item.mapped_parameters.items():
            branch.add(_safe(f"{say(name)} ← {say(source, 200)}"))
        for name, value in item.parameters.items():
            branch.add(_safe(f"{say(name)} = {say(value, 200)}"))
    return root


def _safe(text: str) -> str:
    return text.replace("[", "\\[")


@command.command("delete")
@naming.flow_argument
@guarded_options
def delete(flow: str, reason: str, services: str | None, **options: Any) -> None:
    """Remove a flow; of a flow-of-flows, the parent. One that takes part is kept."""
    registry = naming.open_registry(services)
    record = naming.find_flow(registry, flow)
    perform(
        registry,
        lambda service: service.delete_flow(record.flow_id, reason=reason),
        question=f"Delete the flow {say(record.project_name)}/{say(record.flow_name)}?",
        **options,
    )


@command.command("history")
@naming.flow_argument
@limit_option
@services_option
@json_option
def history(flow: str, limit: int, services: str | None, as_json: bool) -> None:
    """Show what was changed, by whom, when and why."""
    registry = naming.open_registry(services)
    record = naming.find_flow(registry, flow)
    events = registry.get_history(flow_id=record.flow_id, limit=limit)
    tell_history(events, as_json=as_json)
