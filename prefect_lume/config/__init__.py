"""The wiring: which services a call uses, made from a Block or the embedded default.

Example:
    >>> from prefect_lume import config
    >>> config.configure()
    >>> service = config.context.model_db_service()
    >>> service.store_project(project_name="test", description="my description")
    'test'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_lume.config.current import (
    configure,
    current_context,
    open_context,
    running_deployment,
    running_services,
)
from prefect_lume.config.scheduling import SchedulingService
from prefect_lume.config.wiring import Context, ServiceStatus

if TYPE_CHECKING:
    context: Context

__all__ = [
    "Context",
    "SchedulingService",
    "ServiceStatus",
    "configure",
    "context",
    "current_context",
    "open_context",
    "running_deployment",
    "running_services",
]


def __getattr__(name: str) -> Any:
    if name == "context":
        return current_context()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
