"""Task runs whose changes this process does not hear: on Dask, on Ray, on others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prefect_lume.recorder.api.asking import FINAL_TYPES
from prefect_lume.recorder.api.lookups import read_many

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_POLL: Final = 0.5


class TasksElsewhere:
    """Task runs that were submitted, and of which nothing was heard so far."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}

    def add(self, task_run_id: str, flow_run_id: str) -> None:
        """Take note of a task run that a task runner took elsewhere."""
        self._waiting[task_run_id] = flow_run_id

    def seen(self, task_run_id: str) -> None:
        """Take note that a task run's changes are heard after all."""
        self._waiting.pop(task_run_id, None)

    def settled(self, client: SyncPrefectClient, timeout: float) -> list[str]:
        """Wait until the server knows how they ended, and return their flow runs.

        Args:
            client: A client of Prefect's server.
            timeout: Seconds to wait at most: the server takes in what ran elsewhere
                with some delay.

        Raises:
            httpx.HTTPError: The server could not be asked.
        """
        waiting, self._waiting = self._waiting, {}
        flow_runs = sorted(set(waiting.values()))
        deadline = time.monotonic() + timeout
        while waiting:
            found = read_many(client, "task_runs", waiting)
            for id_, run in found.items():
                if run["state_type"] in FINAL_TYPES:
                    del waiting[id_]
            if not waiting or time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        return flow_runs
