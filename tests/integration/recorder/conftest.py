"""What the tests of a recorder under faults have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event as Signal
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_lume import migrations
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.orm import OrmPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.service.recorder import RecorderService
from prefect_lume.recorder.translation.translating import Translator
from prefect_lume.storage import sql
from prefect_lume.testing.generated_events import generated_events

Event = dict[str, Any]
Content = tuple[dict[Kind, list[Row]], dict[str, list[StateChange]]]

TASKS = 37
CHANGES_EACH = 3 + 3 * TASKS
#: Seconds for which something is waited for that must come: much, as a machine may be
#: slow. A test that fails for it has nothing to do with speed.
PATIENCE = 180.0
OPEN = [PipelineTaskStatus.PENDING, PipelineTaskStatus.RUNNING]


class RecorderLab:
    """Makes events, recorders of them, and compares what was recorded."""

    #: ``LUME_RECORDER_FULL=1`` runs at full size: 20,000 changes, 59 kills.
    is_full = os.environ.get("LUME_RECORDER_FULL", "") not in ("", "0")
    #: Changes of each flow run that is made.
    changes_each = CHANGES_EACH
    #: Seconds for which something is waited for that must come.
    patience = PATIENCE

    def make_events(self, changes: int, per_second: float = 2000.0) -> list[Event]:
        """Return about so many events of runs that exist nowhere else."""
        seed = uuid4().int % 2**31
        runs = changes // CHANGES_EACH
        return list(generated_events(runs, TASKS, seed=seed, per_second=per_second))

    def post(self, url: str, events: Sequence[Event]) -> None:
        """Let a server have events, as clients do; not faster than it takes them in.

        Of what waits to be stored, a Prefect server drops what is too much.
        """
        with httpx.Client(timeout=60) as client:
            for start in range(0, len(events), 250):
                part = events[start : start + 250]
                while not self._is_taken(client, f"{url}/events", part):
                    # Busy; what it has got already it knows by its id.
                    time.sleep(0.5)
                # The first ones need no question.
                while (
                    start > 1_500 and self._stored(client, url, events) < start - 1_500
                ):
                    time.sleep(0.5)

    def _is_taken(
        self, client: httpx.Client, url: str, events: Sequence[Event]
    ) -> bool:
        """Post events, and tell whether the server took them."""
        try:
            return not client.post(url, json=list(events)).is_server_error
        except httpx.TransportError:
            return False

    def _stored(self, client: httpx.Client, url: str, events: Sequence[Event]) -> int:
        """Return how many of the events of one flow a server has."""
        (flow,) = {
            related["prefect.resource.id"]
            for related in events[0]["related"]
            if related["prefect.resource.role"] == "flow"
        }
        occurred = {"since": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
        asked = {"related": {"id": [flow]}, "occurred": occurred}
        answer = client.post(f"{url}/events/filter", json={"filter": asked, "limit": 0})
        total: int = answer.raise_for_status().json()["total"]
        return total

    def since(self) -> datetime:
        """Return a time before all that a test will make."""
        return datetime.now(UTC) - timedelta(seconds=15)

    def new_storage(self, url: str) -> OrmPipelineResultsStorage:
        """Return a storage in an empty database."""
        engine = sql.get_engine(url)
        migrations.upgrade(engine)
        return OrmPipelineResultsStorage(engine)

    @contextmanager
    def service(
        self,
        api: str,
        storage: PipelineStorage,
        source: str = "here",
        wrap: Callable[[Any], Any] = lambda client: client,
        **options: Any,
    ) -> Iterator[RecorderService]:
        """Yield a recorder of a server that is quick to look."""
        # The server has the events of the made runs, and not the runs.
        options = {
            "poll": 0.2,
            "sweep_every": 2.0,
            "settle": 0.5,
            "reconcile_every": None,
            "pauses": (0.2, 2.0),
        } | options
        changed = {PREFECT_API_URL: api}
        with temporary_settings(changed), get_client(sync_client=True) as client:
            asked = wrap(client)
            directory = FlowRunDirectory(asked)
            yield RecorderService(asked, storage, directory, source=source, **options)

    @contextmanager
    def recording(
        self, api: str, storage: PipelineStorage, source: str = "here", **options: Any
    ) -> Iterator[RecorderService]:
        """Run a recorder in a thread; it has to end when it is told to."""
        with self.service(api, storage, source, **options) as service:
            stop = Signal()
            thread = Thread(target=service.run, args=(stop,))
            thread.start()
            try:
                yield service
            finally:
                stop.set()
                thread.join(PATIENCE)
        assert not thread.is_alive(), "it does not stop"

    def wait_for(self, done: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until something holds; fail if it does not come to hold."""
        deadline = time.monotonic() + patience
        while not done():
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.2)

    def run_ids(self, events: Sequence[Event]) -> list[str]:
        """Return the ids of the flow runs of events."""
        prefix = "prefect.flow-run."
        resources = (event["resource"]["prefect.resource.id"] for event in events)
        return sorted({id_.removeprefix(prefix) for id_ in resources if prefix in id_})

    def count(self, storage: PipelineStorage, ids: Sequence[str]) -> int:
        """Return how many changes of these runs there are."""
        return sum(storage.count_states(id_) for id_ in ids)

    def content(self, storage: PipelineStorage, ids: Sequence[str]) -> Content:
        """Return all rows of these runs, and every change that was reported of them."""
        rows: dict[Kind, list[Row]] = {kind: [] for kind in Kind}
        for start in range(0, len(ids), 100):
            some = list(ids[start : start + 100])
            rows[Kind.EXECUTION] += storage.find(Kind.EXECUTION, {"id": some})
            for kind in (Kind.RESULT, Kind.TASK_EXECUTION, Kind.TASK_RESULT):
                rows[kind] += storage.find(kind, {"run_id": some})
        for found in rows.values():
            found.sort(key=lambda row: row.id)
        targets = [row.id for found in rows.values() for row in found]
        history: dict[str, list[StateChange]] = {}
        for start in range(0, len(targets), 500):
            history |= storage.get_history(targets[start : start + 500])
        reported = {
            id_: [change for change in changes if not change.inferred]
            for id_, changes in history.items()
        }
        return rows, {id_: changes for id_, changes in reported.items() if changes}

    def reference(self, api: str, events: Sequence[Event]) -> PipelineStorage:
        """Return a storage that was given the events once and in order."""
        storage = MemoryPipelineResultsStorage()
        changed = {PREFECT_API_URL: api}
        with temporary_settings(changed), get_client(sync_client=True) as client:
            storage.record(Translator(FlowRunDirectory(client)).translate(events))
        return storage

    def assert_complete(
        self, storage: PipelineStorage, api: str, events: Sequence[Event]
    ) -> None:
        """Check that the storage has what it would have if nothing had happened."""
        ids = self.run_ids(events)
        rows, history = self.content(storage, ids)
        recorded = [change.id for changes in history.values() for change in changes]
        assert len(recorded) == len(set(recorded)), "something was recorded twice"
        assert set(recorded) == {event["id"] for event in events}
        expected_rows, expected_history = self.content(self.reference(api, events), ids)
        assert rows == expected_rows
        assert history == expected_history
        statuses = {row.status for row in rows[Kind.EXECUTION]}
        assert statuses == {PipelineTaskStatus.DONE}

    def still_open(self, storage: PipelineStorage, run_id: str) -> list[Row]:
        """Return what has not ended of a run."""
        found = storage.find(Kind.EXECUTION, {"id": run_id, "status": OPEN})
        for kind in (Kind.RESULT, Kind.TASK_EXECUTION, Kind.TASK_RESULT):
            found += storage.find(kind, {"run_id": run_id, "status": OPEN})
        return found


@pytest.fixture
def lab() -> RecorderLab:
    """What makes events, recorders of them, and compares what was recorded."""
    return RecorderLab()
