"""``prefect-lume runs digest``: how often each pipeline ran, and how well."""

from __future__ import annotations

import json

import click
from rich.text import Text

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._tables import cell, output, plain_table
from prefect_lume.cli.runs._lookup import NO_RUNS
from prefect_lume.cli.runs._parameters import open_services
from prefect_lume.cli.runs._shown import time_text
from prefect_lume.errors import NotFoundError
from prefect_lume.pipelines.describing import duration_text
from prefect_lume.pipelines.digest import PipelineDigest

_NUMBERS = ("runs", "succeeded", "failed", "open", "success", "average")


@click.command("digest")
@click.option("--pipeline", metavar="NAME", help="Only this pipeline (flow).")
@services_option
@json_option
def command(pipeline: str | None, services: str | None, as_json: bool) -> None:
    """Show how often each pipeline ran, and how well.

    A pipeline that runs over objects counts once for each object.
    """
    digest = open_services(services).pipeline_storage().get_pipeline_digest()
    if pipeline is not None:
        if pipeline not in digest:
            hint = "" if digest else NO_RUNS
            raise NotFoundError("pipeline", pipeline, digest, hint)
        digest = {pipeline: digest[pipeline]}
    if as_json:
        found = {name: item.as_json() for name, item in digest.items()}
        click.echo(json.dumps(found))
    elif digest:
        _print(digest)
    else:
        click.echo(NO_RUNS, err=True)


def _print(digest: PipelineDigest) -> None:
    table = plain_table(
        "pipeline",
        "runs",
        "succeeded",
        "failed",
        "open",
        "success",
        "average",
        "last ran (UTC)",
        numbers=_NUMBERS,
    )
    for column in table.columns[1:]:
        column.no_wrap = True
    for name, item in digest.items():
        rate = item.total_success / item.total_runs if item.total_runs else None
        table.add_row(
            cell(name),
            cell(item.total_runs),
            cell(item.total_success),
            Text(str(item.total_failure), style="red" if item.total_failure else "dim"),
            Text(str(item.total_open), style="cyan" if item.total_open else "dim"),
            cell("" if rate is None else f"{rate:.1%}"),
            cell(duration_text(item.average_runtime)),
            cell(time_text(item.last_ran)),
        )
    output().print(table)
