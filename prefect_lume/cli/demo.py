"""``prefect-lume demo``: the main job, from an empty machine to a plot."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort
from rich.console import Console
from rich.table import Table

import prefect_lume
from prefect_lume._optional import require
from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli._progress import Steps, Watcher, quiet_prefect
from prefect_lume.cli._provenance import (
    file_references,
    outputs_table,
    provenance_rows,
    provenance_table,
)
from prefect_lume.cli.runs.list_ import print_runs
from prefect_lume.composer import FlowOfFlows
from prefect_lume.config import Context, open_context
from prefect_lume.errors import PackageError
from prefect_lume.models import Model
from prefect_lume.pipelines.rows import ExecutionRow, Kind

if TYPE_CHECKING:
    from prefect_lume.registry import DeploymentRecord
    from prefect_lume.results import FileReference

_PROJECT = "injector"
_MODEL = {
    "author": "The prefect-lume developers",
    "laboratory": "example",
    "facility": "injector",
    "beampath": "gun to triplet",
    "description": "Electron bunch through a solenoid and a triplet",
}
#: Outputs that the table shows.
_SHOWN = (
    "plane",
    "final_norm_emit_x",
    "final_norm_emit_y",
    "norm_emit",
    "beta",
    "alpha",
    "sigma",
    "sigma_max",
    "s_max",
    "transmission",
)
#: Results of earlier runs that the table shows beside the new ones.
_EARLIER = 6


def example_package() -> Path:
    """Return the folder of the example's source, in the wheel or in a checkout.

    Raises:
        PackageError: Neither is there.
    """
    package = Path(prefect_lume.__file__).parent
    for folder in (
        package / "_examples" / "injector",
        package.parent / "examples" / "injector",
    ):
        if (folder / "pyproject.toml").is_file():
            return folder
    raise PackageError(
        f"The example package is not with this installation ({package}): install "
        f"prefect-lume from its wheel or from a checkout."
    )


@dataclass(frozen=True)
class Outcome:
    """What one run of the demo left.

    Attributes:
        chain: The flow-of-flows, as it was read back from the registry.
        deployment: The model's release that ran.
        flow_runs: Subflow → flow run id.
        rows: Every stored result of the project, the latest last.
        plots: The plots of this run, as paths or addresses.
        seconds: How long it took.
    """

    chain: FlowOfFlows
    deployment: DeploymentRecord
    flow_runs: Mapping[str, str]
    runs: list[ExecutionRow]
    rows: list[dict[str, Any]]
    plots: list[str]
    seconds: float


def run_demo(context: Context, parameters: Mapping[str, Any], steps: Steps) -> Outcome:
    """Register, compose from the registry, run, and collect what was stored.

    Args:
        context: Where everything is kept.
        parameters: Parameters of the parent flow.
        steps: Where progress is shown.
    """
    start = time.perf_counter()
    folder = example_package()
    services = context.services
    with steps.step("Starting Prefect"), get_client(sync_client=True) as client:
        client.hello()
    with steps.step("Opening the registry"):
        context.scheduling_service().create_project(_PROJECT, "The built-in example")
    with steps.step("Registering the model, its deployment and its flows"):
        model = Model.create_model(**_MODEL, services=services)
        deployment = model.store_deployment(folder, _PROJECT)
    with steps.step("Registering the flow-of-flows and composing it"):
        FlowOfFlows.from_yaml(folder / "injector.yaml", services=services).register()
        chain = FlowOfFlows.from_registry(_PROJECT, _PROJECT, services=services)
        parent = chain.compose(observer=Watcher(steps))
    flow_runs: Mapping[str, str] = parent(**parameters)
    with steps.step("Reading the results back"):
        # Lazily: arrays and tables of earlier runs are not looked at.
        service = context.results_db_service()
        results = list(service.find(_PROJECT, sort=["date_modified"], lazy=True))
        ids = set(flow_runs.values())
        new = [result for result in results if result.flow_run_id in ids]
        rows = provenance_rows(context, results, _run_names(results))
        plots = [
            _address(context, file)
            for result in new
            for file in file_references(result.outputs)
        ]
    runs = _executions(context, flow_runs)
    seconds = time.perf_counter() - start
    return Outcome(chain, deployment, flow_runs, runs, rows, plots, seconds)


def _executions(context: Context, flow_runs: Mapping[str, str]) -> list[ExecutionRow]:
    """Return what is recorded of the parent's run, and of those of its subflows."""
    storage = context.pipeline_storage()
    below = storage.find(Kind.EXECUTION, {"id": list(flow_runs.values())})
    above = [row.parent_run_id for row in below if isinstance(row, ExecutionRow)]
    rows = storage.find(Kind.EXECUTION, {"id": [id_ for id_ in above if id_]}) + below
    return [row for row in rows if isinstance(row, ExecutionRow)]


def _run_names(results: list[Any]) -> dict[str, str]:
    """Return the names of the results' flow runs, as far as this server knows them."""
    ids = sorted({result.flow_run_id for result in results if result.flow_run_id})
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids[-100:])),
            sort=FlowRunSort.START_TIME_DESC,
            limit=100,
        )
    return {str(run.id): run.name for run in runs}


def _address(context: Context, file: FileReference) -> str:
    """Return where a person finds a file: its path if it is on this machine."""
    if file.storage:
        return f"{file.storage}: {file.path}"
    return str(context.home / "files" / file.path)


def _places(context: Context, outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for status in context.check():
        table.add_row(status.service, f"{status.where} ({status.detail})")
    table.add_row("package", outcome.deployment.source)
    table.add_row("sha256", outcome.deployment.sha256)
    return table


def _shown_rows(outcome: Outcome) -> tuple[list[dict[str, Any]], int]:
    """Return the new rows with the latest earlier ones, and how many are left out."""
    new = set(outcome.flow_runs.values())
    earlier = [row for row in outcome.rows if row["flow_run_id"] not in new]
    mine = [row for row in outcome.rows if row["flow_run_id"] in new]
    return earlier[-_EARLIER:] + mine, max(0, len(earlier) - _EARLIER)


def _print(context: Context, outcome: Outcome) -> None:
    console = Console()
    console.print(outcome.chain.describe(), highlight=False, markup=False)
    console.print("[bold]Where everything lies[/]")
    console.print(_places(context, outcome))
    console.print("\n[bold]What ran[/] (recorded; `prefect-lume runs show RUN`)")
    print_runs(outcome.runs, {})
    rows, hidden = _shown_rows(outcome)
    console.print("\n[bold]Stored results[/] (this run's in bold)")
    new = set(outcome.flow_runs.values())
    console.print(provenance_table(rows, new))
    if hidden:
        console.print(f"[dim]… and {hidden} of earlier runs[/]")
    console.print("\n[bold]What came out[/] (SI units)")
    fresh = [row for row in outcome.rows if row["flow_run_id"] in new]
    console.print(outputs_table(fresh, _SHOWN))
    console.print("\n[bold]Plots[/]")
    for plot in outcome.plots:
        # Whole, however long: it is there to be copied.
        console.print(plot, soft_wrap=True, highlight=False)
    console.print(f"\nDone in {outcome.seconds:.1f} s.")


@click.command("demo")
@click.option(
    "--n-particle",
    type=click.IntRange(16, 5_000_000),
    default=10_000,
    show_default=True,
    help="Macroparticles of the bunch.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Seed of the bunch's random numbers.",
)
@services_option
@json_option
def command(n_particle: int, seed: int, services: str | None, as_json: bool) -> None:
    """Run the main job on the built-in example.

    Registers an accelerator model, composes three of its flows from the registry, runs
    them, and shows what was stored, where it lies and where it came from. Nothing needs
    to be prepared; running it again adds results and changes none.
    """
    require("beamphysics", "The demo")
    steps = Steps(Console(stderr=True))
    parameters = {"generate__n_particle": n_particle, "generate__seed": seed}
    with quiet_prefect(), steps.shown():
        context = open_context(services)
        outcome = run_demo(context, parameters, steps)
    if as_json:
        report = {
            "deployment_id": outcome.deployment.deployment_id,
            "flow_runs": dict(outcome.flow_runs),
            "runs": [row.run_id for row in outcome.runs],
            "plots": outcome.plots,
            "results": outcome.rows,
            "seconds": round(outcome.seconds, 2),
        }
        click.echo(json.dumps(report))
    else:
        _print(context, outcome)
