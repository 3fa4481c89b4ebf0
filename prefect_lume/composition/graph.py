"""A flow-of-flows that was checked: its stages, its mappings, its own parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from prefect_lume.composition.checks import Checker
from prefect_lume.composition.drawing import draw, mermaid
from prefect_lume.composition.lines import LineMap, refuse
from prefect_lume.composition.signature import ParameterSpec, SubflowSignature
from prefect_lume.composition.spec import ComposingFlow, FlowOfFlowsSpec, MapType


@dataclass(frozen=True)
class ExposedParameter:
    """A subflow's parameter that is one of the parent's own.

    Attributes:
        subflow: The subflow's name.
        parameter: The parameter's name on the subflow.
        spec: Its schema, default and description.
    """

    subflow: str
    parameter: str
    spec: ParameterSpec


@dataclass(frozen=True)
class Edge:
    """One mapped parameter.

    Attributes:
        upstream: The subflow that the value comes from.
        downstream: The subflow that receives it.
        parameter: The downstream parameter.
        map_type: ``"raw"``, ``"file"`` or ``"db"``.
    """

    upstream: str
    downstream: str
    parameter: str
    map_type: MapType


@dataclass(frozen=True)
class CompositionGraph:
    """A checked flow-of-flows, ready to be composed.

    Attributes:
        spec: What it was made of.
        signatures: Subflow name → what is known of its flow.
        levels: Stages in the order they run; the members of one run at the same
            time.
        exposed: The parent's parameters, ``<subflow>__<parameter>``, in order.
        edges: The mapped parameters, in the order of the subflows.
    """

    spec: FlowOfFlowsSpec
    signatures: Mapping[str, SubflowSignature]
    levels: tuple[tuple[ComposingFlow, ...], ...]
    exposed: Mapping[str, ExposedParameter]
    edges: tuple[Edge, ...]

    def describe(self, width: int = 80) -> str:
        """Return a drawing for a terminal, no line wider than ``width`` columns."""
        parameters = {name: item.spec for name, item in self.exposed.items()}
        return draw(self.spec, self.levels, parameters, max(width, 40))

    def to_mermaid(self) -> str:
        """Return the graph as a Mermaid flow chart, for documents and web pages."""
        return mermaid(self.spec, self.levels)


def validate(
    spec: FlowOfFlowsSpec,
    signatures: Mapping[str, SubflowSignature],
    lines: LineMap | None = None,
    *,
    closed: bool = False,
    known_flows: Iterable[str] = (),
) -> CompositionGraph:
    """Check a specification against its flows.

    Args:
        spec: The specification.
        signatures: Subflow name → signature of its flow. A subflow that is not in
            it has an unknown flow.
        lines: The lines of the file; the specification's own by default.
        closed: True when the parent must run without any parameter: a required
            parameter that is neither mapped nor constant is then a problem. Otherwise
            it becomes a required parameter of the parent.
        known_flows: Names of flows to suggest, beside those of ``signatures``.

    Returns:
        The graph.

    Raises:
        CompositionError: Naming every problem at once, each with its line.

    Example:
        >>> from prefect_lume.composition import from_parameter_schema, load_yaml
        >>> spec = load_yaml('''
        ... name: chain
        ... project_name: test
        ... composing_flows:
        ...   - name: generate
        ...   - name: track
        ...     mapped_parameters:
        ...       beam: {parent_flow_name: generate}
        ... ''')
        >>> graph = validate(spec, {
        ...     "generate": from_parameter_schema(
        ...         "generate", {"properties": {"n": {"type": "integer"}}}
        ...     ),
        ...     "track": from_parameter_schema("track", {"properties": {"beam": {}}}),
        ... })
        >>> list(graph.exposed), [edge.parameter for edge in graph.edges]
        (['generate__n'], ['beam'])
    """
    lines = lines if lines is not None else spec.lines
    problems = Checker(spec, signatures, lines, known_flows).run(closed=closed)
    if problems:
        source = lines.source if lines and lines.source else ""
        raise refuse(problems, source or f"The flow-of-flows {spec.name!r}")
    edges = tuple(
        Edge(mapped.parent_flow_name, flow.name, parameter, mapped.map_type)
        for flow in spec.composing_flows
        for parameter, mapped in flow.mapped_parameters.items()
    )
    exposed = {
        f"{flow.slug}__{name}": ExposedParameter(flow.name, name, parameter)
        for flow in spec.composing_flows
        for name, parameter in signatures[flow.name].parameters.items()
        if name not in flow.mapped_parameters and name not in flow.parameters
    }
    return CompositionGraph(
        spec, dict(signatures), _levels(spec, edges), exposed, edges
    )


def _levels(
    spec: FlowOfFlowsSpec, edges: Iterable[Edge]
) -> tuple[tuple[ComposingFlow, ...], ...]:
    positions = spec.positions()
    levels: list[tuple[ComposingFlow, ...]] = []
    for position in sorted(set(positions.values())):
        here = {
            f.name: f for f in spec.composing_flows if positions[f.name] == position
        }
        waits: dict[str, set[str]] = {name: set() for name in here}
        for edge in edges:
            if edge.upstream in here and edge.downstream in here:
                waits[edge.downstream].add(edge.upstream)
        sorter = TopologicalSorter(waits)
        sorter.prepare()
        while sorter.is_active():
            ready = set(sorter.get_ready())
            levels.append(tuple(flow for name, flow in here.items() if name in ready))
            sorter.done(*ready)
    return tuple(levels)
