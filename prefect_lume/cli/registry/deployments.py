"""``prefect-lume deployments``: the releases of the registry's models."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click
from rich.tree import Tree

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.registry import _naming as naming
from prefect_lume.cli.registry._listing import (
    limit_option,
    search_options,
    tell_history,
    tell_more,
)
from prefect_lume.cli.registry._shown import (
    deployment_json,
    local,
    print_deployments,
    print_fields,
    say,
    standing,
    state,
)
from prefect_lume.cli.registry.deployment_changes import add_to
from prefect_lume.cli.results._tables import output
from prefect_lume.registry import DeploymentRecord, RegistryEvent


@click.group("deployments")
def command() -> None:
    """Show and change the registry's deployments."""


@command.command("list")
@search_options("deployment_id DESC")
@naming.model_option
@services_option
@json_option
def list_(
    where: str,
    sort: str,
    limit: int,
    page: str | None,
    model: str | None,
    services: str | None,
    as_json: bool,
) -> None:
    """List deployments; WHERE is a filter such as "is_live AND tags.stage = 'test'"."""
    registry = naming.open_registry(services)
    if model is not None:
        number = naming.find_model(registry, model).model_id
        mine = f"model_id = {number}"
        where = f"{mine} AND ({where})" if where.strip() else mine
    found = registry.search_deployments(
        where, order_by=sort, limit=limit, page_token=page
    )
    if as_json:
        deployments = [deployment_json(item) for item in found.items]
        answer = {"deployments": deployments, "next_page": found.next_page_token}
        click.echo(json.dumps(answer))
        return
    if not found.items:
        there = "There is no deployment yet: prefect-lume deployments create."
        click.echo("No deployment fits." if where.strip() else there, err=True)
        return
    print_deployments(found.items)
    tell_more(found.next_page_token)


@command.command("show")
@naming.deployment_argument
@click.option("--lock", is_flag=True, help="Print its lock and nothing else.")
@services_option
@json_option
def show(deployment: str, lock: bool, services: str | None, as_json: bool) -> None:
    """Show a deployment: its number, MODEL/VERSION, MODEL@ALIAS or MODEL@live."""
    registry = naming.open_registry(services)
    record = naming.find_deployment(registry, deployment)
    if lock:
        click.echo(record.lock or "", nl=False)
        return
    if as_json:
        click.echo(json.dumps(deployment_json(record)))
        return
    since = registry.get_promotions([record.deployment_id] if record.is_live else [])
    print_fields(_fields(record, since.get(record.deployment_id)))


def _fields(
    record: DeploymentRecord, since: RegistryEvent | None
) -> Iterable[tuple[str, object]]:
    yield "deployment", record.deployment_id
    yield "state", state(record) if record.is_live or record.retired else "not live"
    yield "live", standing(since) if record.is_live else None
    yield "model", f"{record.model_id}, {record.model.description}"
    yield "version", record.version
    yield "description", record.description
    yield "stored", local(record.deploy_date)
    yield "retired", local(record.retired)
    yield "source", record.source
    yield "sha256", record.sha256
    yield "package", record.package_import_name
    yield "image", record.image
    yield "assets", record.asset_dir
    yield "lock", "yes (--lock prints it)" if record.has_lock else "no"
    yield "aliases", ", ".join(record.aliases)
    yield "made from", record.parent_deployment_id
    for key, value in record.tags.items():
        yield f"tag {say(key)}", value
    for name, target in record.entrypoints.items():
        yield "offers", f"{name} ({target})"
    for flow in record.flows:
        yield "serves", f"{flow.project_name}/{flow.flow_name} ({flow.flow_id})"


@command.command("history")
@naming.deployment_argument
@limit_option
@services_option
@json_option
def history(deployment: str, limit: int, services: str | None, as_json: bool) -> None:
    """Show what was changed, by whom, when and why; by number also of a gone one."""
    registry = naming.open_registry(services)
    number = (
        int(deployment)
        if deployment.isascii() and deployment.isdigit()
        else naming.find_deployment(registry, deployment).deployment_id
    )
    events = registry.get_history(deployment_id=number, limit=limit)
    if not events:
        naming.find_deployment(registry, deployment)
    tell_history(events, as_json=as_json)


@command.command("lineage")
@naming.deployment_argument
@services_option
@json_option
def lineage(deployment: str, services: str | None, as_json: bool) -> None:
    """Show what a deployment was made from, and what was made from it, as a tree."""
    registry = naming.open_registry(services)
    number = naming.find_deployment(registry, deployment).deployment_id
    found = registry.get_lineage(number)
    if as_json:
        answer = {
            "deployment": deployment_json(found.deployment),
            "ancestors": [deployment_json(item) for item in found.ancestors],
            "descendants": [deployment_json(item) for item in found.descendants],
        }
        click.echo(json.dumps(answer))
        return
    line = [*reversed(found.ancestors), found.deployment]
    root = tree = Tree(_named(line[0], line[0].deployment_id == number))
    places = {line[0].deployment_id: tree}
    for item in [*line[1:], *found.descendants]:
        parent = places.get(item.parent_deployment_id or 0, tree)
        tree = parent.add(_named(item, item.deployment_id == number))
        places[item.deployment_id] = tree
    output().print(root)


def _named(record: DeploymentRecord, is_asked: bool) -> str:
    text = (
        f"{record.deployment_id}  {say(record.model.description)} {say(record.version)}"
        f"{' ● live' if record.is_live else ''}"
    ).replace("[", "\\[")
    return f"[bold]{text}[/]" if is_asked else text


add_to(command)
