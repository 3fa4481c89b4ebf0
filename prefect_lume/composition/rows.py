"""A specification as plain rows, the form in which a registry keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from prefect_lume.composition.loader import spec_from_mapping
from prefect_lume.composition.spec import FlowOfFlowsSpec
from prefect_lume.errors import CompositionError, Problem


class SubflowRow(TypedDict):
    """One subflow, in types that JSON has."""

    name: str
    flow_name: str
    project_name: str
    position: int
    mapped_parameters: dict[str, Any]
    parameters: dict[str, Any]
    options: dict[str, Any]


class Composition(TypedDict):
    """What a parent has beside its name, project and subflows."""

    description: str
    labels: list[str]
    version: str


_OPTIONS = ("prefect_deployment", "labels")


def spec_to_rows(spec: FlowOfFlowsSpec) -> list[SubflowRow]:
    """Return the subflows as rows, with every position written down.

    Example:
        >>> from prefect_lume.composition import ComposingFlow
        >>> spec = FlowOfFlowsSpec(
        ...     name="chain", project_name="test",
        ...     composing_flows=[ComposingFlow(name="first")],
        ... )
        >>> [(row["name"], row["position"]) for row in spec_to_rows(spec)]
        [('first', 1)]
    """
    rows: list[SubflowRow] = []
    for flow in spec.with_positions().composing_flows:
        plain = flow.to_mapping()
        rows.append(
            SubflowRow(
                name=flow.name,
                flow_name=flow.flow_name,
                project_name=flow.project_name,
                position=plain["position"],
                mapped_parameters=plain.get("mapped_parameters", {}),
                parameters=plain.get("parameters", {}),
                options={key: plain[key] for key in _OPTIONS if key in plain},
            )
        )
    return rows


def composition_of(spec: FlowOfFlowsSpec) -> Composition:
    """Return what the rows do not hold, to be kept with the parent."""
    return Composition(
        description=spec.description, labels=list(spec.labels), version=spec.version
    )


def spec_from_rows(
    name: str,
    project_name: str,
    rows: Iterable[Mapping[str, Any]],
    composition: Mapping[str, Any] | None = None,
) -> FlowOfFlowsSpec:
    """Return the specification that was kept as rows.

    Args:
        name: The parent's name.
        project_name: The parent's project.
        rows: As :func:`spec_to_rows` made them, in any order of positions.
        composition: As :func:`composition_of` made it.

    Raises:
        CompositionError: The rows do not describe a flow-of-flows.
    """
    source = f"The registry's flow-of-flows {name!r}"
    flows = []
    for index, row in enumerate(rows):
        options = row.get("options") or {}
        wrong = sorted(set(options) - set(_OPTIONS))
        if wrong:
            where = f"composing_flows[{index}].options"
            message = f"Unknown options: {', '.join(map(str, wrong))}."
            raise CompositionError([Problem(message, where)], source)
        plain = {key: row[key] for key in SubflowRow.__annotations__ if key in row}
        plain.pop("options", None)
        flows.append({**plain, **options})
    kept = composition or {}
    mapping = {
        "name": name,
        "project_name": project_name,
        "description": kept.get("description") or "",
        "labels": list(kept.get("labels") or []),
        "composing_flows": flows,
    }
    return spec_from_mapping(mapping, source=source)
