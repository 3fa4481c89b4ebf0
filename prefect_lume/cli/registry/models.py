"""``prefect-lume models``: the registry's models."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.text import Text

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.registry import _naming as naming
from prefect_lume.cli.registry._changing import (
    change_options,
    guarded_options,
    perform,
)
from prefect_lume.cli.registry._listing import (
    limit_option,
    search_options,
    tag_options,
    tags_of,
    tell_history,
    tell_more,
)
from prefect_lume.cli.registry._shown import (
    deployment_json,
    local,
    print_deployments,
    print_fields,
    print_table,
    record_json,
    say,
    standing,
)
from prefect_lume.errors import InvalidInputError
from prefect_lume.results.describing import counted


@click.group("models")
def command() -> None:
    """Show and change the registry's models."""


@command.command("list")
@search_options("model_id")
@services_option
@json_option
def list_(
    where: str,
    sort: str,
    limit: int,
    page: str | None,
    services: str | None,
    as_json: bool,
) -> None:
    """List models; WHERE is a filter such as "laboratory = 'slac' AND is_live"."""
    registry = naming.open_registry(services)
    found = registry.search_models(where, order_by=sort, limit=limit, page_token=page)
    if as_json:
        models = [record_json(model) for model in found.items]
        click.echo(json.dumps({"models": models, "next_page": found.next_page_token}))
        return
    if not found.items:
        there = "There is no model yet: prefect-lume models create."
        click.echo("No model fits." if where.strip() else there, err=True)
        return
    numbers = ", ".join(str(model.model_id) for model in found.items)
    live = registry.search_deployments(
        f"is_live AND model_id IN ({numbers})", limit=10_000
    )
    versions = {item.model_id: item.version for item in live.items}
    rows = [
        [
            m.model_id,
            m.description,
            Text(say(versions.get(m.model_id, "")), style="green"),
            f"{m.laboratory}/{m.facility}/{m.beampath}",
            m.author,
        ]
        for m in found.items
    ]
    headers = ["id", "description", "live", "where", "author"]
    print_table(headers, rows, *headers[1:])
    tell_more(found.next_page_token)


@command.command("show")
@naming.model_argument
@services_option
@json_option
def show(model: str, services: str | None, as_json: bool) -> None:
    """Show a model and its deployments."""
    registry = naming.open_registry(services)
    record = naming.find_model(registry, model)
    asked = f"model_id = {record.model_id}"
    page = registry.search_deployments(asked, order_by="deployment_id DESC", limit=50)
    if as_json:
        deployments = [deployment_json(item) for item in page.items]
        click.echo(json.dumps({**record_json(record), "deployments": deployments}))
        return
    live = registry.get_deployments(model_id=record.model_id, is_live=True)
    since = registry.get_promotions(item.deployment_id for item in live)
    print_fields(
        [
            ("model", record.model_id),
            ("description", record.description),
            *(
                ("live", f"{item.version}, {standing(since.get(item.deployment_id))}")
                for item in live
            ),
            ("author", record.author),
            ("laboratory", record.laboratory),
            ("facility", record.facility),
            ("beampath", record.beampath),
            ("registered", local(record.created)),
            *((f"tag {say(key)}", value) for key, value in record.tags.items()),
        ]
    )
    if page.items:
        click.echo()
        print_deployments(page.items, model=False)
    else:
        click.echo("It has no deployment yet: `prefect-lume deployments create`.")
    if page.next_page_token:
        click.echo("There are older ones: `prefect-lume deployments list`.", err=True)


@command.command("create")
@click.option("--author", required=True, help="Who made it.")
@click.option("--laboratory", required=True, help="For example slac.")
@click.option("--facility", required=True, help="For example lcls.")
@click.option("--beampath", required=True, help="For example cu_hxr.")
@click.option("--description", required=True, help="What it is.")
@change_options
def create(
    author: str,
    laboratory: str,
    facility: str,
    beampath: str,
    description: str,
    reason: str,
    dry_run: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Register a model. One with the same five fields is there already."""
    perform(
        naming.open_registry(services),
        lambda registry: registry.store_model(
            author=author,
            laboratory=laboratory,
            facility=facility,
            beampath=beampath,
            description=description,
            reason=reason,
        ),
        dry_run=dry_run,
        as_json=as_json,
    )


@command.command("tag")
@naming.model_argument
@tag_options
@change_options
def tag(
    model: str,
    pairs: tuple[str, ...],
    remove: tuple[str, ...],
    reason: str,
    dry_run: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Set tags of a model, or remove them."""
    tags = tags_of(pairs, remove)
    registry = naming.open_registry(services)
    number = naming.find_model(registry, model).model_id
    perform(
        registry,
        lambda service: service.tag_model(number, tags, reason=reason),
        dry_run=dry_run,
        as_json=as_json,
    )


@command.command("delete")
@naming.model_argument
@click.option("--force", is_flag=True, help="Also while a deployment is live.")
@guarded_options
def delete(
    model: str,
    force: bool,
    reason: str,
    yes: bool,
    dry_run: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Remove a model with its deployments. Its history and results stay."""
    registry = naming.open_registry(services)
    record = naming.find_model(registry, model)
    number = record.model_id
    deployments = registry.count_deployments(f"model_id = {number}")
    perform(
        registry,
        lambda service: service.delete_model(number, force, reason=reason),
        question=f"Delete model {number} ({say(record.description)}) with "
        f"{counted(deployments, 'deployment')}?",
        yes=yes,
        dry_run=dry_run,
        as_json=as_json,
    )


@command.command("history")
@click.argument("model")
@limit_option
@services_option
@json_option
def history(model: str, limit: int, services: str | None, as_json: bool) -> None:
    """Show what was changed, by whom, when and why; by number also of a gone one."""
    registry = naming.open_registry(services)
    number = (
        int(model)
        if model.isascii() and model.isdigit()
        else naming.find_model(registry, model).model_id
    )
    events = registry.get_history(model_id=number, limit=limit)
    if not events:
        naming.find_model(registry, model)
    tell_history(events, as_json=as_json)


@command.command("report")
@click.option(
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; otherwise it is printed.",
)
@services_option
def report(path: Path | None, services: str | None) -> None:
    """Write what is live, since when, by whom and why, as a Markdown page."""
    from prefect_lume.tasks._registry_markdown import registry_markdown

    text = registry_markdown(naming.open_registry(services))
    if path is None:
        click.echo(text)
    else:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InvalidInputError(
                f"The page cannot be written to {str(path)!r}: {error.strerror}. Name "
                f"a file in a folder that exists."
            ) from error
        click.echo(f"Written to {path}.", err=True)
