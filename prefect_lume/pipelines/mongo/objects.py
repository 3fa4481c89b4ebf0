"""The four kinds of objects as a storage in MongoDB returns them."""

from __future__ import annotations

from prefect_lume.pipelines.objects import (
    PipelineExecution,
    PipelineResult,
    TaskExecution,
    TaskResult,
)


class MongoPipelineExecution(PipelineExecution):
    """A pipeline execution in MongoDB."""


class MongoPipelineResult(PipelineResult):
    """A pipeline result in MongoDB."""


class MongoTaskExecution(TaskExecution):
    """A task execution in MongoDB."""


class MongoTaskResult(TaskResult):
    """A task result in MongoDB."""
