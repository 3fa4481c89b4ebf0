"""Making and fetching executions and results, whichever storage is configured.

Use these functions rather than a storage itself: they work for every storage that
extends :class:`~prefect_lume.pipelines.base.PipelineStorage`.

Example:
    >>> from prefect_lume.pipelines import Pipeline, helpers
    >>> from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
    >>> storage = MemoryPipelineResultsStorage()
    >>> execution = helpers.build_pipeline_execution(
    ...     Pipeline("scan", objects=[1, 2]), "run-1", storage=storage
    ... )
    >>> results = helpers.get_pipeline_results("run-1", storage=storage)
    >>> [result.get_pipeline_object() for result in results]
    [1, 2]
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from prefect_lume.pipelines.base import (
    PipelineDigest,
    PipelineExecution,
    PipelineResult,
    PipelineStorage,
    TaskExecution,
    TaskResult,
)

__all__ = [
    "build_pipeline_execution",
    "cleanup",
    "get_pipeline_digest",
    "get_pipeline_execution",
    "get_pipeline_executions",
    "get_pipeline_result",
    "get_pipeline_results",
    "get_pipeline_storage",
    "get_task_execution",
    "get_task_executions",
    "get_task_result",
    "get_task_results",
    "reset_pipeline_storage",
]

# By name, as what knows the settings and engines lies above this package.
_CONFIGURED: Final = "prefect_lume.config.pipelines"


def get_pipeline_storage() -> PipelineStorage:
    """Return the storage that is configured; it is made once and kept.

    Returns:
        The storage that `PREFECT_LUME_PIPELINES_RESULTS_STORAGE` or `pyproject.toml`
        names, else the registry's database. Within a flow-of-flows it is that of its
        services, as for every other service.

    Raises:
        ConfigurationError: The setting does not name a storage that can be made.
        StorageError: Its database cannot be used; the message says why.
    """
    storage: PipelineStorage = _configured("configured_storage")()
    return storage


def reset_pipeline_storage() -> None:
    """Forget the configured storage, so that the next call makes it anew.

    Changed settings are seen without it. What is in the storage stays.
    """
    _configured("forget_storages")()


def _configured(name: str) -> Any:
    return getattr(importlib.import_module(_CONFIGURED), name)


def _of(storage: PipelineStorage | None) -> PipelineStorage:
    return get_pipeline_storage() if storage is None else storage


def build_pipeline_execution(
    pipeline: Any,
    run_id: str,
    runner: Any = None,
    reporter: Any = None,
    input_data: Mapping[str, Any] | None = None,
    build_all: bool = True,
    *,
    storage: PipelineStorage | None = None,
) -> PipelineExecution:
    """Make the objects of a run before it runs, all of them ``PENDING``.

    One pipeline execution; a pipeline result for each object of the pipeline; a task
    execution for each task of each of these; a task result for each object of the task.
    What runs over no objects has one.

    Args:
        pipeline: A :class:`~prefect_lume.pipelines.pipeline.Pipeline`, or anything
            with its attributes and methods.
        run_id: The run's id; Prefect's id of the flow run, if it has one.
        runner: What runs it: a Python path, or an object whose class has one.
        reporter: What reports on it; likewise.
        input_data: The parameters of the run; kept as JSON.
        build_all: Whether to make more than the execution. Without, a run can be
            recorded whose configuration is too wrong to tell its tasks.
        storage: The storage; the configured one, if left out.

    Raises:
        ConflictError: There is a run of this id already.
        StorageError: The storage could not do it; nothing was kept.
    """
    return _of(storage).build_pipeline_execution(
        pipeline, run_id, runner, reporter, input_data, build_all=build_all
    )


def get_pipeline_executions(
    pipeline_id: str | None = None, *, storage: PipelineStorage | None = None
) -> list[PipelineExecution]:
    """Return all runs, or those of one pipeline, the oldest first.

    Args:
        pipeline_id: The pipeline: its flow's name.
        storage: The storage; the configured one, if left out.
    """
    return _of(storage).get_pipeline_executions(pipeline_id)


def get_pipeline_execution(
    run_id: str, *, storage: PipelineStorage | None = None
) -> PipelineExecution | None:
    """Return the run of an id, or nothing if there is none.

    Args:
        run_id: The run's id.
        storage: The storage; the configured one, if left out.
    """
    return _of(storage).get_pipeline_execution(run_id)


def get_pipeline_results(
    run_id: str | None = None, *, storage: PipelineStorage | None = None
) -> list[PipelineResult]:
    """Return all pipeline results, or those of one run in the order of its objects.

    Args:
        run_id: The run's id.
        storage: The storage; the configured one, if left out.
    """
    return _of(storage).get_pipeline_results(run_id)


def get_pipeline_result(
    _id: str, *, storage: PipelineStorage | None = None
) -> PipelineResult | None:
    """Return the pipeline result of an id, or nothing if there is none.

    Args:
        _id: The pipeline result's id.
        storage: The storage; the configured one, if left out.
    """
    return _of(storage).get_pipeline_result(_id)


def get_task_executions(
    run_id: str | None = None,
    pipeline_result_id: str | None = None,
    *,
    storage: PipelineStorage | None = None,
) -> list[TaskExecution]:
    """Return task executions: all, or those of a run or a pipeline result.

    Args:
        run_id: The run's id.
        pipeline_result_id: The pipeline result's id.
        storage: The storage; the configured one, if left out.
    """
    return _of(storage).get_task_executions(run_id, pipeline_result_id)


def get_task_execution(
    _id: str, *, storage: PipelineStorage | None = None
) -> TaskExecution | None:
    """Return the task execution of an id, or nothing if there is none.

    Args:
        _id: The task execution's id.
        storage: The storage; the configured one, if left out.
    """
    return _of(storage).get_task_execution(_id)


def get_task_results(
    run_id: str | None = None,
    pipeline_result_id: str | None = None,
    task_execution_id: str | None = None,
    *,
    storage: PipelineStorage | None = None,
) -> list[TaskResult]:
    """Return task results: all, or those of a run, a pipeline result or a task.

    Args:
        run_id: The run's id.
        pipeline_result_id: The pipeline result's id.
        task_execution_id: The task execution's id.
        storage: The storage; the configured one, if left out.
    """
    return _of(storage).get_task_results(run_id, pipeline_result_id, task_execution_id)


def get_task_result(
    _id: str, *, storage: PipelineStorage | None = None
) -> TaskResult | None:
    """Return the task result of an id, or nothing if there is none.

    Args:
        _id: The task result's id.
        storage: The storage; the configured one, if left out.
    """
    return _of(storage).get_task_result(_id)


def get_pipeline_digest(*, storage: PipelineStorage | None = None) -> PipelineDigest:
    """Return how often each pipeline ran, how well, when last and how long.

    Args:
        storage: The storage; the configured one, if left out.

    Returns:
        Pipelines' ids to their
        :class:`~prefect_lume.pipelines.digest.PipelineDigestItem`.
    """
    return _of(storage).get_pipeline_digest()


def cleanup(
    before: datetime | None = None, *, storage: PipelineStorage | None = None
) -> list[str]:
    """Remove old runs with all that belongs to them.

    Args:
        before: Remove runs that started before this time, and those that never
            started and were created before it. All, if left out.
        storage: The storage; the configured one, if left out.

    Returns:
        The ids of the runs that were removed.

    Raises:
        InvalidInputError: The time has no zone.
    """
    return _of(storage).cleanup(before)
