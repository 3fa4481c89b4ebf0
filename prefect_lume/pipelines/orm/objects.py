"""The four kinds of objects as an SQL database keeps them."""

from __future__ import annotations

from prefect_lume.pipelines.objects import (
    PipelineExecution,
    PipelineResult,
    TaskExecution,
    TaskResult,
)


class OrmPipelineExecution(PipelineExecution):
    """A pipeline execution in an SQL database."""


class OrmPipelineResult(PipelineResult):
    """A pipeline result in an SQL database."""


class OrmTaskExecution(TaskExecution):
    """A task execution in an SQL database."""


class OrmTaskResult(TaskResult):
    """A task result in an SQL database."""
