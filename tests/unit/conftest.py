"""Fixtures that the tests of several packages share."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import (
    Batch,
    FlowRunFacts,
    StateChange,
    TaskRunFacts,
)
from prefect_lume.pipelines.rows import Kind, result_id
from prefect_lume.pipelines.status import PipelineTaskStatus

_S = PipelineTaskStatus
_STATES = {
    "Pending": ("PENDING", _S.PENDING),
    "Running": ("RUNNING", _S.RUNNING),
    "Retrying": ("RUNNING", _S.RUNNING),
    "AwaitingRetry": ("SCHEDULED", _S.PENDING),
    "Completed": ("COMPLETED", _S.DONE),
    "Cached": ("COMPLETED", _S.DONE),
    "Failed": ("FAILED", _S.RUNTIME_ERROR),
    "Crashed": ("CRASHED", _S.RUNTIME_ERROR),
    "Cancelled": ("CANCELLED", _S.CANCELLED),
    "NotReady": ("PENDING", _S.CANCELLED),
}
States = list[tuple[Any, ...]]


class SampleRuns:
    """Records runs as Prefect would report them. Times are seconds after ``start``.

    A list of states has (seconds, Prefect's name) or (seconds, name, message) items.
    """

    start = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __init__(self, storage: PipelineStorage) -> None:
        self.storage = storage
        self.counter = 0

    def at(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def id(self, *parts: object) -> str:
        """Return an id like Prefect's, the same for the same parts."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, parts))))

    def flow(
        self,
        pipeline: str,
        states: States,
        *,
        run_id: str | None = None,
        over: list[Any] | None = None,
        **facts: Any,
    ) -> str:
        """Record a flow run, and return its id."""
        self.counter += 1
        run = run_id or self.id(pipeline, self.counter)
        batch = Batch()
        created = self.at(states[0][0]) if states else self.start
        batch.flow_runs.append(
            FlowRunFacts(
                run_id=run,
                flow_run_id=run,
                pipeline_id=pipeline,
                run_name=facts.pop("name", f"{pipeline}-{self.counter}"),
                created=created,
                is_mapped=over is not None,
                **facts,
            )
        )
        batch.changes += self.changes(run, Kind.EXECUTION, run, states)
        self.storage.record(batch)
        return run

    def object(self, run: str, index: int, obj: Any, states: States) -> str:
        """Record the flow run for one of a pipeline's objects, and return its id."""
        flow_run = self.id(run, "object", index)
        facts = FlowRunFacts(
            run_id=run,
            flow_run_id=flow_run,
            pipeline_id=self.storage.get_pipeline_execution(run).get_pipeline_id(),
            index=index,
            pipeline_object=obj,
            created=self.at(states[0][0]),
        )
        changes = self.changes(run, Kind.RESULT, result_id(run, index), states)
        self.storage.record(Batch(list(changes), [facts]))
        return flow_run

    @staticmethod
    def batch(changes: Iterable[StateChange]) -> Batch:
        """Return a batch of changes alone."""
        return Batch(list(changes))

    def task(
        self,
        run: str,
        task: str,
        runs: list[States],
        *,
        index: int = 0,
        objects: list[Any] | None = None,
    ) -> list[str]:
        """Record the runs of one task, and return their ids."""
        batch, ids = Batch(), []
        for number, states in enumerate(runs):
            ids.append(self.id(run, index, task, number))
            batch.task_runs.append(
                TaskRunFacts(
                    task_run_id=ids[-1],
                    run_id=run,
                    pipeline_result_id=result_id(run, index),
                    task_id=f"{task}-key",
                    pipeline_task=task,
                    name=f"{task}-{number}",
                    index=number if objects else None,
                    task_object=objects[number] if objects else None,
                    created=self.at(states[0][0]),
                )
            )
            batch.changes += self.changes(run, Kind.TASK_RESULT, ids[-1], states)
        self.storage.record(batch)
        return ids

    def changes(
        self, run: str, kind: Kind, target: str, states: States
    ) -> Iterator[StateChange]:
        for number, (seconds, name, *message) in enumerate(states):
            state_type, status = _STATES[name]
            yield StateChange(
                id=self.id(target, kind, number, seconds),
                run_id=run,
                kind=kind,
                target=target,
                status=status,
                timestamp=self.at(seconds),
                message=message[0] if message else "",
                state_type=state_type,
                state_name=name,
                run_count=1,
            )

    # Whole runs ---------------------------------------------------------------------

    def chain(self, at: float = 0, **facts: Any) -> str:
        """A run of three tasks that goes well, one of them with a retry."""
        run = self.flow(
            "injector",
            [(at, "Pending"), (at + 0.2, "Running"), (at + 12, "Completed")],
            **facts,
        )
        self.task(
            run,
            "generate",
            [[(at + 0.3, "Pending"), (at + 0.5, "Running"), (at + 2, "Completed")]],
        )
        self.task(
            run,
            "track",
            [
                [
                    (at + 2.1, "Pending"),
                    (at + 2.3, "Running"),
                    (at + 4, "AwaitingRetry", "The licence server is busy"),
                    (at + 6, "Retrying"),
                    (at + 11, "Completed"),
                ]
            ],
        )
        self.task(run, "plot", [[(at + 11.1, "Pending"), (at + 11.2, "Cached")]])
        return run

    def scan(self, at: float = 0, points: int = 30, **facts: Any) -> str:
        """A run whose task `.map`s over points; two fail, Prefect says Completed."""
        run = self.flow(
            "scan",
            [(at, "Pending"), (at + 0.2, "Running"), (at + points + 9, "Completed")],
            **facts,
        )
        self.task(
            run,
            "prepare",
            [[(at + 0.3, "Pending"), (at + 0.5, "Running"), (at + 3, "Completed")]],
        )
        runs: list[States] = []
        for n in range(points):
            begin = at + 3.2 + n
            end = (
                (begin + 4, "Failed", "ValueError: the lattice has no solution")
                if n in (3, 17)
                else (begin + 4 + n % 3, "Completed")
            )
            runs.append([(at + 3.1, "Pending"), (begin, "Running"), end])
        self.task(run, "track", runs, objects=[{"k": n / 10} for n in range(points)])
        return run

    def retried(self, at: float = 0) -> str:
        """A run that Prefect began again after its first attempt failed."""
        run = self.flow(
            "fragile",
            [
                (at, "Pending"),
                (at + 1, "Running"),
                (at + 5, "AwaitingRetry"),
                (at + 8, "Running"),
                (at + 14, "Completed"),
            ],
        )
        first = [(at + 1.5, "Pending"), (at + 2, "Running"), (at + 4.5, "Failed", "no")]
        again = [(at + 8.2, "Pending"), (at + 8.5, "Running"), (at + 13, "Completed")]
        self.task(run, "work", [first, again])
        return run

    def mapped(self, at: float = 0, objects: int = 5) -> str:
        """A pipeline over objects, of which the third fails and the last still runs."""
        run = self.flow("tuning", [(at, "Pending"), (at + 0.5, "Running")], over=[])
        for n in range(objects):
            begin = at + 1 + 2 * n
            end = (begin + 6, "Completed")
            if n == 2:
                end = (begin + 3, "Failed", "RuntimeError: no beam")
            ends = [] if n == objects - 1 else [end]
            states = [(at + 0.6, "Pending"), (begin, "Running"), *ends]
            self.object(run, n, {"phase": 10 * n}, states)
            self.task(
                run,
                "measure",
                [[(begin + 0.1, "Pending"), (begin + 0.3, "Running"), *ends]],
                index=n,
            )
        return run


@pytest.fixture
def sample_runs() -> type[SampleRuns]:
    """What records runs into a storage, as Prefect would report them."""
    return SampleRuns
