"""Pipeline results: what ran, as what, and how it went.

A pipeline execution is a run as a whole, a pipeline result the run for one object, a
task execution a task in it, and a task result one run of that task. They are kept in a
replaceable :class:`~prefect_lume.pipelines.base.PipelineStorage`; the functions of
:mod:`prefect_lume.pipelines.helpers` read and write whichever is configured.
"""

from __future__ import annotations

from prefect_lume.pipelines.base import (
    PipelineDigest,
    PipelineDigestItem,
    PipelineExecution,
    PipelineResult,
    PipelineSession,
    PipelineStorage,
    TaskExecution,
    TaskResult,
)
from prefect_lume.pipelines.changes import (
    Batch,
    FlowRunFacts,
    StateChange,
    TaskRunFacts,
)
from prefect_lume.pipelines.pipeline import Pipeline, PipelineTask
from prefect_lume.pipelines.status import PipelineTaskStatus

__all__ = [
    "Batch",
    "FlowRunFacts",
    "Pipeline",
    "PipelineDigest",
    "PipelineDigestItem",
    "PipelineExecution",
    "PipelineResult",
    "PipelineSession",
    "PipelineStorage",
    "PipelineTask",
    "PipelineTaskStatus",
    "StateChange",
    "TaskExecution",
    "TaskResult",
    "TaskRunFacts",
]
