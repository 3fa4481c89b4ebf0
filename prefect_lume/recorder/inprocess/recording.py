"""One recording: a flow run of this process, with all that it runs below itself."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import NOT_READY, Batch, StateChange
from prefect_lume.pipelines.rows import Kind
from prefect_lume.recorder.api.asking import FINAL_TYPES
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.links import DeploymentLinks, HasRegistry
from prefect_lume.recorder.inprocess import tee
from prefect_lume.recorder.inprocess.connecting import own_client
from prefect_lume.recorder.inprocess.elsewhere import TasksElsewhere
from prefect_lume.recorder.inprocess.family import AT_REST, Family, state_event, told_by
from prefect_lume.recorder.inprocess.mapping import MapNotes
from prefect_lume.recorder.inprocess.writing import Writer
from prefect_lume.recorder.translation.history import read_run
from prefect_lume.recorder.translation.telling import Told
from prefect_lume.recorder.translation.translating import Translator

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.events import Event

#: Seconds for which the end of a flow waits for what could not be written.
LIMIT: Final = 10.0
#: Seconds for which what a flow left behind is listened to.
LINGER: Final = 60.0
#: Seconds after which a flow that ended without saying so is looked for.
_LOOK: Final = 0.5
_LOOK_AGAIN: Final = 2.0

_open: dict[str, Recording] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class ReadStates:
    """Asks for a flow run's states from the API, with its tasks, and again later."""

    flow_run_id: str
    name: str | None = None
    with_tasks: bool = False
    again: bool = False


#: Something to do with the storage, in its turn.
Job = Callable[[PipelineStorage], None]


def find(flow_run_id: object) -> Recording | None:
    """Return the recording that a flow run of this process belongs to, if any."""
    return _open.get(str(flow_run_id))


def open_recordings() -> list[Recording]:
    """Return the recordings that have not been closed yet."""
    with _lock:
        return list(dict.fromkeys(_open.values()))


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
        limit: float = LIMIT,
    ) -> None:
        self.root = str(flow_run_id)
        self._open_context = open_context
        self._log = log
        self._deployment_id = deployment_id
        self._limit = limit
        self._members = {self.root}
        self._told: set[str] = set()
        self._begun: set[str] = set()
        self._unheard: set[str] = set()
        self._open_tasks: set[str] = set()
        self._notes = MapNotes()
        self._elsewhere = TasksElsewhere()
        self._client: SyncPrefectClient | None = None
        self._family: Family | None = None
        self._translator: Translator | None = None
        self._in_body = False
        self._look_at: float | None = None
        self._ended = self._completed = self._closed = False
        self._end_at: float | None = None
        self._complained = False
        self.last_state: str | None = None
        self._writer = Writer(
            f"prefect-lume recording {self.root[:8]}",
            self._prepare,
            open_storage,
            self._warn,
            self._after,
            self._disconnect,
        )

    # What the flow's threads do -------------------------------------------------------

    def start(self, *, listening: bool = True) -> None:
        """Begin to record, with the settings of the calling context."""
        with _lock:
            if not _open:
                # Again and again, so that it comes before what Prefect ends by then.
                atexit.unregister(_finish_all)
                atexit.register(_finish_all)
            _open[self.root] = self
        if listening:
            tee.listen(self._hear)
        self._writer.start()

    def join(self, flow_run_id: object) -> None:
        """Take a flow run of this process into the recording."""
        id_ = str(flow_run_id)
        self._members.add(id_)
        with _lock:
            _open[id_] = self

    def began(self, flow_run: FlowRun, state: State[Any]) -> None:
        """Take note that a flow run begins, or begins again."""
        id_ = str(flow_run.id)
        self.join(id_)
        if id_ == self.root:
            self._ended = self._completed = False
            self._in_body, self._look_at, self._end_at = True, None, None
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

    def end(self, flow_run: FlowRun, state: State[Any]) -> int | None:
        """Take note that a flow run ended; for the outermost one, return a ticket."""
        self.told(flow_run, state)
        if str(flow_run.id) != self.root:
            return None
        self._end_at = self._end_at or time.monotonic()
        if state.is_final():
            self._ended = True
        else:
            # Prefect says that it is cancelled only after this.
            self._look_at = time.monotonic() + _LOOK
        return self._writer.ask()

    def look(self) -> None:
        """Find out soon how the flow run is: it may have ended without a word."""
        self._look_at = time.monotonic()
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
            self._notes.add(task_run_id, index, task_object)
        if not is_local:
            self._elsewhere.add(task_run_id, flow_run_id)

    def left(self, flow_run_id: str) -> None:
        """Take note that a flow run's task runner is closed."""
        if flow_run_id != self.root:
            return
        self._in_body = False
        if not self._ended:
            self._look_at = time.monotonic() + _LOOK
        elif self._writer.waiting:
            self.wait(self._writer.ask())
        else:
            self._after()

    def is_written(self, ticket: int) -> bool:
        """Tell whether what a ticket stands for is written, or will not be in time."""
        return self._writer.is_written(ticket) or self._rest() <= 0

    def wait(self, ticket: int) -> None:
        """Wait until what a ticket stands for is written, for a limited time."""
        if not self._writer.wait(ticket, self._rest()):
            self.complain()

    def complain(self) -> None:
        """Say in the flow's log what was not recorded, once."""
        missing = self._writer.unwritten + len(self._elsewhere)
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

    def _rest(self) -> float:
        return (self._end_at or time.monotonic()) + self._limit - time.monotonic()

    def _warn(self, error: str) -> None:
        self._log.warning(
            "The state changes of this flow run cannot be recorded: %s. The flow runs "
            "on; they are kept and tried again.",
            error,
        )

    def _hear(self, event: Event, flow_run_id: str) -> None:
        self._writer.put((event, flow_run_id))

    # What the recording's thread does -------------------------------------------------

    def _prepare(self, items: list[Any], storage: PipelineStorage) -> Batch:
        family, translator = self._connect()
        batch = Batch()
        events: list[Told | dict[str, Any]] = []
        heard = {item[1] for item in items if type(item) is tuple}
        self._unheard |= family.sort_out(heard)
        for item in items:
            if type(item) is tuple:
                if item[1] in self._members:
                    events.append(told_by(*item))
            elif isinstance(item, dict):
                events.append(item)
            elif isinstance(item, Batch):
                batch.add(item)
            elif isinstance(item, ReadStates):
                events += family.states(item.flow_run_id, item.name)
                if item.with_tasks:
                    self._elsewhere.ended(item.flow_run_id, again=item.again)
                    self._read_elsewhere(family, batch)
            else:
                item(storage)
        if self._look_at is not None and time.monotonic() >= self._look_at:
            events += self._look(family)
        if self._ended:
            events += self._complete(family, batch)
        batch.add(translator.translate(events))
        self._fill_in(batch)
        return batch

    def _connect(self) -> tuple[Family, Translator]:
        if self._family is None or self._translator is None:
            client = self._client = own_client().__enter__()
            links = DeploymentLinks(self._open_context())
            directory = FlowRunDirectory(client, links)
            self._family = Family(client, directory, self._members)
            self._translator = Translator(directory)
        return self._family, self._translator

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.__exit__(None, None, None)

    def _look(self, family: Family) -> list[dict[str, Any]]:
        """See how the flow run is; return its states if it has come to rest."""
        self.last_state = family.state_of(self.root)
        if self.last_state is not None and self.last_state not in AT_REST:
            self._look_at = time.monotonic() + _LOOK_AGAIN
            return []
        self._look_at = None
        self._end_at = self._end_at or time.monotonic()
        self._ended = True
        return family.states(self.root)

    def _complete(self, family: Family, batch: Batch) -> list[dict[str, Any]]:
        """Return the states of all flow runs that did not tell of all themselves."""
        if self._completed:
            self._read_elsewhere(family, batch)
            return []
        events: list[dict[str, Any]] = []
        self._unheard |= family.find_below()
        # Somebody may have set a state of it from outside, as one does to cancel it.
        self._unheard.add(self.root)
        for id_ in sorted(self._unheard):
            events += family.states(id_)
        self._read_elsewhere(family, batch, 0.8 * self._limit)
        self._unheard.clear()
        batch.task_runs += self._notes.rest()
        self._completed = True
        return events

    def _read_elsewhere(self, family: Family, batch: Batch, timeout: float = 0) -> None:
        """Add what the server knows of task runs of which nothing is heard here."""
        for id_ in self._elsewhere.settled(family.client, timeout):
            batch.add(read_run(family.client, family.directory, id_))

    def _fill_in(self, batch: Batch) -> None:
        self._notes.tell(batch.task_runs)
        for change in batch.changes:
            if change.kind is Kind.TASK_RESULT:
                self._elsewhere.seen(change.target)
                self._note_open(change)
        if self._deployment_id is not None:
            for facts in batch.flow_runs:
                if facts.flow_run_id == self.root and facts.deployment_id is None:
                    facts.deployment_id = self._deployment_id

    def _note_open(self, change: StateChange) -> None:
        if change.state_type in FINAL_TYPES or change.state_name == NOT_READY:
            self._open_tasks.discard(change.target)
        else:
            self._open_tasks.add(change.target)

    def _after(self) -> None:
        """Close the recording if nothing more is to come."""
        if not (self._ended and self._completed) or self._in_body or self._closed:
            return
        late = time.monotonic() > (self._end_at or 0.0) + LINGER
        is_open = self._open_tasks or self._elsewhere.is_open
        if (is_open and not late) or self._writer.waiting:
            return
        self.complain()
        self.close()

    def close(self) -> None:
        """End the recording; what is queued is written no more."""
        self._closed = True
        tee.stop_listening(self._hear)
        with _lock:
            for id_ in [id_ for id_, known in _open.items() if known is self]:
                del _open[id_]
        self._writer.stop()

    def finish(self, deadline: float) -> None:
        """Write what can be written before the process ends."""
        if not self._ended:
            self._look_at = time.monotonic()
        self._open_tasks.clear()
        self._elsewhere.give_up()
        self._in_body = False
        while time.monotonic() < deadline and not self._closed:
            ticket = self._writer.ask()
            written = self._writer.wait(ticket, deadline - time.monotonic())
            if written and not self._ended:
                if self.last_state != "CANCELLING":
                    break
                self._look_at = time.monotonic()
                time.sleep(0.2)
        self.complain()


def _finish_all() -> None:
    deadline = time.monotonic() + LIMIT
    for recording in open_recordings():
        recording.finish(deadline)
