"""FlowOfFlows: a described chain of flows, as one Prefect flow."""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Self

from prefect import Flow

from prefect_lume.composer import deploying, registering
from prefect_lume.composer.location import Located, locate, prefect_deployment_name
from prefect_lume.composer.parent import make_flow
from prefect_lume.composer.plan import Observer, Plan, Step
from prefect_lume.composer.running import run_plan
from prefect_lume.composer.signatures import parent_parameters
from prefect_lume.composer.subflow import Subflow
from prefect_lume.composer.telling import told_at_import
from prefect_lume.composition import (
    RESULT_REFERENCE,
    ComposingFlow,
    CompositionGraph,
    FlowOfFlowsSpec,
    LineMap,
    SubflowSignature,
    load_yaml,
    spec_from_rows,
    validate,
)
from prefect_lume.composition.fit import marks_of
from prefect_lume.config import open_context
from prefect_lume.recorder import recorded
from prefect_lume.settings import LumeSettings

if TYPE_CHECKING:
    from prefect_lume.credentials import LumeServices
    from prefect_lume.registry import FlowRecord

_Flows = Mapping[str, Flow[..., Any] | str]


class FlowOfFlows:
    """A flow-of-flows: subflows at positions, with results of some feeding others.

    Each subflow's flow is looked for among `flows` first, then in the registry, then
    among Prefect's deployments.

    Args:
        spec: What it is made of.
        flows: Subflow name (or flow name) → flow, or `"module:attribute"`.
        services: The services Block, its name, or nothing for the default.
        lines: The lines of the file that `spec` was read from, for error messages.

    Example:
        ```python
        from prefect import flow
        from prefect_lume import FlowOfFlows

        @flow
        def first(n: int = 2) -> int:
            return n * 2

        @flow
        def second(value: int) -> int:
            return value + 1

        chain = FlowOfFlows.from_yaml(
            '''
            name: chain
            project_name: test
            composing_flows:
              - name: first
              - name: second
                mapped_parameters:
                  value: {parent_flow_name: first}
            ''',
            flows={"first": first, "second": second},
        )
        parent = chain.compose()

        if __name__ == "__main__":
            parent(first__n=20)
        ```
    """

    def __init__(
        self,
        spec: FlowOfFlowsSpec,
        flows: _Flows | None = None,
        services: LumeServices | str | None = None,
        lines: LineMap | None = None,
    ) -> None:
        self.spec = spec
        self.services = services
        self._given = dict(flows or {})
        self._lines = lines if lines is not None else spec.lines
        self._located: dict[str, Located] | None = None
        self._graph: CompositionGraph | None = None

    def __repr__(self) -> str:
        names = [flow.name for flow in self.spec.composing_flows]
        return f"FlowOfFlows({self.spec.name!r}, subflows={names!r})"

    @classmethod
    @told_at_import()
    def from_yaml(
        cls,
        source: str | os.PathLike[str],
        flows: _Flows | None = None,
        services: LumeServices | str | None = None,
    ) -> Self:
        """Read a flow-of-flows from a YAML file, or from YAML text.

        Args:
            source: The file's path, or the text.
            flows: Subflow name (or flow name) → flow, or `"module:attribute"`.
            services: The services Block, its name, or nothing for the default.

        Raises:
            NotFoundError: There is no such file.
            CompositionError: Naming every problem of the file, each with its line.
        """
        if isinstance(source, str):
            # Text in a docstring is indented; the lines keep their numbers.
            source = textwrap.dedent(source) if "\n" in source else source
        return cls(load_yaml(source), flows, services)

    @classmethod
    @told_at_import()
    def from_registry(
        cls,
        flow_name: str,
        project_name: str | None = None,
        services: LumeServices | str | None = None,
        flows: _Flows | None = None,
    ) -> Self:
        """Read a registered flow-of-flows.

        Args:
            flow_name: The parent flow's name.
            project_name: Its project; needed if the name is used in several.
            services: The services Block, its name, or nothing for the default.
            flows: Flows that take the place of the registered ones.

        Raises:
            NotFoundError: There is no such flow-of-flows.
            AmbiguousError: There are several.
        """
        registry = open_context(services).model_db_service()
        record = registry.get_flow_of_flows(
            flow_name=flow_name, project_name=project_name
        )
        rows = [
            {
                **asdict(subflow),
                "flow_name": subflow.flow.flow_name,
                "project_name": subflow.flow.project_name,
            }
            for subflow in record.subflows
        ]
        spec = spec_from_rows(
            record.parent.flow_name,
            record.parent.project_name,
            rows,
            record.composition,
        )
        return cls(spec, flows, services)

    @classmethod
    def of(
        cls,
        name: str,
        project_name: str,
        subflows: Sequence[Subflow | Flow[..., Any]],
        *,
        description: str = "",
        services: LumeServices | str | None = None,
    ) -> Self:
        """Make a flow-of-flows of flow objects.

        Args:
            name: The parent flow's name.
            project_name: Its project.
            subflows: Flows, or `Subflow`s that say more; without positions they run
                one after the other.
            description: What it is for.
            services: The services Block, its name, or nothing for the default.

        Raises:
            CompositionError: Naming every problem.
        """
        parts = [
            item if isinstance(item, Subflow) else Subflow(item) for item in subflows
        ]
        spec = FlowOfFlowsSpec(
            name=name,
            project_name=project_name,
            description=description,
            composing_flows=[part.composing for part in parts],
        )
        return cls(spec, {part.composing.name: part.flow for part in parts}, services)

    def signatures(self) -> dict[str, SubflowSignature]:
        """Return what is known of each subflow's flow; unknown flows are left out."""
        return {name: item.signature for name, item in self._flows().items()}

    def validate(self) -> CompositionGraph:
        """Check everything and return the graph.

        Raises:
            CompositionError: Naming every problem at once, with its line in the file.
            PackageError: The package of a registered flow cannot be imported.
        """
        if self._graph is None:
            self._graph = validate(
                self.spec, self.signatures(), self._lines, known_flows=self._known()
            )
        return self._graph

    @property
    def graph(self) -> CompositionGraph:
        """The checked graph: stages, mapped parameters, the parent's parameters."""
        return self.validate()

    def describe(self, width: int = 80) -> str:
        """Return a drawing of the flow graph for a terminal."""
        return self.graph.describe(width)

    def compose(
        self,
        variable: str = "parent",
        *,
        observer: Observer | None = None,
        record: bool | None = None,
    ) -> Flow[..., Any]:
        """Return the parent: a Prefect flow with a typed signature.

        Its parameters are keyword-only: `<subflow>__<parameter>` for everything that
        is neither mapped nor constant, and `run_subflows`, which is `"in-process"` or
        `"deployments"`, chosen for each run.

        Args:
            variable: The name of the variable that will hold the flow, by which
                `prefect deploy file.py:variable` finds it again.
            observer: Called in the parent's process with a subflow's name and what
                happened to it: `"started"`, `"completed"` or `"failed"`.
            record: Whether its runs are recorded as pipeline executions; by default
                as `PREFECT_LUME_RECORD` says, which is yes.

        Returns:
            A synchronous flow. It returns the flow run id of each subflow.

        Raises:
            CompositionError: Naming every problem at once.
        """
        frame = inspect.currentframe()
        caller = frame.f_back if frame is not None else None
        module = str(caller.f_globals.get("__name__", "")) if caller else ""
        with told_at_import():
            flows = {name: item.flow for name, item in self._flows().items()}
            parameters = parent_parameters(self.validate(), flows)
        parent = make_flow(
            self.plan(observer),
            parameters,
            run_plan,
            version=self.spec.version,
            description=self.spec.description,
            variable=variable,
            module=module,
        )
        if LumeSettings.load().record if record is None else record:
            return recorded(parent, services=self.services)
        return parent

    def register(self, services: LumeServices | str | None = None) -> str:
        """Write the parent and its subflows into the registry, in one transaction.

        Args:
            services: Whose registry; by default this flow-of-flows' own.

        Returns:
            The parent's flow id in Prefect.

        Raises:
            CompositionError: Naming every problem at once.
            NotFoundError: The flow of a subflow is not in the registry.
        """
        self.validate()
        return registering.register(self.spec, services or self.services)

    def deploy_subflows(
        self,
        work_pool_name: str,
        *,
        job_variables: Mapping[str, Any] | None = None,
        image: str | None = None,
        services: str | None = None,
    ) -> list[str]:
        """Create, or update, a Prefect deployment of every subflow's flow.

        Args:
            work_pool_name: The work pool that runs them.
            job_variables: Further job variables; those in `env` are added to ours.
            image: A container image; by default the registry's, if there is one.
            services: The name of the services Block that the subflows use.

        Returns:
            The names of the Prefect deployments, `"flow/deployment"`.

        Raises:
            CompositionError: Naming every problem at once.
            NotFoundError: There is no such work pool.
            ConfigurationError: A flow cannot be found again by a worker.
        """
        graph = self.validate()
        located = self._flows()
        return deploying.deploy(
            [(flow, located[flow.name]) for flow in graph.spec.composing_flows],
            work_pool_name,
            job_variables=job_variables or {},
            image=image,
            services=services or self.services,
        )

    def plan(self, observer: Observer | None = None) -> Plan:
        """Return what the parent flow runs, watched by an observer if there is one."""
        graph = self.validate()
        steps = {flow.name: self._step(flow, graph) for flow in self._composing(graph)}
        stages = tuple(
            tuple(steps[flow.name] for flow in level) for level in graph.levels
        )
        tags = (self.spec.project_name, *self.spec.labels)
        plan = Plan(self.spec.name, stages, self.services, tags)
        return plan if observer is None else replace(plan, observer=observer)

    @staticmethod
    def _composing(graph: CompositionGraph) -> list[ComposingFlow]:
        return [flow for level in graph.levels for flow in level]

    def _step(self, flow: ComposingFlow, graph: CompositionGraph) -> Step:
        located = self._flows()[flow.name]
        signature = located.signature
        references = frozenset(
            name
            for name, parameter in signature.parameters.items()
            if RESULT_REFERENCE in set(marks_of(parameter.schema))
        )
        kept = frozenset(
            mapped.parent_task_name
            for other in graph.spec.composing_flows
            for mapped in other.mapped_parameters.values()
            if mapped.parent_flow_name == flow.name and mapped.parent_task_name
        )
        exposed = {
            item.parameter: name
            for name, item in graph.exposed.items()
            if item.subflow == flow.name
        }
        deployment = located.deployment
        return Step(
            name=flow.name,
            flow_name=flow.flow_name,
            project_name=flow.project_name,
            prefect_deployment=prefect_deployment_name(flow),
            flow=located.flow,
            registry_deployment=deployment.deployment_id if deployment else None,
            mapped=flow.mapped_parameters,
            constants=flow.parameters,
            exposed=exposed,
            references=references,
            kept=kept,
            labels=tuple(flow.labels),
        )

    def _flows(self) -> dict[str, Located]:
        if self._located is None:
            found = {
                flow.name: locate(flow, self._given, self._inner, self.services)
                for flow in self.spec.composing_flows
            }
            self._located = {name: item for name, item in found.items() if item}
        return self._located

    def _inner(self, record: FlowRecord) -> Flow[..., Any]:
        """Return the flow of a registered flow-of-flows that takes part in this one."""
        names = record.flow_name, record.project_name
        return FlowOfFlows.from_registry(*names, services=self.services).compose()

    def _known(self) -> list[str]:
        """Return flow names to suggest, asked for only when a flow is missing."""
        if len(self._flows()) == len(self.spec.composing_flows):
            return []
        registry = open_context(self.services).model_db_service()
        return [flow.flow_name for flow in registry.get_flows()] + list(self._given)


__all__ = ["FlowOfFlows", "Subflow"]
