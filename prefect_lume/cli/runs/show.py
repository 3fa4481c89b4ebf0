"""``prefect-lume runs show``: one run, all that lies below it, and where it is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._tables import output
from prefect_lume.cli.runs._drawing import draw, tree_json
from prefect_lume.cli.runs._following import follow_lines, follow_live
from prefect_lume.cli.runs._histories import (
    history_json,
    history_table,
    read_histories,
)
from prefect_lume.cli.runs._links import print_links, run_links, trace_json
from prefect_lume.cli.runs._lookup import find_run
from prefect_lume.cli.runs._parameters import open_services
from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.tree import FOLD, ExecutionTree, read_tree
from prefect_lume.provenance import trace_run


@click.command("show")
@click.argument("run")
@click.option(
    "--follow",
    "-f",
    is_flag=True,
    help="Go on until the run is over: redrawn on a terminal, a line for each change "
    "elsewhere.",
)
@click.option("--history", is_flag=True, help="Show every state change as well.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="List all objects, tasks and task runs, however many.",
)
@click.option(
    "--gantt",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw what ran when into a picture (.svg or .png).",
)
@services_option
@json_option
def command(
    run: str,
    follow: bool,
    history: bool,
    everything: bool,
    gantt: Path | None,
    services: str | None,
    as_json: bool,
) -> None:
    """Show a run: its objects, tasks and messages, and what it belongs to.

    RUN is the run's id or the beginning of it. Of many objects or task runs those that
    failed, run or wait are listed, the others are counted.
    """
    if gantt is not None and gantt.suffix.lower() not in {".svg", ".png"}:
        raise InvalidInputError(
            f"A plot is written into a .svg or .png file, which {str(gantt)!r} is not."
        )
    context = open_services(services)
    storage = context.pipeline_storage()
    run_id = find_run(storage, run)

    def read() -> ExecutionTree:
        return read_tree(storage, run_id, fold=None if everything else FOLD)

    console = output()
    drawn = follow and console.is_terminal and not as_json
    if drawn:
        tree = follow_live(console, read)
    elif follow:
        tree = follow_lines(read, as_json=as_json)
    else:
        tree = read()
    histories = read_histories(storage, tree) if history else []
    trace = trace_run(context, run_id)
    if as_json:
        found: dict[str, Any] = {**tree_json(tree), "links": trace_json(trace)}
        if history:
            found["history"] = history_json(histories)
        click.echo(json.dumps(found))
    else:
        if not follow:
            console.print(draw(tree))
        console.print()
        print_links(console, run_links(trace))
        if history:
            console.print()
            console.print(history_table(histories))
    if gantt is not None:
        _draw(storage, run_id, gantt)


def _draw(storage: PipelineStorage, run_id: str, file: Path) -> None:
    from prefect_lume.pipelines.gantt import plot_execution

    figure = plot_execution(storage, run_id)
    try:
        figure.savefig(file)
    except OSError as error:
        raise InvalidInputError(
            f"The plot cannot be written to {str(file)!r}: {error.strerror}. Name a "
            f"file in a folder that exists."
        ) from error
    click.echo(f"Drawn into {file}.", err=True)
