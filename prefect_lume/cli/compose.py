"""``prefect-lume compose``: check, draw, register and run a flow-of-flows."""

from __future__ import annotations

import json
from typing import Any

import click
from prefect.exceptions import ParameterTypeError
from rich.console import Console

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli._progress import Steps, Watcher, quiet_prefect
from prefect_lume.composer import FlowOfFlows
from prefect_lume.errors import InvalidInputError, NotFoundError


def parse_parameters(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read ``name=value`` pairs; a value is JSON, or else text.

    Raises:
        InvalidInputError: A pair has no ``=``.

    Example:
        >>> parse_parameters(("a__n=3", "a__name=beam"))
        {'a__n': 3, 'a__name': 'beam'}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidInputError(
                f"{pair!r} is not a parameter: write name=value, for example "
                f"-p generate__seed=2."
            )
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def _load(source: str | None, registered: str | None, services: str | None) -> Any:
    if (source is None) == (registered is None):
        raise click.UsageError("Give a YAML file, or --from-registry PROJECT/NAME.")
    if source is not None:
        return FlowOfFlows.from_yaml(source, services=services)
    project, slash, name = str(registered).rpartition("/")
    return FlowOfFlows.from_registry(name, project if slash else None, services)


@click.command("compose")
@click.argument("source", required=False, metavar="[FILE]")
@click.option(
    "--from-registry", metavar="PROJECT/NAME", help="Read it from the registry instead."
)
@click.option("--run", is_flag=True, help="Run it, and wait for its end.")
@click.option(
    "--subflows",
    type=click.Choice(["in-process", "deployments"]),
    default="in-process",
    show_default=True,
    help="How --run runs the subflows.",
)
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the parent, for --run. The value is JSON, or else text.",
)
@click.option("--register", is_flag=True, help="Write it into the registry.")
@click.option("--mermaid", is_flag=True, help="Draw it as a Mermaid diagram.")
@services_option
@json_option
def command(
    source: str | None,
    from_registry: str | None,
    run: bool,
    subflows: str,
    parameters: tuple[str, ...],
    register: bool,
    mermaid: bool,
    services: str | None,
    as_json: bool,
) -> None:
    """Check a flow-of-flows and draw it, or run it.

    All problems are reported at once, each with its line in the file.
    """
    given = parse_parameters(parameters)
    with quiet_prefect():
        chain = _load(source, from_registry, services)
        graph = chain.validate()
        report: dict[str, Any] = {
            "name": chain.spec.name,
            "version": chain.spec.version,
            "stages": [[flow.name for flow in level] for level in graph.levels],
        }
        if not as_json:
            click.echo(graph.to_mermaid() if mermaid else chain.describe())
        if register:
            report["flow_id"] = chain.register()
            if not as_json:
                click.echo(f"registered as flow {report['flow_id']}")
        if run:
            report["flow_runs"] = _run(chain, subflows, given)
            if not as_json:
                for name, flow_run in report["flow_runs"].items():
                    click.echo(f"{name}: flow run {flow_run}")
    if as_json:
        click.echo(json.dumps(report))


def _run(chain: FlowOfFlows, subflows: str, given: dict[str, Any]) -> dict[str, str]:
    """Run a flow-of-flows, showing each subflow while it runs."""
    known = chain.graph.exposed
    for name in given:
        if name not in known:
            raise NotFoundError("parameter of the flow-of-flows", name, known)
    steps = Steps(Console(stderr=True))
    with steps.shown():
        parent = chain.compose(observer=Watcher(steps))
        try:
            runs: dict[str, str] = parent(run_subflows=subflows, **given)
        except ParameterTypeError as error:
            raise InvalidInputError(str(error)) from error
    return runs
