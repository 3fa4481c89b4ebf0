"""What the parent flow runs: plain, immutable, and free of the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect import Flow

    from prefect_lume.composition import MappedParameter

#: Told what happens to each subflow: its name, and ``"started"``, ``"completed"`` or
#: ``"failed"``.
Observer = Callable[[str, str], None]

#: The values of the parent's reserved parameter ``run_subflows``.
IN_PROCESS = "in-process"
DEPLOYMENTS = "deployments"


@dataclass(frozen=True)
class Step:
    """One subflow, ready to be run.

    Attributes:
        name: Its name inside the parent, and of its flow runs.
        flow_name: The flow's name in Prefect.
        project_name: Its project, a tag of its flow runs.
        flow: The flow object; ``None`` when only a Prefect deployment is known.
        prefect_deployment: ``"flow name/deployment name"`` in Prefect.
        registry_deployment: The registry's deployment that serves the flow.
        mapped: Parameter → where its value comes from.
        constants: Parameter → value.
        exposed: Parameter → the parent's parameter that feeds it.
        references: The parameters that take a result reference as it is.
        kept: The tasks whose results are read by later subflows.
        labels: Further tags of its flow runs.
    """

    name: str
    flow_name: str
    project_name: str
    prefect_deployment: str
    flow: Flow[..., Any] | None = field(default=None, hash=False)
    registry_deployment: int | None = None
    mapped: Mapping[str, MappedParameter] = field(default_factory=dict, hash=False)
    constants: Mapping[str, Any] = field(default_factory=dict, hash=False)
    exposed: Mapping[str, str] = field(default_factory=dict, hash=False)
    references: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()

    @property
    def tags(self) -> list[str]:
        """The tags of its flow runs."""
        project = [self.project_name] if self.project_name else []
        return [*project, *self.labels]


def _unobserved(subflow: str, event: str) -> None:
    """The observer of a plan that nobody watches."""


@dataclass(frozen=True)
class Plan:
    """The stages of a flow-of-flows, in order; a stage's steps run at the same time.

    Attributes:
        name: The parent flow's name.
        stages: The steps of each stage.
        services: The services of the composition: a Block, its name, or nothing.
        tags: The tags of the parent's runs.
        observer: Told what happens to each subflow, in the parent's thread.
    """

    name: str
    stages: tuple[tuple[Step, ...], ...]
    services: Any = field(default=None, hash=False, repr=False)
    tags: tuple[str, ...] = ()
    observer: Observer = field(default=_unobserved, hash=False, repr=False)

    def steps(self) -> Iterator[Step]:
        """Every step, stage by stage."""
        for stage in self.stages:
            yield from stage

    def step(self, name: str) -> Step:
        """Return the step of that name."""
        return next(step for step in self.steps() if step.name == name)
