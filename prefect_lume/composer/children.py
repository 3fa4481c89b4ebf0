"""The child runs of a parent, as Prefect keeps them: created, found again, cancelled.

A subflow's place in its parent is a task run with a key of its own, so that a parent
that is run again finds the children of its earlier attempts, whatever ran at the same
time, and so that Prefect draws the mapped parameters as the edges of the flow graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentTaskRunId,
)
from prefect.client.schemas.objects import TaskRunResult
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext, TagsContext
from prefect.states import Pending

from prefect_lume.composer.plan import Step

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State, TaskRun

_MOST_ATTEMPTS = 200


def tags_of(step: Step) -> list[str]:
    """The tags of a child run: the project, and those of the parent's context."""
    return sorted({*step.tags, *TagsContext.get().current_tags})


def track(
    parent_run_id: UUID, step: Step, upstream: Mapping[str, Iterable[UUID]]
) -> TaskRun:
    """Create, or find again, the task run that stands for a subflow in its parent.

    Args:
        parent_run_id: The parent's flow run.
        step: The subflow.
        upstream: Parameter → the tracking task runs that its value comes from.

    Returns:
        The task run: the same one each time the same parent run asks.
    """
    task: Task[[], None] = Task(fn=lambda: None, name=step.name)
    task.task_key = f"prefect_lume.subflow.{step.name}"
    inputs = {
        parameter: [TaskRunResult(id=identifier) for identifier in identifiers]
        for parameter, identifiers in upstream.items()
    }
    with get_client(sync_client=True) as client:
        return client.create_task_run(
            task=task,
            name=step.name,
            flow_run_id=parent_run_id,
            dynamic_key="0",
            task_inputs=inputs,  # type: ignore[arg-type]  # a list is invariant.
            state=Pending(),
        )


def attempts(tracking: TaskRun) -> list[FlowRun]:
    """Return the runs of a subflow under one parent run, the latest first."""
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                parent_task_run_id=FlowRunFilterParentTaskRunId(any_=[tracking.id])
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=_MOST_ATTEMPTS,
        )


def latest_finished(runs: Iterable[FlowRun]) -> FlowRun | None:
    """Return the latest completed run whose result can still be read, if any."""
    for run in runs:
        if run.state is not None and run.state.is_completed():
            return run
    return None


def unfinished(runs: Iterable[FlowRun]) -> list[FlowRun]:
    """Return the runs that are still under way, or seem to be."""
    return [run for run in runs if run.state is not None and not run.state.is_final()]


def read(flow_run_id: UUID) -> FlowRun:
    """Read a flow run."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run_id)


def set_state(flow_run_id: UUID, state: State[Any], *, force: bool = False) -> None:
    """Propose a state for a flow run."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, state=state, force=force)


def parent_run_id() -> UUID:
    """Return the id of the flow run that this code runs in."""
    return _parent_run().id


def tag_parent(tags: Iterable[str]) -> None:
    """Add tags to the flow run that this code runs in."""
    run = _parent_run()
    missing = [tag for tag in tags if tag and tag not in run.tags]
    if missing:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, tags=[*run.tags, *missing])


def _parent_run() -> FlowRun:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("A composed flow ran outside Prefect's engine.")
    return context.flow_run
