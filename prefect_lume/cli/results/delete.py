"""``prefect-lume results delete``: remove results that a query or hash names."""

from __future__ import annotations

import json
from typing import Any

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._lookup import whole_hash
from prefect_lume.cli.results._parameters import (
    dry_run_option,
    query_option,
    type_option,
    yes_option,
)
from prefect_lume.cli.results._running import confirm, open_results
from prefect_lume.errors import InvalidInputError, NotFoundError
from prefect_lume.results.describing import counted


@click.command("delete")
@click.argument("project")
@query_option
@click.option(
    "--hash",
    "hashes",
    metavar="HASH",
    multiple=True,
    help="Remove the result of this unique hash, or whose hash alone begins so. It may "
    "be given many times.",
)
@type_option
@dry_run_option
@yes_option
@services_option
@json_option
def command(
    project: str,
    query: dict[str, Any] | None,
    hashes: tuple[str, ...],
    result_type: str | None,
    dry_run: bool,
    yes: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Remove results of PROJECT, and the blobs that no other result holds.

    --query '{}' stands for all of them.
    """
    if query is None and not hashes:
        raise InvalidInputError(
            "Say what to remove: --query JSON or --hash HASH. --query '{}' stands for "
            "all results of the project."
        )
    service = open_results(services)
    if project not in service.projects():
        raise NotFoundError("project with results named", project, service.projects())
    wanted = _wanted(query, [whole_hash(service, project, text) for text in hashes])
    count = service.count(project, wanted, result_type=result_type)
    if not dry_run:
        if count and not yes:
            confirm(f"Remove {count} of {counted(service.count(project), 'result')}?")
        if count:
            count = service.delete(project, wanted, result_type=result_type)
    if as_json:
        found = {"project": project, "documents": count, "dry_run": dry_run}
        click.echo(json.dumps(found))
    else:
        verb = "Would remove" if dry_run else "Removed"
        click.echo(f"{verb} {counted(count, 'result')} of the project {project!r}.")


def _wanted(query: dict[str, Any] | None, hashes: list[str]) -> dict[str, Any]:
    if not hashes:
        return query or {}
    named = {"unique_hash": {"$in": hashes}}
    return {"$and": [named, query]} if query else named
