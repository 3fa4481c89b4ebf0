"""Flows run over objects as one pipeline, against a Prefect server on PostgreSQL."""

from __future__ import annotations

import asyncio
import threading

import pytest
from prefect import flow, get_client, tags, task
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from prefect_lume import recorded, run_pipeline
from prefect_lume.errors import ConfigurationError, InvalidInputError, SubflowError
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import result_id
from prefect_lume.recorder.marks import PIPELINE_TAG, object_tag

pytestmark = pytest.mark.usefixtures("prefect_server")


@task
def square(x):
    """Return the square."""
    return x * x


@flow
def track(charge: int, steps: int = 1) -> int:
    """Track one charge."""
    if charge == 13:
        raise ValueError("an unlucky charge")
    return square(charge) * steps


@pytest.fixture
def storage():
    """A storage in memory."""
    return MemoryPipelineResultsStorage()


def one_execution(storage, name="track"):
    """Return the only execution of a pipeline."""
    (execution,) = storage.get_pipeline_executions(pipeline_id=name)
    return execution


def test_results_in_the_order_of_the_objects(storage):
    """Each object is one pipeline result, done, with its tasks below it."""
    with tags("night"):
        found = run_pipeline(
            track, [3, 1, 2], parameters={"steps": 10}, storage=storage, name="scan"
        )
    assert found == [90, 10, 40]
    execution = one_execution(storage)
    assert execution.get_status() == "DONE"
    assert execution.get_run_name() == "scan"
    results = execution.get_pipeline_results()
    assert [r.get_pipeline_object() for r in results] == [3, 1, 2]
    assert [r.get_status() for r in results] == ["DONE"] * 3
    run_id = execution.get_run_id()
    assert [r.get_id() for r in results] == [result_id(run_id, i) for i in range(3)]
    for result in results:
        names = [state.state_name for state in result.get_states()]
        assert names == ["Pending", "Running", "Completed"]
        (executed,) = result.get_task_executions()
        assert [r.get_status() for r in executed.get_task_results()] == ["DONE"]
    with get_client(sync_client=True) as client:
        assert set(client.read_flow_run(run_id).tags) == {PIPELINE_TAG, "night"}
        for index, result in enumerate(results):
            run = client.read_flow_run(result.get_flow_run_id())
            assert set(run.tags) == {object_tag(index), "night"}


def test_all_is_there_before_anything_runs(storage):
    """While the first object is worked on, all others are pending, with theirs."""
    seen = []

    @flow
    def looks(obj):
        if not seen:
            results = storage.get_pipeline_results()
            seen.extend((r.get_pipeline_object(), r.get_status()) for r in results)

    run_pipeline(
        looks, ["a", "b"], storage=storage, task_runner=ThreadPoolTaskRunner(1)
    )
    assert [obj for obj, _ in seen] == ["a", "b"]
    assert seen[1][1] == "PENDING"


def test_one_that_fails_does_not_stop_the_others(storage):
    """The error names the objects that failed and why; the others are done."""
    with pytest.raises(SubflowError, match="unlucky") as caught:
        run_pipeline(track, [1, 13, "many", 2], storage=storage)
    assert sorted(caught.value.failures) == ["object 1", "object 2"]
    results = one_execution(storage).get_pipeline_results()
    statuses = [r.get_status() for r in results]
    assert statuses == ["DONE", "RUNTIME_ERROR", "VALIDATION_ERROR", "DONE"]
    assert "integer" in results[2].get_message()
    assert one_execution(storage).get_status().is_failed


def test_state_instead_of_an_error(storage):
    """With `return_state` the final state of the pipeline's run is returned."""
    state = run_pipeline(track, [13], storage=storage, return_state=True)
    assert state.is_failed()
    assert run_pipeline(track, [2], storage=storage, return_state=True).is_completed()


def test_async_flows_from_an_async_flow(storage):
    """A pipeline of async flows in an async flow is a subflow of it."""

    @flow
    async def slow(x):
        await asyncio.sleep(0.01)
        return x + 1

    @recorded(storage=storage)
    @flow
    async def outer():
        found = await asyncio.to_thread(run_pipeline, slow, [1, 2], storage=storage)
        return found, flow_run.id

    found, run_id = asyncio.run(outer())
    assert found == [2, 3]
    execution = one_execution(storage, "slow")
    assert execution.get_status() == "DONE"
    assert execution.get_parent_run_id() == run_id
    assert len(execution.get_pipeline_results()) == 2


def test_objects_without_json(storage):
    """In this process objects are handed over as they are, whatever they are."""
    lock = threading.Lock()

    @flow(validate_parameters=False)
    def same(thing):
        return thing is lock

    assert run_pipeline(same, [lock], storage=storage) == [True]
    (result,) = storage.get_pipeline_results()
    assert "lock" in result.get_pipeline_object()["type"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameter": "chargs"}, "Did you mean 'charge'"),
        ({"parameters": {"step": 2}}, "Did you mean 'steps'"),
        ({"parameters": {"charge": 2}, "parameter": "charge"}, "takes the objects"),
        ({"parameter": "steps"}, "also needs 'charge'"),
    ],
)
def test_wrong_names(storage, arguments, message):
    """Names that the flow does not know are refused before anything is made."""
    with pytest.raises(InvalidInputError, match=message):
        run_pipeline(track, [1], storage=storage, **arguments)
    assert storage.get_pipeline_executions() == []


def test_missing_deployment(storage):
    """A deployment that does not exist is a configuration error, and cancels all."""
    with pytest.raises(ConfigurationError, match="no Prefect deployment"):
        run_pipeline("track/nowhere", [1, 2], storage=storage)
    execution = one_execution(storage)
    assert execution.get_status() == "CONFIG_ERROR"
    statuses = [r.get_status() for r in execution.get_pipeline_results()]
    assert statuses == ["CANCELLED", "CANCELLED"]


def test_objects_of_a_deployment_have_json(storage):
    """An object that cannot reach a deployment is refused, with its position."""
    with pytest.raises(InvalidInputError, match="Object 1, a lock"):
        run_pipeline("track/nowhere", [1, threading.Lock()], storage=storage)
