"""The recordings of this process, each of a flow run with all that it runs below.

Those that are open are found by the flow runs they are of.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.recorder.api.links import HasRegistry
from prefect_lume.recorder.inprocess import tee
from prefect_lume.recorder.inprocess.course import LOOK, Course
from prefect_lume.recorder.inprocess.family import state_event
from prefect_lume.recorder.inprocess.hearing import hear
from prefect_lume.recorder.inprocess.preparing import (
    Job,
    KnownRun,
    Preparer,
    ReadStates,
)
from prefect_lume.recorder.inprocess.writing import Writer

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.events import Event

#: Seconds for which the end of the process waits for what could not be written.
LIMIT: Final = 10.0


class Recording:
    """Records a flow run and what it runs below itself in this process.

    Args:
        flow_run_id: Prefect's id of the flow run.
        open_storage: Returns the storage; called in the recording's own thread.
        open_context: Returns whose registry knows the deployments; likewise.
        log: The logger of the flow run.
        deployment_id: The registry's deployment that runs, if this process knows it.
        limit: Seconds for which the end of the flow waits for what could not be
            written.
    """

    def __init__(
        self,
        flow_run_id: object,
        open_storage: Callable[[], PipelineStorage],
        open_context: Callable[[], HasRegistry],
        log: logging.Logger | logging.LoggerAdapter[Any],
        *,
        deployment_id: int | None = None,
        limit: float | None = None,
    ) -> None:
        self.root = str(flow_run_id)
        self._log = log
        self._members = {self.root}
        self._told: set[str] = set()
        self._begun: set[str] = set()
        self._closed = self._complained = False
        self._course = Course(LIMIT if limit is None else limit)
        self._preparer = Preparer(
            self.root, self._members, self._course, open_context, deployment_id
        )
        self._writer = Writer(
            f"prefect-lume recording {self.root[:8]}",
            self._preparer.prepare,
            open_storage,
            self._warn,
            self._after,
            self._preparer.disconnect,
        )

    # What the flow's threads do -------------------------------------------------------

    def start(self, *, listening: bool = True) -> None:
        """Begin to record, with the settings of the calling context."""
        _add(self.root, self)
        if listening:
            tee.listen(self._hear)
        self._writer.start()

    def join(self, flow_run_id: object) -> None:
        """Take a flow run of this process into the recording."""
        id_ = str(flow_run_id)
        self._members.add(id_)
        _add(id_, self)

    def began(self, flow_run: FlowRun, state: State[Any], flow_name: str) -> None:
        """Take note that a run of a flow begins, or begins again."""
        id_ = str(flow_run.id)
        self.join(id_)
        if id_ == self.root:
            self._course.begin()
            self.put(KnownRun(flow_run, flow_name))
            tee.listen(self._hear)
        if id_ not in self._told or id_ in self._begun:
            # What was before, or since it last began, was told by nobody.
            self.put(ReadStates(id_, flow_run.name))
        self._begun.add(id_)
        self.told(flow_run, state)

    def told(self, flow_run: FlowRun, state: State[Any]) -> None:
        """Take note of a state of a flow run."""
        id_ = str(flow_run.id)
        self._told.add(id_)
        self.put(
            state_event(
                id_,
                flow_run.name,
                id_=str(state.id),
                kind=state.type.value,
                state_name=state.name or state.type.value.capitalize(),
                message=state.message,
                occurred=state.timestamp.isoformat(),
            )
        )

    def end(
        self, flow_run: FlowRun, state: State[Any], *, is_alone: bool = False
    ) -> int | None:
        """Take note that a flow run ended; for the outermost one, return a ticket.

        Args:
            flow_run: The flow run.
            state: Its state now.
            is_alone: It certainly has no flow run below it, which the server would have
                to be asked for.
        """
        self.told(flow_run, state)
        if str(flow_run.id) != self.root:
            return None
        self._course.end(state, is_alone=is_alone and self._members == {self.root})
        return self._writer.ask()

    def look(self) -> None:
        """Find out soon how the flow run is: it may have ended without a word."""
        self._course.look_soon()
        self._writer.ask()

    def put(self, item: Any) -> None:
        """Queue something to record: an event, a batch, a job or a question."""
        self._writer.put(item)

    def do(self, job: Job, timeout: float) -> bool:
        """Have something done with the storage, and tell whether it is by then."""
        self.put(job)
        return self._writer.wait(self._writer.ask(), timeout)

    def submitted(
        self,
        flow_run_id: str,
        task_run_id: str,
        index: int | None,
        task_object: Any,
        *,
        is_local: bool,
    ) -> None:
        """Take note of a task run that a task runner got."""
        if index is not None:
            self._preparer.notes.add(task_run_id, index, task_object)
        if not is_local:
            self._preparer.elsewhere.add(task_run_id, flow_run_id)

    def left(self, flow_run_id: str) -> None:
        """Take note that a flow run's task runner is closed."""
        if flow_run_id != self.root:
            return
        self._course.in_body = False
        if not self._course.ended:
            self._course.look_soon(LOOK)
        elif self._writer.waiting:
            self.wait(self._writer.ask())
        elif not self._course.completed:
            # All that this process knows is written; the rest need not be waited for.
            self._writer.ask()
        else:
            self._after()

    def is_written(self, ticket: int) -> bool:
        """Tell whether what a ticket stands for is written, or will not be in time."""
        return self._writer.is_written(ticket) or self._course.time_left <= 0

    def wait(self, ticket: int) -> None:
        """Wait until what a ticket stands for is written, for a limited time."""
        if not self._writer.wait(ticket, self._course.time_left):
            self.complain()

    def complain(self) -> None:
        """Say in the flow's log what was not recorded, once."""
        missing = self._writer.unwritten + len(self._preparer.elsewhere)
        if self._complained or not missing:
            return
        self._complained = True
        self._log.error(
            "%d state changes of this flow run are not recorded: %s. They are tried "
            "again until this process ends; afterwards `prefect-lume runs record` can "
            "fill them in.",
            missing,
            self._writer.error or "it takes too long",
        )

    def _warn(self, error: str) -> None:
        self._log.warning(
            "The state changes of this flow run cannot be recorded: %s. The flow runs "
            "on; they are kept and tried again.",
            error,
        )

    def _hear(self, event: Event, flow_run_id: str) -> None:
        self._writer.put(hear(event, flow_run_id))

    # The end --------------------------------------------------------------------------

    @property
    def last_state(self) -> str | None:
        """Prefect's type of the flow run's state when it was last looked at."""
        return self._course.last_state

    def _after(self) -> None:
        """Close the recording if nothing more is to come."""
        if not self._course.is_over or self._closed or self._writer.waiting:
            return
        if self._preparer.is_waiting and not self._course.is_late:
            return
        self.complain()
        self.close()

    def close(self) -> None:
        """End the recording; what is queued is written no more."""
        self._closed = True
        tee.stop_listening(self._hear)
        _remove(self)
        self._writer.stop()

    def finish(self, deadline: float) -> None:
        """Write what can be written before the process ends."""
        if not self._course.ended:
            self._course.look_soon()
        self._preparer.give_up()
        self._course.in_body = False
        while time.monotonic() < deadline and not self._closed:
            ticket = self._writer.ask()
            written = self._writer.wait(ticket, deadline - time.monotonic())
            if written and not self._course.ended:
                if self.last_state != "CANCELLING":
                    break
                self._course.look_soon()
                time.sleep(0.2)
        self.complain()


_open: dict[str, Recording] = {}
_lock = threading.Lock()


def find(flow_run_id: object) -> Recording | None:
    """Return the recording that a flow run of this process belongs to, if any."""
    return _open.get(str(flow_run_id))


def open_recordings() -> list[Recording]:
    """Return the recordings that have not been closed yet."""
    with _lock:
        return list(dict.fromkeys(_open.values()))


def _add(flow_run_id: str, recording: Recording) -> None:
    with _lock:
        if not _open:
            # Again and again, so that it comes before what Prefect ends by then.
            atexit.unregister(_finish_all)
            atexit.register(_finish_all)
        _open[flow_run_id] = recording


def _remove(recording: Recording) -> None:
    with _lock:
        for id_ in [id_ for id_, known in _open.items() if known is recording]:
            del _open[id_]


def _finish_all() -> None:
    deadline = time.monotonic() + LIMIT
    for recording in open_recordings():
        recording.finish(deadline)
