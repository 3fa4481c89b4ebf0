"""Everything that can be wrong between a specification and its flows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from prefect_lume.composition.fit import (
    FILE_REFERENCE,
    can_hold_file,
    marks_of,
    misfit,
    type_name,
    types_of,
)
from prefect_lume.composition.lines import LineMap, Path, problem_at
from prefect_lume.composition.signature import FLOW_RETURN, Schema, SubflowSignature
from prefect_lume.composition.spec import (
    ComposingFlow,
    FlowOfFlowsSpec,
    MappedParameter,
)
from prefect_lume.errors import Problem, name_list, suggestion


class Checker:
    """Collects the problems of one specification."""

    def __init__(
        self,
        spec: FlowOfFlowsSpec,
        signatures: Mapping[str, SubflowSignature],
        lines: LineMap | None,
        known_flows: Iterable[str] = (),
    ) -> None:
        self._spec = spec
        self._signatures = signatures
        self._lines = lines
        self._flows = {flow.name: flow for flow in spec.composing_flows}
        self._index = {flow.name: i for i, flow in enumerate(spec.composing_flows)}
        self._positions = spec.positions()
        self._known_flows = {
            *known_flows,
            *(signature.flow_name for signature in signatures.values()),
        }
        self._problems: list[Problem] = []

    def run(self, *, closed: bool) -> list[Problem]:
        """Return all problems; ``closed``: the parent has no required parameter."""
        in_cycle = self._cycles()
        for flow in self._spec.composing_flows:
            signature = self._signatures.get(flow.name)
            if signature is None:
                self._unknown_flow(flow)
            self._self_reference(flow)
            for parameter, mapped in flow.mapped_parameters.items():
                self._parameter(flow, "mapped_parameters", parameter, signature)
                later_is_fine = (flow.name, parameter) in in_cycle
                self._mapping(flow, parameter, mapped, later_is_fine)
            for parameter in flow.parameters:
                self._parameter(flow, "parameters", parameter, signature)
                self._constant(flow, parameter, signature)
            if closed and signature is not None:
                self._closed(flow, signature)
        self._exposed_names()
        return self._problems

    def _add(self, flow: ComposingFlow, steps: Path, message: str) -> None:
        path = ("composing_flows", self._index[flow.name], *steps)
        self._problems.append(problem_at(path, message, self._lines))

    def _unknown_flow(self, flow: ComposingFlow) -> None:
        known = self._known_flows
        self._add(
            flow,
            ("flow_name",) if flow.flow_name != flow.name else ("name",),
            f"There is no flow {flow.flow_name!r} in the project "
            f"{flow.project_name!r}.{suggestion(flow.flow_name, known)} Known flows: "
            f"{name_list(known)}. Register it, or correct its name.",
        )

    def _self_reference(self, flow: ComposingFlow) -> None:
        parent = (self._spec.name, self._spec.project_name)
        if (flow.flow_name, flow.project_name) == parent:
            self._add(
                flow,
                ("name",),
                f"The flow {flow.flow_name!r} is the parent itself, which cannot be "
                "its own subflow.",
            )

    def _parameter(
        self,
        flow: ComposingFlow,
        section: str,
        parameter: str,
        signature: SubflowSignature | None,
    ) -> None:
        path: Path = (section, parameter)
        if signature is not None and parameter not in signature.parameters:
            known = signature.parameters
            self._add(
                flow,
                path,
                f"The flow {flow.flow_name!r} has no parameter {parameter!r}."
                f"{suggestion(parameter, known)} Its parameters: {name_list(known)}.",
            )
        if section == "parameters" and parameter in flow.mapped_parameters:
            self._add(
                flow,
                path,
                f"The parameter {parameter!r} is both mapped and constant. Keep one.",
            )

    def _constant(
        self, flow: ComposingFlow, parameter: str, signature: SubflowSignature | None
    ) -> None:
        spec = signature.parameters.get(parameter) if signature else None
        if spec is None:
            return
        reason = misfit(flow.parameters[parameter], spec)
        if reason:
            self._add(
                flow,
                ("parameters", parameter),
                f"The constant does not fit the parameter, which takes "
                f"{type_name(spec.schema)}: {reason}.",
            )

    def _mapping(
        self,
        flow: ComposingFlow,
        parameter: str,
        mapped: MappedParameter,
        later_is_fine: bool,
    ) -> None:
        path: Path = ("mapped_parameters", parameter)
        for key in ("attribute", "attribute_index"):
            if getattr(mapped, key) is not None and mapped.map_type != "db":
                self._add(
                    flow,
                    (*path, key),
                    f"{key} goes with map_type: db only; here map_type is "
                    f"{mapped.map_type}. Remove {key} or change map_type.",
                )
        name = mapped.parent_flow_name
        upstream = self._flows.get(name)
        path_name = (*path, "parent_flow_name")
        if upstream is None:
            self._add(
                flow,
                path_name,
                f"There is no subflow {name!r} here.{suggestion(name, self._flows)} "
                f"The subflows: {name_list(self._flows)}.",
            )
            return
        if upstream is flow:
            self._add(flow, path_name, f"The subflow {name!r} is mapped to itself.")
            return
        self._project(flow, path, mapped, upstream)
        here, there = self._positions[flow.name], self._positions[name]
        if there > here and not later_is_fine:
            self._add(
                flow,
                path_name,
                f"The subflow {name!r} has position {there} and runs after "
                f"{flow.name!r}, which has position {here}. A value can come from an "
                "earlier or equal position only: move one of them.",
            )
        self._task(flow, path, mapped, upstream)
        self._fit(flow, parameter, mapped, upstream)

    def _project(
        self,
        flow: ComposingFlow,
        path: Path,
        mapped: MappedParameter,
        upstream: ComposingFlow,
    ) -> None:
        project = mapped.parent_project_name
        if project is not None and project != upstream.project_name:
            self._add(
                flow,
                (*path, "parent_project_name"),
                f"The subflow {upstream.name!r} belongs to the project "
                f"{upstream.project_name!r}, not {project!r}. Correct it or leave "
                "parent_project_name out.",
            )

    def _task(
        self,
        flow: ComposingFlow,
        path: Path,
        mapped: MappedParameter,
        upstream: ComposingFlow,
    ) -> None:
        task = mapped.parent_task_name
        signature = self._signatures.get(upstream.name)
        if task is None or signature is None or signature.tasks is None:
            return
        if task not in signature.tasks:
            known = signature.tasks
            self._add(
                flow,
                (*path, "parent_task_name"),
                f"The flow {upstream.flow_name!r} has no task {task!r}."
                f"{suggestion(task, known)} Its tasks: {name_list(known)}.",
            )

    def _fit(
        self,
        flow: ComposingFlow,
        parameter: str,
        mapped: MappedParameter,
        upstream: ComposingFlow,
    ) -> None:
        if mapped.map_type == "db":
            return
        target = self._schema(flow.name, parameter)
        task = mapped.parent_task_name
        returned = self._returned(upstream.name, task)
        what = f"task {task!r}" if task else f"flow {upstream.flow_name!r}"
        path = ("mapped_parameters", parameter)
        if mapped.map_type == "file":
            if target is not None and not can_hold_file(target):
                self._add(
                    flow,
                    path,
                    f"The parameter {parameter!r} takes {type_name(target)} and cannot "
                    "hold a file reference. Annotate it as FileReference in the flow.",
                )
            if returned is not None and not can_hold_file(returned):
                self._add(
                    flow,
                    path,
                    f"map_type: file needs a file reference, and the {what} returns "
                    f"{type_name(returned)}. Return a FileReference, or change "
                    "map_type.",
                )
            return
        if target is None or returned is None:
            return
        if not types_of(target) & types_of(returned):
            files = FILE_REFERENCE in marks_of(returned)
            self._add(
                flow,
                path,
                f"The {what} returns {type_name(returned)}, which the parameter "
                f"{parameter!r} cannot take: it takes {type_name(target)}."
                + (" map_type: file may be meant." if files else ""),
            )

    def _schema(self, subflow: str, parameter: str) -> Schema | None:
        signature = self._signatures.get(subflow)
        spec = signature.parameters.get(parameter) if signature else None
        return spec.schema if spec else None

    def _returned(self, subflow: str, task: str | None) -> Schema | None:
        signature = self._signatures.get(subflow)
        key = FLOW_RETURN if task is None else task
        return signature.task_returns.get(key) if signature else None

    def _closed(self, flow: ComposingFlow, signature: SubflowSignature) -> None:
        given = {*flow.mapped_parameters, *flow.parameters}
        for parameter in signature.parameters.values():
            if parameter.required and parameter.name not in given:
                self._add(
                    flow,
                    (),
                    f"The required parameter {parameter.name!r} of the flow "
                    f"{flow.flow_name!r} has no value. Map it, or give a constant "
                    "under parameters.",
                )

    def _exposed_names(self) -> None:
        seen: dict[str, tuple[ComposingFlow, str]] = {}
        for flow in self._spec.composing_flows:
            signature = self._signatures.get(flow.name)
            for parameter in signature.parameters if signature else ():
                if parameter in flow.mapped_parameters or parameter in flow.parameters:
                    continue
                name = f"{flow.slug}__{parameter}"
                other, first = seen.setdefault(name, (flow, parameter))
                if other is not flow:
                    self._add(
                        flow,
                        ("name",),
                        f"Its parameter {parameter!r} and {first!r} of {other.name!r} "
                        f"would both be the parent's parameter {name!r}. Rename one "
                        "of the subflows.",
                    )

    def _cycles(self) -> set[tuple[str, str]]:
        """Report every cycle; return the mappings that take part in one."""
        waits: dict[str, set[str]] = {name: set() for name in self._flows}
        for flow in self._spec.composing_flows:
            for mapped in flow.mapped_parameters.values():
                upstream = mapped.parent_flow_name
                if upstream in self._flows and upstream != flow.name:
                    waits[flow.name].add(upstream)
        found: set[tuple[str, str]] = set()
        while cycle := _cycle(waits):
            ring = cycle[:-1]
            start = ring.index(min(ring, key=self._index.__getitem__))
            ring = [*ring[start:], *ring[:start]]
            steps = list(zip(ring, [*ring[1:], ring[0]], strict=True))
            closing: tuple[ComposingFlow, str] | None = None
            for upstream, downstream in steps:
                waits[downstream].discard(upstream)
                flow = self._flows[downstream]
                for parameter, mapped in flow.mapped_parameters.items():
                    if mapped.parent_flow_name == upstream:
                        found.add((downstream, parameter))
                        closing = (flow, parameter)
            if closing is not None:
                self._report_cycle(ring, *closing)
        return found

    def _report_cycle(
        self, ring: list[str], flow: ComposingFlow, parameter: str
    ) -> None:
        drawn = " → ".join([*ring, ring[0]])
        self._add(
            flow,
            ("mapped_parameters", parameter, "parent_flow_name"),
            f"The subflows wait for each other in a circle: {drawn}. Remove one of "
            "the mappings.",
        )


def _cycle(waits: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as exc:
        return list(exc.args[1])
    return []
