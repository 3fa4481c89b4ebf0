"""What is reported to a storage: state changes, and the facts about what changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from prefect_lume.pipelines.rows import Kind
from prefect_lume.pipelines.status import PipelineTaskStatus

#: Prefect's name of a pending task run which will never run: what it needs failed.
NOT_READY: Final = "NotReady"


@dataclass(slots=True, frozen=True, kw_only=True)
class StateChange:
    """A change of one object's state. The same id is the same change.

    Attributes:
        id: Prefect's id of the state, or any unique text.
        run_id: The pipeline execution's id.
        kind: The kind of the object.
        target: The object's id.
        status: The status that the state means.
        timestamp: When it changed, in UTC.
        message: What was said with it.
        state_type: Prefect's type of the state; nothing for what is not Prefect's.
        state_name: Prefect's name of the state.
        run_count: How often the run had been started by then.
        inferred: Nobody reported it: it was concluded that it must have ended. Gives
            way to whatever is reported later.
    """

    id: str
    run_id: str
    kind: Kind
    target: str
    status: PipelineTaskStatus
    timestamp: datetime
    message: str = ""
    state_type: str | None = None
    state_name: str | None = None
    run_count: int | None = None
    inferred: bool = False

    @property
    def begins_again(self) -> bool:
        """Whether a run that has been active starts once more with this state."""
        if self.state_name == NOT_READY:
            return False
        if self.kind is Kind.TASK_RESULT:
            # Prefect makes a new task run in a new attempt. If one is PENDING after it
            # ran, then by the clock of a machine that is ahead.
            return self.state_type == "SCHEDULED"
        return self.state_type in ("SCHEDULED", "PENDING")


@dataclass(slots=True, kw_only=True)
class FlowRunFacts:
    """What is known of a flow run. Fields that are nothing are unknown.

    Attributes:
        run_id: The pipeline execution that the flow run belongs to: itself, or the
            run of the pipeline over objects of which it works on one.
        flow_run_id: Prefect's id of the flow run.
        pipeline_id: The pipeline: the flow's name.
        index: The position of its object, where it works on one of a pipeline's.
        pipeline_object: That object, as JSON.
        is_named: Its name is the one that it has since it began: Prefect may give it
            another one before.
    """

    run_id: str
    flow_run_id: str
    pipeline_id: str | None = None
    run_name: str | None = None
    is_named: bool = False
    input_data: dict[str, Any] | None = None
    flow_id: str | None = None
    project_name: str | None = None
    deployment_id: int | None = None
    prefect_deployment_id: str | None = None
    parent_run_id: str | None = None
    runner: str | None = None
    reporter: str | None = None
    is_mapped: bool = False
    index: int | None = None
    pipeline_object: Any = None
    created: datetime | None = None
    last_seen: datetime | None = None

    @property
    def is_object(self) -> bool:
        """Whether this flow run works on one object of a pipeline."""
        return self.index is not None


@dataclass(slots=True, kw_only=True)
class TaskRunFacts:
    """What is known of a task run.

    Attributes:
        task_run_id: Prefect's id of the task run.
        run_id: The pipeline execution's id.
        pipeline_result_id: The id of the pipeline result that it belongs to.
        task_id: What identifies the task in the pipeline: its function's name.
        pipeline_task: The task's name.
        name: Prefect's name of the task run.
        index: Its position in a ``.map``.
        task_object: The object of the ``.map``, as JSON.
        is_named: Its name is the one that it has since it began.
    """

    task_run_id: str
    run_id: str
    pipeline_result_id: str
    task_id: str
    pipeline_task: str = ""
    name: str = ""
    is_named: bool = False
    index: int | None = None
    task_object: Any = None
    created: datetime | None = None


@dataclass(slots=True)
class Batch:
    """Changes and facts that are recorded together, in any order.

    Every flow run and task run of which a change is reported has its facts here, or
    had them in an earlier batch.
    """

    changes: list[StateChange] = field(default_factory=list)
    flow_runs: list[FlowRunFacts] = field(default_factory=list)
    task_runs: list[TaskRunFacts] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.changes)

    def __bool__(self) -> bool:
        return bool(self.changes or self.flow_runs or self.task_runs)

    def add(self, other: Batch) -> None:
        """Take in another batch."""
        self.changes += other.changes
        self.flow_runs += other.flow_runs
        self.task_runs += other.task_runs

    def run_ids(self) -> list[str]:
        """Return the ids of the pipeline executions that it touches, sorted."""
        ids = {item.run_id for item in self.changes}
        ids.update(item.run_id for item in self.flow_runs)
        ids.update(item.run_id for item in self.task_runs)
        return sorted(ids)
