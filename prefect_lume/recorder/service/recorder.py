"""The service that records whatever runs on a Prefect server."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, cast

import httpx
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from prefect_lume.errors import StorageError
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.filters import check_time
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.service.completing import CompletenessCheck
from prefect_lume.recorder.service.events import Event, EventReader, occurred
from prefect_lume.recorder.service.filling import GapFiller
from prefect_lume.recorder.service.following import FAR_BACK, NEAR, EventFollower
from prefect_lume.recorder.service.pacing import Every, Outage
from prefect_lume.recorder.service.reconciling import (
    LOST_AFTER,
    SETTLED,
    SILENT_AFTER,
    Reconciled,
    Reconciler,
)
from prefect_lume.recorder.service.stopping import StoppableClient, StoppedError
from prefect_lume.recorder.service.storing import EventStore
from prefect_lume.recorder.translation.history import read_runs
from prefect_lume.recorder.translation.translating import Translator

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)

#: Read again after a restart, and looked through for late events now and then.
BACK: Final = timedelta(seconds=60)
#: Runs that ended so long before the position are checked after a restart.
CHECK_BACK: Final = timedelta(minutes=10)
_POSITION_EVERY: Final = 10.0
_KEEPER_WAITS: Final = 0.2


@dataclass
class RecorderStatistics:
    """What a recorder has done since it was started.

    Attributes:
        recorded: New changes.
        read: Events that were taken in.
        filled: Runs that lacked changes, which were asked for.
        refused: Events that the storage does not take.
        lag: How old the newest event was when it had been recorded.
        closed: Objects that were closed without a report of their end.
        reconciled: What the last reconciliation found.
    """

    recorded: int = 0
    read: int = 0
    filled: int = 0
    refused: int = 0
    lag: timedelta = timedelta()
    closed: int = 0
    reconciled: Reconciled | None = None


class RecorderService:
    """Records every state change of a Prefect server's flow runs and task runs.

    It reads the server's events, without a connection that has to stay open, so that
    nothing is lost while it, the server or the storage is down. Any number may run at
    once: they record everything once.

    Args:
        client: A client of the server.
        storage: Where it is recorded.
        directory: What knows the flow runs. The service lets it ask in a way that can
            be stopped: it is for this service alone.
        source: A name for the server, under which is kept how far it was read: the
            URL of its API.
        since: Read from this time on. Otherwise it goes on where it was, and begins
            with the oldest event that the server has.
        poll: How many seconds pass between two questions while little happens.
        batch: How many events are recorded in one transaction, if there are so many.
        settle: How many seconds after its end a flow run is checked for completeness.
        sweep_every: How often late events are looked for, in seconds.
        reconcile_every: How often runs are looked for that ended without a word, in
            seconds; never, if there are none.
        lost_after: See :func:`prefect_lume.recorder.service.reconciling.reconcile`.
        silent_after: See there.
        settled: See there.
        pauses: How many seconds it waits before it tries again what failed: at first,
            and at most.

    Example:
        A service in a thread of its own::

            service = RecorderService(
                client, storage, FlowRunDirectory(client), source=str(client.api_url)
            )
            stop = threading.Event()
            threading.Thread(target=service.run, args=(stop,)).start()
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        storage: PipelineStorage,
        directory: FlowRunDirectory,
        *,
        source: str,
        since: datetime | None = None,
        poll: float = 1.0,
        batch: int = 1_000,
        settle: float = 10.0,
        sweep_every: float = 20.0,
        reconcile_every: float | None = 60.0,
        lost_after: timedelta = LOST_AFTER,
        silent_after: timedelta = SILENT_AFTER,
        settled: timedelta = SETTLED,
        pauses: tuple[float, float] = (0.5, 30.0),
    ) -> None:
        check_time("since", since)
        self.source = source
        self.statistics = RecorderStatistics()
        self._stoppable = StoppableClient(client)
        # All that is asked for is asked for by the way of `request`.
        self._client = client = cast("SyncPrefectClient", self._stoppable)
        directory.ask_through(client)
        self._storage, self._directory = storage, directory
        self._since, self._poll, self._batch = since, poll, batch
        self._reader = EventReader(client)
        self._store = EventStore(storage, Translator(directory))
        self._filler = GapFiller(client, storage, directory, self._store)
        self._checks = CompletenessCheck(
            client, self._filler, settle=settle, is_stopped=self._is_stopped
        )
        self._follower: EventFollower | None = None
        self._kept: datetime | None = None
        self._busy = True
        self._stop = threading.Event()
        self._pauses = pauses
        self._failure: BaseException | None = None
        self._sweep = Every(sweep_every)
        self._far_sweep = Every(15 * sweep_every)
        self._reconciliation = Every(reconcile_every)
        self._reconciler = Reconciler(
            client,
            storage,
            directory,
            lost_after=lost_after,
            silent_after=silent_after,
            settled=settled,
            is_stopped=self._is_stopped,
        )
        self._positions = Every(_POSITION_EVERY)

    @property
    def is_behind(self) -> bool:
        """Whether there is more to read at once."""
        return self._follower is None or self._follower.is_behind

    def run(self, stop: threading.Event) -> None:
        """Record until told to stop, whatever fails meanwhile.

        When it returns, nothing of it records any more.

        Args:
            stop: Ends it after the batch that is being recorded.
        """
        self._stop = stop
        # The client would try again by itself, where this one says what is wrong.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            self._stoppable.begin(stop)
            self._run(stop)

    def _run(self, stop: threading.Event) -> None:
        # What may take long must not hold up the events that come.
        keeper = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._again_and_again, stop, self._keep_house, self._poll),
            name="lume-recorder-checks",
            daemon=True,
        )
        keeper.start()
        try:
            self._again_and_again(stop, self._follow, 0.0)
        finally:
            stop.set()
            keeper.join()
        if self._failure is not None:
            raise self._failure

    def _again_and_again(
        self, stop: threading.Event, work: Callable[[], object], first: float
    ) -> None:
        """Do something until told to stop, whatever fails meanwhile."""
        outage = Outage(*self._pauses)
        stop.wait(first)
        while not stop.is_set():
            began = time.monotonic()
            try:
                work()
            except StoppedError:
                return
            except (httpx.HTTPError, json.JSONDecodeError) as error:
                # JSON: something between here and the server answers in its place.
                stop.wait(outage.failed("The Prefect server", error))
                continue
            except StorageError as error:
                stop.wait(outage.failed("The storage of pipelines", error))
                continue
            except BaseException as error:  # noqa: BLE001 - raised by the other thread.
                self._failure = error
                stop.set()
                return
            outage.over()
            if not self.is_behind:
                stop.wait(max(0.0, self._poll - (time.monotonic() - began)))
            elif work == self._keep_house:
                stop.wait(_KEEPER_WAITS)

    def run_once(self, stop: threading.Event | None = None) -> None:
        """Record all that there is, check and reconcile it, and end.

        Args:
            stop: Ends it earlier, after the batch that is being recorded.

        Raises:
            httpx.HTTPError: The server cannot be reached.
            StorageError: The storage cannot be used.
        """
        self._stop = stop or self._stop
        self._stoppable.begin(self._stop)
        try:
            self._do_all()
        except StoppedError:
            return

    def _do_all(self) -> None:
        while self.is_behind:
            if self._stop.is_set():
                return
            self.step()
        follower = self._start()
        follower.late(BACK)
        follower.early()
        self._checks.check_due(all_of_them=True)
        self.reconcile()
        self._keep_position(follower, at_once=True)
        self._tell()

    def step(self) -> int:
        """Do one round: read and record what is new, and whatever else is due.

        Returns:
            How many new changes were recorded.

        Raises:
            httpx.HTTPError: The server cannot be reached. What was not recorded will
                be read again.
            StorageError: The storage cannot be used; likewise.
        """
        before = self._store.recorded
        self._follow()
        self._keep_house()
        return self._store.recorded - before

    def _follow(self) -> None:
        """Read and record what is new."""
        follower = self._start()
        if self._checks.is_full:
            # They are checked before more are noted: what waits is bounded.
            self._stop.wait(_KEEPER_WAITS)
            return
        if self._busy or not follower.is_idle():
            read = self.statistics.read
            follower.forward()
            if not follower.is_behind:
                # Without news, what is not as it was must be late.
                is_late = self.statistics.read == read
                follower.late(NEAR, to_the_end=is_late)
            self._busy = follower.is_behind or self.statistics.read > read
        self._keep_position(follower)
        if not follower.is_behind:
            self._look_back(follower)
        self._tell()

    def _keep_house(self) -> None:
        """Check and reconcile what is due."""
        if self.is_behind and not self._checks.is_full:
            return
        self._checks.check_due(all_of_them=self._checks.is_full)
        if not self.is_behind and self._reconciliation.is_due():
            self.reconcile()
        self._tell()

    def reconcile(self) -> Reconciled:
        """Close what ended without a word; see the function of this name."""
        done = self._reconciler.run(self._reader.now())
        self._store.recorded += done.changes
        self.statistics.closed += done.closed
        self.statistics.reconciled = done
        self._reconciliation.done()
        return done

    # Where to begin -----------------------------------------------------------------

    def _start(self) -> EventFollower:
        if self._follower is None:
            self._follower = self._begin()
        return self._follower

    def _begin(self) -> EventFollower:
        oldest = self._reader.first()
        now = self._reader.now()
        start = oldest or now
        position = self._since or self._storage.get_position(self.source)
        if position is not None:
            if position < start:
                # The server keeps events for some days only.
                self._fill(position, start)
            if self._since is None:
                start = max(start, position - BACK)
                # They may not have been checked before it stopped.
                self._checks.note_ended(position - CHECK_BACK, start)
            else:
                start = max(start, position)
        return EventFollower(self._reader, start, self._take, batch=self._batch)

    def _fill(self, since: datetime, until: datetime) -> None:
        """Record from the API what happened before the oldest event."""
        logger.warning(
            "The server's events reach back to %s only: what happened since %s is read "
            "from the runs themselves.",
            until.isoformat(timespec="seconds"),
            since.isoformat(timespec="seconds"),
        )
        for batch in read_runs(self._client, self._directory, since, until):
            self._store.record_history(batch)
            self._stoppable.check()

    def _keep_position(self, follower: EventFollower, at_once: bool = False) -> None:
        """Keep how far everything is recorded, now and then."""
        position = follower.cursor
        if not follower.is_behind:
            # Nothing came for long: that is known too.
            position = max(position, self._reader.now() - BACK)
        is_due = at_once or follower.is_behind or self._positions.is_due()
        if self._kept is None or is_due:
            if self._kept is None or position > self._kept:
                self._storage.set_position(self.source, position)
                self._kept = position
            self._positions.done()

    # What is due --------------------------------------------------------------------

    def _take(self, events: list[Event]) -> None:
        """Record events, and note what is to be checked of them."""
        self._stoppable.check()
        self._store(events)
        self._checks.note(events)
        self.statistics.read += len(events)
        newest = max(map(occurred, events))
        self.statistics.lag = max(timedelta(), self._reader.now() - newest)

    def _look_back(self, follower: EventFollower) -> None:
        if self._far_sweep.is_due():
            follower.late(FAR_BACK)
            self._far_sweep.done()
        if self._sweep.is_due():
            follower.late(BACK)
            follower.early()
            self._sweep.done()

    def _is_stopped(self) -> bool:
        return self._stop.is_set()

    def _tell(self) -> None:
        self.statistics.recorded = self._store.recorded
        self.statistics.refused = self._store.refused
        self.statistics.filled = self._filler.filled
