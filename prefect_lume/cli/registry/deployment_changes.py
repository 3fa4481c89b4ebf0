"""The commands of ``prefect-lume deployments`` that change something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from prefect_lume.cli.registry import _naming as naming
from prefect_lume.cli.registry._changing import (
    change_options,
    guarded_options,
    perform,
)
from prefect_lume.cli.registry._listing import tag_options, tags_of
from prefect_lume.cli.registry._shown import say
from prefect_lume.errors import InvalidInputError
from prefect_lume.registry import DeploymentRecord, ModelDBService, RegistryEvent

_Change = Callable[[ModelDBService, DeploymentRecord], Any]


def _perform(
    services: str | None, deployment: str, change: _Change, **options: Any
) -> None:
    registry = naming.open_registry(services)
    record = naming.find_deployment(registry, deployment)
    question = options.pop("ask", None)
    perform(
        registry,
        lambda service: change(service, record),
        question=question(record) if question else "",
        **options,
    )


def _title(record: DeploymentRecord) -> str:
    return (
        f"deployment {record.deployment_id} ({say(record.model.description)} "
        f"{say(record.version)})"
    )


@click.command("create")
@naming.model_argument
@click.argument("source")
@click.option("--project", required=True, help="Project of the package's flows.")
@click.option("--image", default=None, help="Container image; else the package's own.")
@click.option("--not-live", is_flag=True, help="Do not make it the live one.")
@click.option("--alias", multiple=True, help="A name that points at it.")
@click.option("--tag", "pairs", metavar="KEY=VALUE", multiple=True, help="A tag.")
@click.option("--description", default="", help="What is to be said of it.")
@click.option("--parent", metavar="DEPLOYMENT", help="What it was made from.")
@guarded_options
def create(
    model: str,
    source: str,
    project: str,
    image: str | None,
    not_live: bool,
    alias: tuple[str, ...],
    pairs: tuple[str, ...],
    description: str,
    parent: str | None,
    reason: str,
    yes: bool,
    dry_run: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Register a release from its package: an sdist, a wheel or a folder.

    The package is read, never run. What it would replace as the live one is asked
    about. A dry run registers no flow.
    """
    from prefect_lume.models import Model
    from prefect_lume.packages import inspect_source

    registry = naming.open_registry(services)
    record = naming.find_model(registry, model)
    made_from = (
        naming.find_deployment(registry, parent).deployment_id if parent else None
    )
    tags = (
        {key: value or "" for key, value in tags_of(pairs, ()).items()} if pairs else {}
    )
    registry.get_project(project)

    def as_row(service: ModelDBService) -> None:
        found = inspect_source(source)
        service.store_deployment(
            model_id=record.model_id,
            version=found.version,
            source=found.uri,
            sha256=found.sha256,
            package_import_name=found.import_name,
            image=image or found.image,
            is_live=not not_live,
            entrypoints=dict(found.flow_entrypoints),
            description=description,
            tags=tags,
            aliases=alias,
            parent_deployment_id=made_from,
        )

    def change(service: ModelDBService) -> None:
        if service.is_preview:
            as_row(service)
            return
        Model.get_model(services, model_id=record.model_id).store_deployment(
            source,
            project_name=project,
            image=image,
            is_live=not not_live,
            description=description,
            tags=tags,
            aliases=alias,
            parent_deployment_id=made_from,
            reason=reason,
            registry=service,
        )

    from prefect_lume.cli._progress import quiet_prefect

    with quiet_prefect():
        perform(
            registry,
            change,
            question=_replaces(record.description),
            yes=yes,
            dry_run=dry_run,
            as_json=as_json,
        )


def _replaces(model: str) -> Callable[[Sequence[RegistryEvent]], str]:
    def ask(events: Sequence[RegistryEvent]) -> str:
        moved = [event for event in events if event.previous_deployment_id is not None]
        if not moved:
            return ""
        return f"Let it take the place of what {say(model)} has there now?"

    return ask


@click.command("promote")
@naming.deployment_argument
@guarded_options
def promote(deployment: str, reason: str, services: str | None, **options: Any) -> None:
    """Make a deployment the live one of its model; its flows point at it."""
    registry = naming.open_registry(services)
    record = naming.find_deployment(registry, deployment)
    perform(
        registry,
        lambda service: service.promote(record.deployment_id, reason=reason),
        question=_replaces(record.model.description),
        **options,
    )


@click.command("demote")
@naming.model_argument
@guarded_options
def demote(model: str, reason: str, services: str | None, **options: Any) -> None:
    """Let no deployment of a model be live."""
    registry = naming.open_registry(services)
    record = naming.find_model(registry, model)
    perform(
        registry,
        lambda service: service.demote(record.model_id, reason=reason),
        question=f"Leave {say(record.description)} without a live deployment?",
        **options,
    )


@click.command("rollback")
@naming.model_argument
@guarded_options
def rollback(model: str, reason: str, services: str | None, **options: Any) -> None:
    """Make live again what was so before; once more goes further back."""
    registry = naming.open_registry(services)
    record = naming.find_model(registry, model)
    perform(
        registry,
        lambda service: service.rollback(record.model_id, reason=reason),
        question=f"Roll {say(record.description)} back?",
        **options,
    )


@click.command("alias")
@naming.deployment_argument
@click.argument("name")
@guarded_options
def alias(
    deployment: str, name: str, reason: str, services: str | None, **options: Any
) -> None:
    """Let a name of the model point at a deployment; it moves if it is taken."""
    registry = naming.open_registry(services)
    record = naming.find_deployment(registry, deployment)
    perform(
        registry,
        lambda service: service.set_alias(
            record.model_id, name, record.deployment_id, reason=reason
        ),
        question=_replaces(record.model.description),
        **options,
    )


@click.command("unalias")
@naming.model_argument
@click.argument("name")
@guarded_options
def unalias(
    model: str, name: str, reason: str, services: str | None, **options: Any
) -> None:
    """Remove a name. The deployment that it pointed at stays."""
    registry = naming.open_registry(services)
    record = naming.find_model(registry, model)
    perform(
        registry,
        lambda service: service.remove_alias(record.model_id, name, reason=reason),
        question=f"Remove the alias {say(name)} of {say(record.description)}?",
        **options,
    )


@click.command("tag")
@naming.deployment_argument
@tag_options
@change_options
def tag(
    deployment: str,
    pairs: tuple[str, ...],
    remove: tuple[str, ...],
    reason: str,
    services: str | None,
    **options: Any,
) -> None:
    """Set tags of a deployment, or remove them."""
    tags = tags_of(pairs, remove)
    _perform(
        services,
        deployment,
        lambda service, record: service.tag_deployment(
            record.deployment_id, tags, reason=reason
        ),
        **options,
    )


@click.command("describe")
@naming.deployment_argument
@click.argument("text")
@change_options
def describe(
    deployment: str, text: str, reason: str, services: str | None, **options: Any
) -> None:
    """Say something else of a deployment."""
    _perform(
        services,
        deployment,
        lambda service, record: service.describe_deployment(
            record.deployment_id, text, reason=reason
        ),
        **options,
    )


@click.command("retire")
@naming.deployment_argument
@guarded_options
def retire(deployment: str, reason: str, services: str | None, **options: Any) -> None:
    """Take a deployment out of use: it can neither be live nor have a name."""
    _perform(
        services,
        deployment,
        lambda service, record: service.retire_deployment(
            record.deployment_id, reason=reason
        ),
        ask=lambda record: f"Retire {_title(record)}?",
        **options,
    )


@click.command("restore")
@naming.deployment_argument
@change_options
def restore(deployment: str, reason: str, services: str | None, **options: Any) -> None:
    """Take a retired deployment back into use. It does not become live by that."""
    _perform(
        services,
        deployment,
        lambda service, record: service.restore_deployment(
            record.deployment_id, reason=reason
        ),
        **options,
    )


@click.command("delete")
@naming.deployment_argument
@click.option("--force", is_flag=True, help="Also if live, named, or with results.")
@guarded_options
def delete(
    deployment: str, force: bool, reason: str, services: str | None, **options: Any
) -> None:
    """Remove a deployment. Its history stays; one that has results is kept."""
    from prefect_lume.config import open_context
    from prefect_lume.models import uses_of_deployment

    registry = naming.open_registry(services)
    record = naming.find_deployment(registry, deployment)
    used = uses_of_deployment(open_context(services), record.deployment_id)
    if used and not force:
        raise InvalidInputError(
            f"{_title(record).capitalize()} is kept: it has {used}, which would name a "
            f"deployment that is gone. Retire it, or say --force."
        )
    perform(
        registry,
        lambda service: service.delete_deployment(
            record.deployment_id, force, reason=reason
        ),
        question=f"Delete {_title(record)}{f', which has {used}' if used else ''}?",
        **options,
    )


def add_to(group: click.Group) -> None:
    """Add the commands to the group."""
    for item in (
        create,
        promote,
        demote,
        rollback,
        alias,
        unalias,
        tag,
        describe,
        retire,
        restore,
        delete,
    ):
        group.add_command(item)
