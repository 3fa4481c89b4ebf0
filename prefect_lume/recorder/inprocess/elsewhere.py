"""What this process does not hear: task runs on Dask or Ray, runs of deployments."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prefect_lume.recorder.api.asking import FINAL_TYPES
from prefect_lume.recorder.api.lookups import read_many

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_POLL: Final = 0.5
#: Seconds after the end of a flow run elsewhere when its task runs are read again:
#: the server takes them in with some delay, and does not say how many there are.
_AGAIN: Final = (2.0, 8.0, 25.0)


class TasksElsewhere:
    """Task runs that were submitted, and of which nothing was heard so far."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        self._again: list[tuple[float, str]] = []

    @property
    def is_open(self) -> bool:
        """Whether there may be more to read."""
        return bool(self._waiting or self._again)

    def ended(self, flow_run_id: str, *, again: bool) -> None:
        """Take note of a flow run that is to be read now, and perhaps again later."""
        now = time.monotonic()
        delays = (0.0, *_AGAIN) if again else (0.0,)
        self._again += [(now + delay, flow_run_id) for delay in delays]

    def give_up(self) -> None:
        """Read nothing again: the process ends."""
        self._again.clear()

    def add(self, task_run_id: str, flow_run_id: str) -> None:
        """Take note of a task run that a task runner took elsewhere."""
        self._waiting[task_run_id] = flow_run_id

    def seen(self, task_run_id: str) -> None:
        """Take note that a task run's changes are heard after all."""
        self._waiting.pop(task_run_id, None)

    def __len__(self) -> int:
        return len(self._waiting)

    def settled(self, client: SyncPrefectClient, timeout: float = 0.0) -> list[str]:
        """Return the flow runs of those of which the server knows how they ended.

        The others are left for the next time. Flow runs that are to be read again are
        among them when it is time for it.

        Args:
            client: A client of Prefect's server.
            timeout: Seconds to wait for all at most: the server takes in what ran
                elsewhere with some delay.

        Raises:
            httpx.HTTPError: The server could not be asked.
        """
        now = time.monotonic()
        settled = {id_ for due, id_ in self._again if due <= now}
        self._again = [item for item in self._again if item[0] > now]
        deadline = time.monotonic() + timeout
        while waiting := dict(self._waiting):
            for id_, run in read_many(client, "task_runs", waiting).items():
                if run["state_type"] in FINAL_TYPES:
                    self._waiting.pop(id_, None)
                    settled.add(waiting[id_])
            if not self._waiting or time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        return sorted(settled)
