"""Events into a storage; what it cannot take is left out by itself."""

from __future__ import annotations

import logging
import threading
from typing import Final

from prefect_lume.errors import ConflictError, EncodingError, InvalidInputError, clip
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import Batch
from prefect_lume.recorder.service.events import Event
from prefect_lume.recorder.translation.translating import Translator

logger = logging.getLogger(__name__)

#: What a storage raises for what is in a batch, and would raise for it every time.
REFUSALS: Final = (InvalidInputError, EncodingError, ConflictError)
_TOLD: Final = 20


class EventStore:
    """Translates events and records what they tell.

    Args:
        storage: Takes the changes.
        translator: Makes changes of events.

    Attributes:
        recorded: How many new changes were recorded.
        refused: How many events were left out since the storage refuses them.
    """

    def __init__(self, storage: PipelineStorage, translator: Translator) -> None:
        self._storage, self._translator = storage, translator
        self.recorded = 0
        self.refused = 0
        self._lock = threading.Lock()

    def __call__(self, events: list[Event]) -> int:
        """Record events; return how many changes were new.

        An event that the storage refuses must not hold up all others: it is found by
        halving, left out, and logged.

        Raises:
            StorageError: The storage cannot take anything now.
            httpx.HTTPError: What an event does not say could not be asked for.
        """
        try:
            new = self.record(self._translator.translate(events))
        except REFUSALS as error:
            if len(events) == 1:
                self._leave_out(events[0], error)
                return 0
            half = len(events) // 2
            return self(events[:half]) + self(events[half:])
        return new

    def record(self, batch: Batch) -> int:
        """Record a batch; return how many changes were new.

        Raises:
            LumeError: The storage does not take it.
        """
        new = self._storage.record(batch) if batch else 0
        with self._lock:
            self.recorded += new
        return new

    def record_history(self, batch: Batch) -> int:
        """Record the history of a flow run; return how many changes were new.

        If the storage refuses it, that is logged.

        Raises:
            StorageError: The storage cannot take anything now.
        """
        try:
            return self.record(batch)
        except REFUSALS as error:
            self.refused += 1
            runs = sorted(run.flow_run_id for run in batch.flow_runs)
            logger.error(
                "The storage refuses the history of flow run %s: %s",
                clip(", ".join(runs), 80),
                clip(error),
            )
            return 0

    def _leave_out(self, event: Event, error: Exception) -> None:
        self.refused += 1
        if self.refused > _TOLD:
            return
        logger.error(
            "The storage refuses event %s (%s of %s), which is left out: %s%s",
            event.get("id"),
            clip(event.get("event"), 80),
            clip((event.get("resource") or {}).get("prefect.resource.id"), 80),
            clip(error),
            " What else it refuses is only counted." if self.refused == _TOLD else "",
        )
