"""Pictures of a flow-of-flows: plain text for a terminal, Mermaid for the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from prefect_lume.composition.fit import type_name
from prefect_lume.composition.signature import MISSING, ParameterSpec
from prefect_lume.composition.spec import (
    ComposingFlow,
    FlowOfFlowsSpec,
    MappedParameter,
)
from prefect_lume.errors import clip

_Levels = Sequence[Sequence[ComposingFlow]]


def draw(
    spec: FlowOfFlowsSpec,
    levels: _Levels,
    parameters: Mapping[str, ParameterSpec],
    width: int,
) -> str:
    """Return stages, subflows and mappings as text, top to bottom.

    Args:
        spec: The flow-of-flows.
        levels: Its stages.
        parameters: The parent's own parameters.
        width: Most columns of a line.
    """
    count = len(spec.composing_flows)
    lines = [
        f"{spec.name}  (project {spec.project_name}, version {spec.version})",
        f"{_plural(count, 'subflow')} in {_plural(len(levels), 'stage')}",
    ]
    for number, level in enumerate(levels, start=1):
        together = f", {len(level)} at the same time" if len(level) > 1 else ""
        lines += ["", _rule(f"stage {number}{together}", width)]
        for flow in level:
            lines += _subflow(flow, width)
    if parameters:
        lines += ["", _rule("parameters of the parent", width)]
        left = min(max(map(len, parameters)), width // 2)
        lines += [
            f"  {clip(name, left):{left}}  {_parameter(parameter)}"
            for name, parameter in parameters.items()
        ]
    return "\n".join(clip(line, width) for line in lines) + "\n"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _rule(title: str, width: int) -> str:
    return f"── {title} ".ljust(width, "─")


def _subflow(flow: ComposingFlow, width: int) -> Iterator[str]:
    head = f"  ● {flow.name}"
    if flow.prefect_deployment:
        runs = f"Prefect deployment {flow.prefect_deployment}"
    else:
        runs = f"flow {flow.flow_name}"
    gap = width - len(head) - len(runs)
    yield f"{head}{' ' * max(gap, 2)}{runs}"
    names = [*flow.mapped_parameters, *flow.parameters]
    left = max(map(len, names), default=0)
    for name, mapped in flow.mapped_parameters.items():
        yield f"      {name:{left}} ◀─{mapped.map_type:─<4}── {origin(mapped)}"
    for name, value in flow.parameters.items():
        yield f"      {name:{left}} = {json.dumps(value, ensure_ascii=False)}"


def origin(mapped: MappedParameter) -> str:
    """Return where a mapped value comes from, in a few words.

    Example:
        >>> origin(MappedParameter(
        ...     parent_flow_name="track", parent_task_name="save", map_type="db",
        ...     attribute="outputs", attribute_index=["sizes", 0],
        ... ))
        "track.save → outputs['sizes'][0]"
    """
    task = f".{mapped.parent_task_name}" if mapped.parent_task_name else ""
    index = "".join(f"[{step!r}]" for step in mapped.attribute_index or ())
    narrowed = (mapped.attribute or "") + index
    return f"{mapped.parent_flow_name}{task}" + (f" → {narrowed}" if narrowed else "")


def _parameter(parameter: ParameterSpec) -> str:
    name = type_name(parameter.schema)
    if parameter.default is MISSING:
        return f"{name}, required" if parameter.required else name
    return f"{name} = {json.dumps(parameter.default, ensure_ascii=False, default=str)}"


def mermaid(spec: FlowOfFlowsSpec, levels: _Levels) -> str:
    """Return stages, subflows and mappings as a Mermaid flow chart."""
    nodes = {flow.name: f"s{i}" for i, flow in enumerate(spec.composing_flows)}
    lines = ["flowchart TD"]
    for number, level in enumerate(levels, start=1):
        lines.append(f'  subgraph stage{number}["stage {number}"]')
        for flow in level:
            label = _escape(flow.name)
            if flow.flow_name != flow.name:
                label += f"<br/>{_escape(flow.flow_name)}"
            lines.append(f'    {nodes[flow.name]}["{label}"]')
        lines.append("  end")
    for flow in spec.composing_flows:
        for name, mapped in flow.mapped_parameters.items():
            source, target = nodes[mapped.parent_flow_name], nodes[flow.name]
            label = _escape(f"{name} ({mapped.map_type})")
            lines.append(f'  {source} -->|"{label}"| {target}')
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    for character in '#"<>|&':
        text = text.replace(character, f"\0{ord(character)};")
    return text.replace("\0", "#")
