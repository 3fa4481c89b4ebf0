"""The registry of models, deployments, projects, flows and flow-of-flows."""

from prefect_lume.registry.records import (
    DeploymentRecord,
    FlowOfFlowsRecord,
    FlowRecord,
    ModelRecord,
    ProjectRecord,
    SubflowEntry,
    SubflowRecord,
)
from prefect_lume.registry.service import ModelDBService

__all__ = [
    "DeploymentRecord",
    "FlowOfFlowsRecord",
    "FlowRecord",
    "ModelDBService",
    "ModelRecord",
    "ProjectRecord",
    "SubflowEntry",
    "SubflowRecord",
]
