"""Random histories of runs as Prefect tells them, to record in any order.

A history is made from a seed: flow runs with or without objects, tasks that run once
or are mapped, retries of tasks and of flows, cached and cancelled runs, tasks that are
never ready, and ends that were concluded rather than reported.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from prefect_lume.pipelines import (
    Batch,
    FlowRunFacts,
    PipelineTaskStatus,
    TaskRunFacts,
)
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.testing.pipelines_told import (
    at,
    flow_run,
    joined,
    object_run,
    task_run,
    tell,
)

_S = PipelineTaskStatus
_MICROSECOND: Final = timedelta(microseconds=1)


class History:
    """What Prefect tells of one pipeline execution.

    Args:
        seed: What it is made from: an equal seed makes an equal history.

    Attributes:
        batches: One batch for each change, with the facts that belong to it.
        run_id: The pipeline execution's id.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - the same each time.
        self._now = at(0)
        self.batches: list[Batch] = []
        self.run_id = self._id()
        self._flow(self.run_id)

    def whole(self) -> Batch:
        """Return all of it in one batch."""
        return joined(self.batches)

    def rearranged(self, seed: int) -> list[Batch]:
        """Return it in another order, in other batches and partly told twice."""
        rng = random.Random(seed)  # noqa: S311 - the same each time.
        told = [*self.batches, *rng.sample(self.batches, len(self.batches) // 3)]
        rng.shuffle(told)
        found: list[Batch] = []
        while told:
            count = rng.choice([1, 1, 2, 5, 20])
            found.append(joined(told[:count]))
            told = told[count:]
        return found

    # Making it up -------------------------------------------------------------------

    def _id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _tick(self) -> datetime:
        # Equal times occur.
        self._now += self._random.choice([0, 1, 1, 7, 1000]) * _MICROSECOND
        return self._now

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _flow(self, run_id: str) -> None:
        mapped = self._chance(0.4)
        facts = flow_run(
            run_id, run_name="brave-fox", input_data={"n": 1}, is_mapped=mapped
        )
        if not mapped:
            self._attempts(facts)
            return
        self._tell(facts, "Pending")
        self._tell(facts, "Running")
        for index in range(self._random.randint(1, 3)):
            for _ in range(2 if self._chance(0.2) else 1):
                child = object_run(run_id, index, self._id())
                child.created = self._tick()
                self._attempts(child)
        if self._chance(0.7):
            end = self._random.choice(["Completed", "Completed", "Failed", "Crashed"])
            self._tell(facts, end)

    def _attempts(self, facts: FlowRunFacts) -> None:
        self._tell(facts, "Scheduled")
        for attempt in range(self._random.choice([1, 1, 1, 2, 3])):
            if attempt:
                self._tell(facts, "AwaitingRetry")
            self._tell(facts, "Pending")
            if self._chance(0.07):
                self._tell(facts, "Wrong", "the parameters are wrong")
                continue
            self._tell(facts, "Running")
            tasks = [
                (name, number)
                for name in ("read", "track", "write")
                for number in range(self._random.choice([1, 1, 3]))
            ]
            for name, number in tasks:
                if self._chance(0.03):
                    self._tell(facts, "Cancelling", "by hand")
                self._task(facts, name, number)
            ends = ["Completed"] * 5 + ["Failed", "Crashed", "Cancelled", "Wrong", None]
            end = self._random.choice(ends)
            if end is not None:
                self._tell(facts, end, f"flow {attempt}")
            if self._chance(0.1):
                self._infer(facts)

    def _task(self, facts: FlowRunFacts, name: str, number: int) -> None:
        task = task_run(
            facts,
            self._id(),
            name,
            name=f"{name}-{number}",
            index=number,
            task_object={"n": number},
            created=self._now,
        )
        usual = [["Pending", "Running", "Completed"]] * 8
        rare = [
            ["Pending", "Cached"],
            ["Pending", "Running", "Retrying", "Completed"],
            ["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"],
            ["Pending", "NotReady"],
            ["Pending", "Running", "Failed"],
            ["Pending", "Running", "Wrong"],
            ["Pending", "Running", "Cancelled"],
            ["Pending", "Running"],
            ["Pending"],
        ]
        for count, state in enumerate(self._random.choice(usual + rare)):
            self._tell(facts, state, task=task, run_count=count)
        if self._chance(0.05):
            self._infer(facts, task)

    def _infer(self, facts: FlowRunFacts, task: TaskRunFacts | None = None) -> None:
        message = "It was not heard of any more."
        self._tell(facts, "Crashed", message, task, inferred=True)

    def _tell(
        self,
        facts: FlowRunFacts,
        state: str,
        message: str = "",
        task: TaskRunFacts | None = None,
        **fields: Any,
    ) -> None:
        is_wrong = state == "Wrong"
        batch = tell(
            facts,
            "Failed" if is_wrong else state,
            self._tick(),
            task=task,
            message=message or f"{state} {len(self.batches)}",
            status=_S.VALIDATION_ERROR if is_wrong else None,
            id=self._id(),
            **fields,
        )
        self.batches.append(batch)


def rows_of(storage: PipelineStorage, run_id: str) -> dict[str, dict[str, Any]]:
    """Return all rows of a run as plain data, by kind and id."""
    found = {}
    for kind in Kind:
        where = {"id" if kind is Kind.EXECUTION else "run_id": run_id}
        for row in storage.find(kind, where):
            found[f"{kind} {row.id}"] = asdict(row)
    return found


def differences(
    one: dict[str, dict[str, Any]], two: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """Yield in which fields rows differ, one line each."""
    for key in sorted(one.keys() | two.keys()):
        if key not in one or key not in two:
            yield f"{key}: only in the {'first' if key in one else 'second'}"
            continue
        for name, value in one[key].items():
            if value != two[key][name]:
                yield f"{key}: {name} is {value!r} and {two[key][name]!r}"
