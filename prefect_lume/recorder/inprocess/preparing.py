"""What a recording's own thread does: it makes batches of what was queued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import NOT_READY, Batch, StateChange
from prefect_lume.pipelines.rows import Kind
from prefect_lume.recorder.api.asking import FINAL_TYPES
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.links import DeploymentLinks, HasRegistry
from prefect_lume.recorder.inprocess.connecting import own_client
from prefect_lume.recorder.inprocess.course import LOOK_AGAIN, Course
from prefect_lume.recorder.inprocess.elsewhere import TasksElsewhere
from prefect_lume.recorder.inprocess.family import AT_REST, Family
from prefect_lume.recorder.inprocess.hearing import Heard
from prefect_lume.recorder.inprocess.mapping import MapNotes
from prefect_lume.recorder.translation.history import read_run
from prefect_lume.recorder.translation.telling import Told
from prefect_lume.recorder.translation.translating import Translator

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun


@dataclass(frozen=True)
class ReadStates:
    """Asks for a flow run's states from the API, with its tasks, and again later."""

    flow_run_id: str
    name: str | None = None
    with_tasks: bool = False
    again: bool = False


@dataclass(frozen=True)
class KnownRun:
    """A flow run as Prefect's API gave it to this process, which need not ask again."""

    flow_run: FlowRun
    flow_name: str


#: Something to do with the storage, in its turn.
Job = Callable[[PipelineStorage], None]


class Preparer:
    """Makes batches for the writer of a recording, in its thread.

    Args:
        root: Prefect's id of the outermost flow run.
        members: The ids of the flow runs that belong to the recording; filled.
        course: How far the outermost one is.
        open_context: Returns whose registry knows the deployments.
        deployment_id: The registry's deployment that runs, if this process knows it.
    """

    def __init__(
        self,
        root: str,
        members: set[str],
        course: Course,
        open_context: Callable[[], HasRegistry],
        deployment_id: int | None,
    ) -> None:
        self._root = root
        self._members = members
        self._course = course
        self._open_context = open_context
        self._deployment_id = deployment_id
        self.notes = MapNotes()
        self.elsewhere = TasksElsewhere()
        self.open_tasks: set[str] = set()
        self._unheard: set[str] = set()
        self._client: SyncPrefectClient | None = None
        self._directory: FlowRunDirectory | None = None
        self._family: Family | None = None
        self._translator: Translator | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether more is to come of what the flow left behind."""
        return bool(self.open_tasks) or self.elsewhere.is_open

    def give_up(self) -> None:
        """Wait for nothing any more: the process ends."""
        self.open_tasks.clear()
        self.elsewhere.give_up()

    def prepare(self, items: list[Any], storage: PipelineStorage) -> Batch:
        """Return what was queued as a batch, with what is due to be asked by now.

        Raises:
            httpx.HTTPError: The server could not be asked.
        """
        family, translator = self._connect()
        batch = Batch()
        events: list[Told | dict[str, Any]] = []
        self._take_in(items, family)
        for item in items:
            events += self._read(item, family, batch, storage)
        if self._course.is_to_look_at:
            events += self._look(family)
        if self._unheard or self.elsewhere.is_open:
            # The flow waits for what the server knows of these, too.
            self._course.puts_off = False
        if self._course.is_to_complete:
            events += self._complete(family, batch)
        # What only the server knows has its turn the next time.
        self._course.puts_off = False
        batch.add(translator.translate(events))
        self._fill_in(batch)
        return batch

    def _take_in(self, items: list[Any], family: Family) -> None:
        """Find out which flow runs belong here."""
        for item in items:
            if isinstance(item, KnownRun):
                family.directory.learn_run(item.flow_run, item.flow_name)
        heard = {item.flow_run_id for item in items if isinstance(item, Heard)}
        self._unheard |= family.sort_out(heard)

    def _read(
        self, item: Any, family: Family, batch: Batch, storage: PipelineStorage
    ) -> list[Any]:
        """Return the events that something tells, or do what it asks for."""
        if isinstance(item, Heard):
            return [item.told()] if item.flow_run_id in self._members else []
        if isinstance(item, dict):
            return [item]
        if isinstance(item, ReadStates):
            events = family.states(item.flow_run_id, item.name)
            if item.with_tasks:
                self.elsewhere.ended(item.flow_run_id, again=item.again)
                self._read_elsewhere(family, batch)
            return events
        if isinstance(item, Batch):
            batch.add(item)
        elif not isinstance(item, KnownRun):
            item(storage)
        return []

    def disconnect(self) -> None:
        """Close the connection to Prefect's server."""
        if self._client is not None:
            self._client.__exit__(None, None, None)

    def _connect(self) -> tuple[Family, Translator]:
        if self._family is None or self._translator is None:
            client = self._client = own_client().__enter__()
            links = DeploymentLinks(self._open_context())
            directory = FlowRunDirectory(client, links)
            self._family = Family(client, directory, self._members)
            self._translator = Translator(directory)
        return self._family, self._translator

    def _look(self, family: Family) -> list[dict[str, Any]]:
        """See how the flow run is; return its states if it has come to rest."""
        state = self._course.last_state = family.state_of(self._root)
        if state is not None and state not in AT_REST:
            self._course.look_soon(LOOK_AGAIN)
            return []
        self._course.rest(state)
        return family.states(self._root)

    def _complete(self, family: Family, batch: Batch) -> list[dict[str, Any]]:
        """Return the states of all flow runs that did not tell of all themselves."""
        if self._course.completed:
            self._read_elsewhere(family, batch)
            return []
        events: list[dict[str, Any]] = []
        self._unheard |= family.find_below()
        # Somebody may have set a state of it from outside, as one does to cancel it.
        self._unheard.add(self._root)
        for id_ in sorted(self._unheard):
            events += family.states(id_)
        self._read_elsewhere(family, batch, 0.8 * self._course.limit)
        self._unheard.clear()
        batch.task_runs += self.notes.rest()
        self._course.completed = True
        return events

    def _read_elsewhere(self, family: Family, batch: Batch, timeout: float = 0) -> None:
        """Add what the server knows of task runs of which nothing is heard here."""
        for id_ in self.elsewhere.settled(family.client, timeout):
            batch.add(read_run(family.client, family.directory, id_))

    def _fill_in(self, batch: Batch) -> None:
        self.notes.tell(batch.task_runs)
        for change in batch.changes:
            if change.kind is Kind.TASK_RESULT:
                self.elsewhere.seen(change.target)
                self._note_open(change)
        if self._deployment_id is not None:
            for facts in batch.flow_runs:
                if facts.flow_run_id == self._root and facts.deployment_id is None:
                    facts.deployment_id = self._deployment_id

    def _note_open(self, change: StateChange) -> None:
        if change.state_type in FINAL_TYPES or change.state_name == NOT_READY:
            self.open_tasks.discard(change.target)
        else:
            self.open_tasks.add(change.target)
