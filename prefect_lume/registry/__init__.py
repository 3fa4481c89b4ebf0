"""The registry of models, deployments, projects, flows and flow-of-flows."""

from prefect_lume.registry.records import (
    DeploymentPage,
    DeploymentRecord,
    FlowOfFlowsRecord,
    FlowRecord,
    FlowUse,
    Lineage,
    ModelPage,
    ModelRecord,
    ProjectRecord,
    RegistryEvent,
    ServedFlow,
    SubflowEntry,
    SubflowRecord,
)
from prefect_lume.registry.service import ModelDBService

__all__ = [
    "DeploymentPage",
    "DeploymentRecord",
    "FlowOfFlowsRecord",
    "FlowRecord",
    "FlowUse",
    "Lineage",
    "ModelDBService",
    "ModelPage",
    "ModelRecord",
    "ProjectRecord",
    "RegistryEvent",
    "ServedFlow",
    "SubflowEntry",
    "SubflowRecord",
]
