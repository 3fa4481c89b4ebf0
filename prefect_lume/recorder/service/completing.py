"""Checking runs that have ended: is every one of their states recorded?"""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import FlowRunFacts
from prefect_lume.pipelines.rows import result_id
from prefect_lume.recorder.api.asking import FINAL_TYPES, read_task_runs
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.lookups import Json, pages, read_many
from prefect_lume.recorder.service.events import Event
from prefect_lume.recorder.service.storing import EventStore
from prefect_lume.recorder.translation.history import read_run
from prefect_lume.recorder.translation.translating import FLOW_RUN_EVENTS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: Flow runs that are checked with the same requests.
TOGETHER: Final = 50
#: With more waiting than this, they are checked before more events are read.
MOST_WAITING: Final = 2_000


class CompletenessCheck:
    """Compares flow runs that have ended with what the server says of them.

    Args:
        client: A client of the server.
        storage: Where they are recorded.
        directory: What knows the flow runs.
        store: Records what is missing.
        settle: How many seconds after its end a run is checked: its last events may
            be on their way.
        is_stopped: Tells whether to end before all are checked.
        clock: Returns seconds that only go forward.

    Attributes:
        filled: How many runs were not complete and were filled.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        storage: PipelineStorage,
        directory: FlowRunDirectory,
        store: EventStore,
        *,
        settle: float = 10.0,
        is_stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._storage = client, storage
        self._directory, self._store = directory, store
        self._settle, self._clock = settle, clock
        self._is_stopped = is_stopped
        self._waiting: OrderedDict[str, float] = OrderedDict()
        # Noted in one thread, checked in another.
        self._lock = threading.Lock()
        self.filled = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether some have to be checked before more are noted."""
        return len(self._waiting) > MOST_WAITING

    def note(self, events: Iterable[Event]) -> None:
        """Take in flow runs which, as these events tell, have ended."""
        for event in events:
            if not event["event"].startswith(FLOW_RUN_EVENTS):
                continue
            state = (event.get("payload") or {}).get("validated_state")
            id_ = event["resource"]["prefect.resource.id"]
            # Anybody may send events of such names.
            if not isinstance(state, dict) or not id_.startswith(FLOW_RUN_EVENTS):
                continue
            if state.get("type") in FINAL_TYPES:
                self._wait(id_.removeprefix(FLOW_RUN_EVENTS))

    def note_ended_since(self, time: datetime) -> None:
        """Take in the flow runs that have ended since, as after a restart."""
        body = {
            "flow_runs": {"end_time": {"after_": time.isoformat()}},
            "sort": "ID_DESC",
        }
        for page in pages(self._client, "/flow_runs/filter", body):
            for run in page:
                self._wait(run["id"])

    def _wait(self, flow_run_id: str) -> None:
        with self._lock:
            self._waiting[flow_run_id] = self._clock() + self._settle
            self._waiting.move_to_end(flow_run_id)

    def check_due(self, *, all_of_them: bool = False) -> int:
        """Check the runs whose time has come; return how many changes were missing.

        Args:
            all_of_them: Check the others too.
        """
        new, now = 0, self._clock()
        while not self._is_stopped():
            due = self._due(now, all_of_them)
            if not due:
                break
            new += self._check(list(due))
            # Only now: should the server or the storage fail, they still wait.
            with self._lock:
                for id_, when in due.items():
                    if self._waiting.get(id_) == when:
                        del self._waiting[id_]
        return new

    def _due(self, now: float, all_of_them: bool) -> dict[str, float]:
        with self._lock:
            due = itertools.takewhile(
                lambda item: all_of_them or item[1] <= now, self._waiting.items()
            )
            return dict(itertools.islice(due, TOGETHER))

    def _check(self, ids: list[str]) -> int:
        runs = read_many(self._client, "flow_runs", ids)
        if not runs:
            return 0
        facts = self._directory.learn_runs(list(runs.values()))
        incomplete = self._flow_runs_missing(runs, facts)
        # The task runs of a run over objects are the runs for the objects.
        with_tasks = [id_ for id_ in runs if not is_mapped_parent(facts[id_])]
        if not with_tasks:
            return sum(self.fill(id_) for id_ in sorted(incomplete))
        for page in read_task_runs(self._client, with_tasks):
            history = self._storage.get_history([run["id"] for run in page])
            for run in page:
                known = {change.id for change in history.get(run["id"], ())}
                if run.get("state_id") and run["state_id"] not in known:
                    incomplete.add(run["flow_run_id"])
        return sum(self.fill(id_) for id_ in sorted(incomplete))

    def _flow_runs_missing(
        self, runs: Mapping[str, Json], facts: Mapping[str, FlowRunFacts]
    ) -> set[str]:
        """Return the flow runs whose present state is not recorded."""
        targets = {id_: target_of(facts[id_]) for id_ in runs}
        history = self._storage.get_history(list(targets.values()))
        return {
            id_
            for id_, run in runs.items()
            if run.get("state_id")
            and run["state_id"] not in {c.id for c in history.get(targets[id_], ())}
        }

    def fill(self, flow_run_id: str) -> int:
        """Record all that the API has of a flow run; return how much was new."""
        batch = read_run(self._client, self._directory, flow_run_id)
        new = self._store.record_history(batch)
        self.filled += bool(new)
        return new


def target_of(facts: FlowRunFacts) -> str:
    """Return the id of the object that a flow run's states are states of."""
    if facts.index is None:
        return facts.run_id
    return result_id(facts.run_id, facts.index)


def is_mapped_parent(facts: FlowRunFacts) -> bool:
    """Tell whether a flow run runs a pipeline over objects, rather than on one."""
    return facts.is_mapped and not facts.is_object
