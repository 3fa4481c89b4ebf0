"""The helper functions, on a storage that is given and on the configured one."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from prefect_lume.pipelines import Pipeline, PipelineTaskStatus, helpers
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage


@pytest.fixture
def storage(monkeypatch):
    """The storage in memory, configured by the environment and emptied."""
    monkeypatch.setenv("PREFECT_LUME_PIPELINES_RESULTS_STORAGE", "memory")
    storage = MemoryPipelineResultsStorage.for_context()
    storage.cleanup()
    yield storage
    storage.cleanup()


def test_without_a_storage_the_configured_one_is_used(storage):
    """All functions work on it, and on another one that is given."""
    built = helpers.build_pipeline_execution(
        Pipeline("p"), "run-1", "my.Runner", None, {"n": 1}, True
    )
    assert built.storage is helpers.get_pipeline_storage() is storage
    (result,) = helpers.get_pipeline_results("run-1")
    assert helpers.get_pipeline_result(result.get_id()) == result
    assert helpers.get_task_executions("run-1") == []
    assert helpers.get_task_results(pipeline_result_id=result.get_id()) == []
    other = MemoryPipelineResultsStorage()
    assert helpers.get_pipeline_execution("run-1", storage=other) is None
    assert helpers.cleanup(storage=other) == []
    assert helpers.cleanup() == ["run-1"]


def test_a_run_that_cannot_be_configured_is_kept(storage):
    """`build_all` may be given by position, as the fifth after the pipeline."""
    run = helpers.build_pipeline_execution(
        Pipeline("p"), "run-1", None, None, None, False
    )
    run.report_status_change("CONFIG_ERROR", "no such file")
    assert helpers.get_pipeline_results() == []
    (found,) = helpers.get_pipeline_executions("p")
    assert found.get_status() is PipelineTaskStatus.CONFIG_ERROR


def test_every_function_says_what_it_does_and_takes_a_storage():
    """But for the two that are about the configured storage itself."""
    for name in helpers.__all__:
        function = getattr(helpers, name)
        assert inspect.getdoc(function)
        about_itself = name in ("get_pipeline_storage", "reset_pipeline_storage")
        assert ("storage" in inspect.signature(function).parameters) != about_itself


def test_importing_the_helpers_does_not_import_prefect():
    """The domain stands without Prefect until a storage is configured."""
    code = (
        "import sys, prefect_lume.pipelines.helpers;"
        "assert 'prefect' not in sys.modules, 'prefect was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
