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
    """

    model_id: int
    author: str
    laboratory: str
    facility: str
    beampath: str
    description: str
    created: datetime


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
        lock: The resolved environment, as the text of a conda-lock file.
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
    lock: str | None = field(default=None, repr=False)

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
