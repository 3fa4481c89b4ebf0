"""Closing what ended without a word: nothing stays running for ever."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import Batch, StateChange
from prefect_lume.pipelines.rows import Kind, Row, derived_id
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.recorder.api.asking import FINAL_TYPES
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.lookups import Json, read_many
from prefect_lume.recorder.service.filling import GapFiller
from prefect_lume.recorder.service.open_runs import OPEN, OpenRun, open_runs
from prefect_lume.recorder.service.silence import SignsOfLife
from prefect_lume.recorder.service.storing import EventStore
from prefect_lume.recorder.translation.translating import Translator

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_S = PipelineTaskStatus

#: Three of the heartbeats that Prefect sends every three minutes, and one minute.
LOST_AFTER: Final = timedelta(minutes=10)
#: For runs of which no heartbeat was ever heard.
SILENT_AFTER: Final = timedelta(hours=24)
#: The last events of a run that has ended may be on their way for so long.
SETTLED: Final = timedelta(seconds=30)

_RUNNING_TYPES: Final = frozenset({"RUNNING", "CANCELLING"})
_CONCLUDED: Final = "This was concluded, not reported."
_REMEMBERED: Final = 10_000
_TOGETHER: Final = 500


@dataclass(slots=True)
class Reconciled:
    """What a reconciliation found and did.

    Attributes:
        open: Flow runs of which something had not ended in the storage.
        filled: Changes that were missing and were read from the API.
        ended: Flow runs that had ended, and left something open.
        deleted: Flow runs that are no longer in Prefect.
        lost: Flow runs whose process gives no sign of life.
        closed: Objects that were closed without a report of their end.
    """

    open: int = 0
    filled: int = 0
    ended: int = 0
    deleted: int = 0
    lost: int = 0
    closed: int = 0

    @property
    def changes(self) -> int:
        """How many changes were recorded."""
        return self.filled + self.closed


def reconcile(
    client: SyncPrefectClient,
    storage: PipelineStorage,
    directory: FlowRunDirectory,
    *,
    now: datetime | None = None,
    lost_after: timedelta = LOST_AFTER,
    silent_after: timedelta = SILENT_AFTER,
    settled: timedelta = SETTLED,
) -> Reconciled:
    """Close what has ended without Prefect's saying so in its events.

    - What ended in Prefect and not in the storage is filled from the API. What Prefect
      itself leaves open of a flow run that has ended is closed.
    - Flow runs that were deleted in Prefect are closed as cancelled.
    - Flow runs that run without any sign of life are closed as failed.

    Each message says what was concluded and why. If Prefect reports something later,
    that counts. What is concluded follows from what is known of a run, not from when it
    is asked: any number of recorders may reconcile one storage.

    Args:
        client: A client of the server.
        storage: Where runs are recorded.
        directory: What knows the flow runs.
        now: The present time.
        lost_after: How long after its last sign of life a flow run that sends
            heartbeats is lost. More than two of Prefect's heartbeats, which come every
            three minutes unless ``PREFECT_FLOWS_HEARTBEAT_FREQUENCY`` says otherwise.
        silent_after: The same for one that sends none, from its last change or that of
            its tasks on.
        settled: How long after its end a flow run is left alone.

    Raises:
        httpx.HTTPError: The server cannot be reached.
        StorageError: The storage cannot be used.
    """
    reconciler = Reconciler(
        client,
        storage,
        directory,
        lost_after=lost_after,
        silent_after=silent_after,
        settled=settled,
    )
    return reconciler.run(now)


class Reconciler:
    """Reconciles again and again, and remembers what it need not ask twice.

    The arguments are those of :func:`reconcile`, and ``is_stopped``, which tells
    whether to end early.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        storage: PipelineStorage,
        directory: FlowRunDirectory,
        *,
        lost_after: timedelta = LOST_AFTER,
        silent_after: timedelta = SILENT_AFTER,
        settled: timedelta = SETTLED,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_stopped = is_stopped
        self._client, self._storage = client, storage
        self._lost_after, self._silent_after = lost_after, silent_after
        self._settled = settled
        self._store = EventStore(storage, Translator(directory))
        self._filler = GapFiller(client, storage, directory, self._store)
        self._signs = SignsOfLife(client)
        self._filled: OrderedDict[str, str | None] = OrderedDict()

    def run(self, now: datetime | None = None) -> Reconciled:
        """Reconcile once.

        Raises:
            httpx.HTTPError: The server cannot be reached.
            StorageError: The storage cannot be used.
        """
        now = now or datetime.now(UTC)
        found = open_runs(self._storage)
        done = Reconciled(open=len(found))
        ids = {*found, *(run.parent_run_id for run in found.values())}
        known = read_many(self._client, "flow_runs", [id_ for id_ in ids if id_])
        lost: set[str] = set()
        # Those above come first, since those below go with them.
        for id_, run in sorted(found.items(), key=lambda item: _depth(item[1])):
            in_prefect = known.get(id_)
            if self._is_stopped():
                break
            if in_prefect is None:
                self._deleted(run, now, done)
            elif in_prefect["state_type"] in FINAL_TYPES:
                self._ended(run, in_prefect, now, done)
            elif in_prefect["state_type"] in _RUNNING_TYPES:
                parent = known.get(run.parent_run_id or "")
                is_alone = bool(run.parent_run_id in lost or _is_final(parent))
                if self._lost(run, in_prefect, is_alone, now, done):
                    lost.add(id_)
        return done

    # Three ways to end without a word -------------------------------------------------

    def _deleted(self, run: OpenRun, now: datetime, done: Reconciled) -> None:
        last = run.last_change
        if run.row.state_type is None or last is None or now - last < self._settled:
            return
        if not self._signs.is_known(run.flow_run_id):
            return
        why = (
            f"Flow run {run.flow_run_id} was deleted in Prefect before it had ended. "
            f"{_CONCLUDED}"
        )
        # Not now: whoever concludes it, whenever, concludes the same.
        closed = self._close(run, last, why, dict.fromkeys(OPEN, _S.CANCELLED))
        done.closed += closed
        done.deleted += bool(closed)

    def _ended(
        self, run: OpenRun, in_prefect: Json, now: datetime, done: Reconciled
    ) -> None:
        ended = _time(in_prefect["end_time"] or in_prefect["state"]["timestamp"])
        state_id = in_prefect["state_id"]
        if now - ended < self._settled or self._filled.get(run.flow_run_id) == state_id:
            return
        done.filled += self._filler.complete([run.flow_run_id])
        name = in_prefect["state_name"]
        why = (
            f"Flow run {run.flow_run_id} ended as {name!r} and Prefect was told no "
            f"more of this. {_CONCLUDED}"
        )
        ways = {_S.RUNNING: _S.RUNTIME_ERROR, _S.PENDING: _S.CANCELLED}
        closed = self._close(run, ended, why, ways)
        done.closed += closed
        done.ended += bool(closed)
        self._filled[run.flow_run_id] = state_id
        while len(self._filled) > _REMEMBERED:
            self._filled.popitem(last=False)

    def _lost(
        self,
        run: OpenRun,
        in_prefect: Json,
        is_alone: bool,
        now: datetime,
        done: Reconciled,
    ) -> bool:
        heard = self._silent_since(run, in_prefect, is_alone, now)
        if heard is None:
            return False
        since = heard.isoformat(timespec="seconds")
        why = (
            f"Nothing was heard of flow run {run.flow_run_id} since {since}: its "
            f"process or its machine must have gone. {_CONCLUDED}"
        )
        # A run that was to end anyway has done so.
        is_cancelling = in_prefect["state_type"] == "CANCELLING"
        ways = {
            _S.RUNNING: _S.CANCELLED if is_cancelling else _S.RUNTIME_ERROR,
            _S.PENDING: _S.CANCELLED,
        }
        closed = self._close(run, heard, why, ways)
        done.closed += closed
        done.lost += bool(closed)
        return True

    def _silent_since(
        self, run: OpenRun, in_prefect: Json, is_alone: bool, now: datetime
    ) -> datetime | None:
        """Return since when nothing was heard of a run, if it is for too long."""
        id_ = run.flow_run_id
        recent = _latest(run.last_change, run.last_seen if run.execution else None)
        if recent is not None and now - recent < self._lost_after:
            return None
        if self._signs.is_surely_alive(id_, now):
            return None
        heartbeat = self._signs.heartbeat(id_)
        sends = heartbeat is not None or run.last_seen is not None
        at_most = self._lost_after if sends or is_alone else self._silent_after
        heard = _latest(recent, heartbeat)
        if heard is None or now - heard >= at_most:
            heard = _latest(heard, self._signs.heard_of(id_))
        heard = heard or _time(in_prefect["state"]["timestamp"])
        if now - heard < at_most:
            self._signs.was_heard(id_, heard, self._lost_after)
            return None
        return heard

    # Closing --------------------------------------------------------------------------

    def _close(
        self,
        run: OpenRun,
        at: datetime,
        why: str,
        ways: dict[PipelineTaskStatus, PipelineTaskStatus],
    ) -> int:
        """Close a flow run's objects that are open; return how many there were."""
        closed, batch = 0, Batch()
        for kind, row in self._open_rows(run):
            if row.status in ways:
                batch.changes.append(_conclude(kind, row, at, why, ways[row.status]))
            if len(batch) == _TOGETHER:
                closed += self._store.record_history(batch)
                batch = Batch()
                if self._is_stopped():
                    return closed
        return closed + self._store.record_history(batch)

    def _open_rows(self, run: OpenRun) -> Iterator[tuple[Kind, Row]]:
        """Yield what is open of a flow run, as the storage has it now."""
        result = run.result
        if result is not None:
            where = {"pipeline_result_id": result.id, "status": list(OPEN)}
            for leaf in self._storage.iterate(Kind.TASK_RESULT, where):
                # Others were made beforehand, and are not Prefect's.
                if leaf.state_type is not None:
                    yield Kind.TASK_RESULT, leaf
        if run.execution is None:
            if result is not None:
                yield from self._still_open(Kind.RESULT, [result.id])
            return
        if run.execution.is_mapped:
            where = {"run_id": run.flow_run_id, "status": list(OPEN)}
            for waiting in self._storage.iterate(Kind.RESULT, where):
                if getattr(waiting, "flow_run_id", None) is None:
                    yield Kind.RESULT, waiting
        yield from self._still_open(Kind.EXECUTION, [run.flow_run_id])

    def _still_open(self, kind: Kind, ids: Iterable[str]) -> Iterator[tuple[Kind, Row]]:
        for row in self._storage.find(kind, {"id": list(ids)}):
            # Its own end was reported where what lies below keeps it open.
            if row.status in OPEN and row.state_type not in FINAL_TYPES:
                yield kind, row


def _conclude(
    kind: Kind, row: Row, at: datetime, why: str, status: PipelineTaskStatus
) -> StateChange:
    last = _latest(row.last_at, row.state_at)
    return StateChange(
        # The same whoever concludes it; another one if it goes on and ends again.
        id=derived_id("concluded", row.id, last.isoformat() if last else "", status),
        run_id=row.run_id,
        kind=kind,
        target=row.id,
        status=status,
        timestamp=_latest(at, last) or at,
        message=why,
        inferred=True,
    )


def _depth(run: OpenRun) -> int:
    return 0 if run.execution and run.execution.parent_run_id is None else 1


def _is_final(run: Json | None) -> bool:
    return run is not None and run["state_type"] in FINAL_TYPES


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _latest(*times: datetime | None) -> datetime | None:
    return max((time for time in times if time is not None), default=None)
