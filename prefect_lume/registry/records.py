"""What the registry returns: frozen records, never rows that load behind your back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class ModelRecord:
    """A scientific model.

    Attributes:
        model_id: The registry's number of the model.
        author: Who made it.
        laboratory: For example ``slac``.
        facility: For example ``lcls``.
        beampath: For example ``cu_hxr``.
        description: What it is.
        created: When it was registered, in UTC.
        tags: Key → value, what else people noted of it.
    """

    model_id: int
    author: str
    laboratory: str
    facility: str
    beampath: str
    description: str
    created: datetime
    tags: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ServedFlow:
    """A flow that a deployment serves now, and its project.

    Attributes:
        flow_id: Prefect's id of the flow.
        flow_name: Its name, unique within the project.
        project_name: The project that it belongs to.
        project_description: What that project is for.
    """

    flow_id: str
    flow_name: str
    project_name: str
    project_description: str


@dataclass(frozen=True)
class DeploymentRecord:
    """A versioned release of a model.

    Attributes:
        deployment_id: The registry's number of the deployment. Never used twice.
        model: The model that it is a release of.
        version: The release's version, unique within the model.
        deploy_date: When it was registered, in UTC.
        package_import_name: The name to import its package by.
        asset_dir: The folder with its assets, if it has one.
        source: Where its package comes from, as a URI.
        sha256: The hash of that source.
        image: The container image, if it has one.
        is_live: Whether it is the model's live deployment.
        entrypoints: Flow name → ``module:attribute``.
        description: What is to be said of this release.
        retired: When it was taken out of use, in UTC, or ``None``.
        parent_deployment_id: The deployment that it was made from, for example the
            simulation that a surrogate was trained on. It may have been deleted since.
        aliases: The names that point at it now, sorted.
        tags: Key → value, what else people noted of it.
        flows: The flows that it serves now, by project and name.
        has_lock: Whether its resolved environment is known.
        lock: That environment, as the text of a conda-lock file, where one deployment
            was asked for. A list of deployments comes without the locks, which may be
            megabytes each: ask for the one deployment to have its lock.
    """

    deployment_id: int
    model: ModelRecord
    version: str
    deploy_date: datetime
    package_import_name: str
    asset_dir: str | None
    source: str
    sha256: str
    image: str | None
    is_live: bool
    entrypoints: dict[str, str] = field(default_factory=dict, hash=False)
    description: str = ""
    retired: datetime | None = None
    parent_deployment_id: int | None = None
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict, hash=False)
    flows: tuple[ServedFlow, ...] = ()
    has_lock: bool = False
    lock: str | None = field(default=None, repr=False, compare=False)

    @property
    def model_id(self) -> int:
        """The number of the model."""
        return self.model.model_id


@dataclass(frozen=True)
class ProjectRecord:
    """A named group of flows.

    Attributes:
        project_name: Its name.
        description: What it is for.
        created: When it was registered, in UTC.
    """

    project_name: str
    description: str
    created: datetime


@dataclass(frozen=True)
class FlowRecord:
    """A flow, and the deployment that serves it now.

    Attributes:
        flow_id: Prefect's id of the flow.
        flow_name: Its name, unique within the project.
        project: The project that it belongs to.
        deployment: The deployment that serves it, or ``None`` for the parent of a
            flow-of-flows, which no package holds.
        created: When it was registered, in UTC.
        composition: What a parent keeps beside its subflows, else ``None``.
    """

    flow_id: str
    flow_name: str
    project: ProjectRecord
    deployment: DeploymentRecord | None
    created: datetime
    composition: dict[str, Any] | None = field(default=None, hash=False)

    @property
    def project_name(self) -> str:
        """The name of the project."""
        return self.project.project_name

    @property
    def deployment_id(self) -> int | None:
        """The number of the deployment that serves the flow, if there is one."""
        return self.deployment.deployment_id if self.deployment else None


@dataclass(frozen=True)
class SubflowRecord:
    """One subflow of a flow-of-flows.

    Attributes:
        name: Its name inside the parent. One flow may take part under several names.
        position: Its place, from 1. Equal positions may run at the same time.
        flow: The flow that runs.
        mapped_parameters: Parameter → which upstream result feeds it.
        parameters: Parameter → constant value.
        options: What else the composition keeps for this subflow.
    """

    name: str
    position: int
    flow: FlowRecord
    mapped_parameters: dict[str, Any] = field(default_factory=dict, hash=False)
    parameters: dict[str, Any] = field(default_factory=dict, hash=False)
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def flow_id(self) -> str:
        """Prefect's id of the flow that runs."""
        return self.flow.flow_id


@dataclass(frozen=True)
class FlowOfFlowsRecord:
    """A parent flow and its subflows.

    Attributes:
        parent: The parent flow.
        subflows: Its subflows, by position, then in the order they were given.
    """

    parent: FlowRecord
    subflows: tuple[SubflowRecord, ...]

    @property
    def composition(self) -> dict[str, Any]:
        """What the parent keeps beside its subflows."""
        return self.parent.composition or {}


@dataclass(frozen=True)
class SubflowEntry:
    """One subflow of a flow-of-flows that is to be stored.

    Attributes:
        flow_id: Prefect's id of a flow that the registry knows.
        name: Its name inside the parent, unique there.
        position: Its place, from 1. Equal positions may run at the same time.
        mapped_parameters: Parameter → which upstream result feeds it.
        parameters: Parameter → constant value.
        options: What else to keep for this subflow.
    """

    flow_id: str
    name: str
    position: int
    mapped_parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class FlowUse:
    """One place where a flow takes part in a flow-of-flows.

    Attributes:
        parent_flow_id: Prefect's id of the parent.
        parent_flow_name: The parent's name.
        project_name: The parent's project.
        name: The subflow's name inside the parent.
        position: Its place there, from 1.
    """

    parent_flow_id: str
    parent_flow_name: str
    project_name: str
    name: str
    position: int


@dataclass(frozen=True)
class RegistryEvent:
    """One change of the registry. Once written it is never changed.

    Attributes:
        subject: ``"model"`` or ``"project"``: whose history it is part of.
        subject_id: The model's number as text, or the project's lasting id.
        number: 1 for the first event of that model or project; without gaps.
        kind: What happened, for example ``"deployment.promoted"``.
        happened: When, in UTC, by the clock of who did it.
        actor: Who did it.
        reason: Why, if they said.
        deployment_id: The deployment that it is about.
        previous_deployment_id: The deployment that lost what that one got.
        flow_id: The flow that it is about.
        before: What it was, by name of the column.
        after: What it is since.
    """

    subject: str
    subject_id: str
    number: int
    kind: str
    happened: datetime
    actor: str
    reason: str
    deployment_id: int | None = None
    previous_deployment_id: int | None = None
    flow_id: str | None = None
    before: dict[str, Any] = field(default_factory=dict, hash=False)
    after: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def model_id(self) -> int | None:
        """The number of the model, if it is a model's event."""
        return int(self.subject_id) if self.subject == "model" else None


@dataclass(frozen=True)
class Lineage:
    """What a deployment was made from, and what was made from it.

    Attributes:
        deployment: The deployment.
        ancestors: Its parent, the parent's parent and so on, nearest first.
        descendants: All that were made from it, directly or not, oldest first.
    """

    deployment: DeploymentRecord
    ancestors: tuple[DeploymentRecord, ...]
    descendants: tuple[DeploymentRecord, ...]


@dataclass(frozen=True)
class DeploymentPage:
    """One page of a search.

    Attributes:
        items: The deployments, in the order that was asked for.
        next_page_token: Asks for the next page; ``None`` after the last one.
    """

    items: tuple[DeploymentRecord, ...]
    next_page_token: str | None


@dataclass(frozen=True)
class ModelPage:
    """One page of a search.

    Attributes:
        items: The models, in the order that was asked for.
        next_page_token: Asks for the next page; ``None`` after the last one.
    """

    items: tuple[ModelRecord, ...]
    next_page_token: str | None
