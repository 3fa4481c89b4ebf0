"""Pipeline results in an SQL database, in the tables that the migrations make."""

from __future__ import annotations

from prefect_lume.pipelines.orm.objects import (
    OrmPipelineExecution,
    OrmPipelineResult,
    OrmTaskExecution,
    OrmTaskResult,
)
from prefect_lume.pipelines.orm.storage import OrmPipelineResultsStorage

__all__ = [
    "OrmPipelineExecution",
    "OrmPipelineResult",
    "OrmPipelineResultsStorage",
    "OrmTaskExecution",
    "OrmTaskResult",
]
