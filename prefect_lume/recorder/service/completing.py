"""Checking runs that have ended: is every one of their states recorded?"""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from prefect_lume.recorder.api.asking import FINAL_TYPES
from prefect_lume.recorder.api.lookups import pages
from prefect_lume.recorder.service.events import Event
from prefect_lume.recorder.service.filling import GapFiller
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
        filler: Finds and records what is missing.
        settle: How many seconds after its end a run is checked: its last events may
            be on their way.
        is_stopped: Tells whether to end before all are checked.
        clock: Returns seconds that only go forward.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        filler: GapFiller,
        *,
        settle: float = 10.0,
        is_stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._filler = client, filler
        self._settle, self._clock = settle, clock
        self._is_stopped = is_stopped
        self._waiting: OrderedDict[str, float] = OrderedDict()
        # Noted in one thread, checked in another.
        self._lock = threading.Lock()

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

    def note_ended(self, since: datetime, until: datetime) -> None:
        """Take in flow runs of whose end no event is read, as before a restart."""
        ended = {"after_": since.isoformat(), "before_": until.isoformat()}
        body = {
            "flow_runs": {"end_time": ended},
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
            new += self._filler.complete(list(due))
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
