"""Pipeline results in MongoDB, or what speaks its protocol: see ``storage``."""

from __future__ import annotations

from prefect_lume.pipelines.mongo.objects import (
    MongoPipelineExecution,
    MongoPipelineResult,
    MongoTaskExecution,
    MongoTaskResult,
)
from prefect_lume.pipelines.mongo.storage import MongoPipelineResultsStorage

__all__ = [
    "MongoPipelineExecution",
    "MongoPipelineResult",
    "MongoPipelineResultsStorage",
    "MongoTaskExecution",
    "MongoTaskResult",
]
