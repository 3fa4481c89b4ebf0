"""Runs a plan inside the parent's run: stage by stage, a stage's subflows at once."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prefect.logging import get_run_logger
from prefect.states import Cancelled

from prefect_lume.composer import children, mapping
from prefect_lume.composer.failure import cause
from prefect_lume.composer.plan import Plan, Step
from prefect_lume.composer.runners import Runner, copied
from prefect_lume.errors import LumeError, SubflowError

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun, State, TaskRun

#: Seconds between two looks at whether the parent was cancelled from outside.
_LOOK: Final = 2.0

#: A subflow, its run if there is one, and what went wrong or "".
_Outcome: TypeAlias = "tuple[Step, FlowRun | None, str]"
_Outcomes: TypeAlias = "queue.SimpleQueue[_Outcome]"


class CancelledParent(BaseException):
    """The parent run was cancelled from outside while its subflows ran."""


class Execution:
    """One run of a plan.

    Args:
        plan: What to run.
        given: The parent's parameters.
        runner: How to run each subflow.
    """

    def __init__(self, plan: Plan, given: Mapping[str, Any], runner: Runner) -> None:
        self._plan = plan
        self._given = given
        self._runner = runner
        self._parent_run_id: UUID = children.parent_run_id()
        self._finished: dict[str, FlowRun] = {}
        self._tracking: dict[str, TaskRun] = {}

    def run(self) -> dict[str, str] | State[Any]:
        """Run every stage.

        Returns:
            Subflow → the id of its flow run; or the state of a cancelled parent.

        Raises:
            SubflowError: Subflows did not complete. Those beside them have ended, and
                those after them were not started.
        """
        try:
            for stage in self._plan.stages:
                self._stage(stage)
        except CancelledParent:
            self._runner.cancel()
            return Cancelled(message="The flow-of-flows was cancelled.")
        except SubflowError:
            raise
        except BaseException:
            # Ctrl-C, a worker's SIGTERM, or a fault of ours: leave nothing running.
            self._runner.cancel()
            raise
        return {name: str(run.id) for name, run in self._finished.items()}

    def _stage(self, stage: tuple[Step, ...]) -> None:
        outcomes: _Outcomes = queue.SimpleQueue()
        for step in stage:
            # In the order of the plan, so that a re-run finds its children again.
            self._tracking[step.name] = self._track(step)
        for step in stage:
            thread = threading.Thread(
                target=copied(functools.partial(self._put, outcomes, step)),
                name=f"subflow {step.name}",
                daemon=True,
            )
            self._plan.observer(step.name, "started")
            thread.start()
        failures: dict[str, str] = {}
        for _ in stage:
            step, run, problem = self._next(outcomes)
            self._plan.observer(step.name, "failed" if problem else "completed")
            if problem:
                failures[step.name] = problem
            elif run is not None:
                self._finished[step.name] = run
        if failures:
            named = {step.name: step for step in stage}
            ordered = {name: failures[name] for name in named if name in failures}
            raise SubflowError(self._plan.name, ordered)

    def _next(self, outcomes: _Outcomes) -> _Outcome:
        while True:
            try:
                return outcomes.get(timeout=_LOOK)
            except queue.Empty:
                state = children.read(self._parent_run_id).state
                if state is not None and (
                    state.is_cancelling() or state.is_cancelled()
                ):
                    raise CancelledParent from None

    def _track(self, step: Step) -> TaskRun:
        upstream = {
            parameter: [self._tracking[mapped.parent_flow_name].id]
            for parameter, mapped in step.mapped.items()
            if mapped.parent_flow_name in self._tracking
        }
        return children.track(self._parent_run_id, step, upstream)

    def _put(self, outcomes: _Outcomes, step: Step) -> None:
        outcomes.put(self._one(step))

    def _one(self, step: Step) -> _Outcome:
        """Run one subflow; whatever happens to it becomes an outcome."""
        try:
            return self._finish(step)
        except LumeError as error:
            return step, None, str(error)
        except BaseException as error:  # noqa: BLE001 - reported as the cause.
            return step, None, f"{type(error).__name__}: {error}"

    def _finish(self, step: Step) -> _Outcome:
        tracking = self._tracking[step.name]
        logger = get_run_logger()
        earlier = children.latest_finished(children.attempts(tracking))
        if earlier is not None:
            logger.info(
                "The subflow %r has completed already: it is not repeated.", step.name
            )
            return step, earlier, ""
        called = mapping.parameters(
            step, self._given, self._finished, self._runner.noted, self._plan.services
        )
        run = self._runner.run(step, called, tracking)
        if run.state is not None and run.state.is_completed():
            return step, run, ""
        return step, run, cause(run.state)
