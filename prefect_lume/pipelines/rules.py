"""The status rules, as pure functions of what was reported.

What an object's status is depends on *which* changes were reported of it and of what
lies below it, never on the order in which they arrived: so two recorders, late events
and repeated ones all lead to the same rows.

- A status only advances, and the first final one (by its time) stays.
- What lies below makes its parents ``RUNNING``, and the first failure below is the
  failure of all above.
- A parent is ``DONE`` when nothing more comes below it and all below is ``DONE``.
- What is still open below an object that was wrong from the start is ``CANCELLED``.
- A run that Prefect starts once more begins again: what was before it counts no more.
- What fails below a run after it was told to stop is no failure: it was cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.rows import Row
from prefect_lume.pipelines.status import CANCELS_BELOW, PipelineTaskStatus

_S = PipelineTaskStatus
#: Prefect's type of the state of a run that was told to stop, and has not yet.
_CANCELLING: Final = "CANCELLING"


@dataclass(slots=True, frozen=True)
class Failure:
    """A failure below: when, whose, how and why."""

    timestamp: datetime
    id: str
    status: PipelineTaskStatus
    message: str


@dataclass(slots=True, frozen=True)
class Below:
    """What lies directly below an object, superseded objects left out.

    Attributes:
        total: How many there are.
        pending: How many are ``PENDING``.
        done: How many are ``DONE``.
        started: When the first of them began to run.
        completed: When the last of them ended.
        last_at: When one of them last changed.
        failure: The first failure among them.
    """

    total: int = 0
    pending: int = 0
    done: int = 0
    started: datetime | None = None
    completed: datetime | None = None
    last_at: datetime | None = None
    failure: Failure | None = None


NOTHING_BELOW = Below()


@dataclass(slots=True)
class Own:
    """What an object's own changes say, taken together.

    Attributes:
        status: The furthest status of the current attempt.
        final: The change that ended it.
        failed: The first failure after it said ``DONE``. It counts as long as something
            below is not done.
        latest: The latest change that was reported, not inferred.
        state: The latest of these that is a state of Prefect's.
        started: When it first began to run.
        stopping: The change by which it was told to stop, in the current attempt.
        again_at: When the current attempt began, if it is not the first.
    """

    status: PipelineTaskStatus = PipelineTaskStatus.PENDING
    final: StateChange | None = None
    failed: StateChange | None = None
    latest: StateChange | None = None
    state: StateChange | None = None
    started: datetime | None = None
    stopping: StateChange | None = None
    again_at: datetime | None = None

    @property
    def is_over(self) -> bool | None:
        """Whether Prefect's run has ended; nothing for what is no run of Prefect's."""
        is_inferred = self.final is not None and self.final.inferred
        if self.state is None and not is_inferred:
            return None
        return self.final is not None

    @property
    def error(self) -> StateChange | None:
        """The change by which it was wrong from the start: nothing below can run."""
        for change in (self.final, self.failed):
            if change is not None and change.status in CANCELS_BELOW:
                return change
        return None


def fold(changes: Iterable[StateChange]) -> Own:
    """Take an object's own changes together, in whatever order they are given.

    Example:
        >>> fold([]).status
        <PipelineTaskStatus.PENDING: 'PENDING'>
    """
    own = Own()
    ordered = sorted(changes, key=lambda change: (change.timestamp, change.id))
    for change in ordered:
        if not change.inferred:
            _take(own, change)
    if own.final is None:
        _conclude(own, ordered)
    return own


def _take(own: Own, change: StateChange) -> None:
    """Take in the next change that was reported."""
    if _begins_again(own, change):
        own.again_at = change.timestamp
        own.final = own.failed = own.stopping = None
        own.status = _S.RUNNING if own.started else _S.PENDING
    own.latest = change
    if change.state_type is not None:
        own.state = change
    if own.final is None and change.state_type == _CANCELLING:
        own.stopping = own.stopping or change
    if own.final is not None:
        if own.final.status is _S.DONE and change.status.is_failed:
            own.failed = own.failed or change
        return
    if change.status.is_final:
        own.final = change
    if change.status in (_S.RUNNING, _S.DONE):
        # A cached task run, for one, is never seen running.
        own.started = own.started or change.timestamp
    if own.status.has_advanced(change.status):
        own.status = change.status


def _begins_again(own: Own, change: StateChange) -> bool:
    if not change.begins_again:
        return False
    # Waiting for a retry comes after RUNNING; PENDING does so only in a new run.
    return own.final is not None or (
        own.started is not None and change.state_type == "SCHEDULED"
    )


def _conclude(own: Own, ordered: Sequence[StateChange]) -> None:
    """Use the first inferred end, unless something was reported after it."""
    for change in ordered:
        if not change.inferred or not change.status.is_final:
            continue
        if own.latest is None or change.timestamp >= own.latest.timestamp:
            own.final, own.status = change, change.status
            if change.status is _S.DONE:
                own.started = own.started or change.timestamp
            return


def apply(
    row: Row, own: Own, below: Below | None, above: StateChange | None = None
) -> None:
    """Set a row's status, message and times by its own changes and what lies below.

    Args:
        row: The row; changed in place.
        own: Its own changes, taken together.
        below: What lies below it; nothing for a task result.
        above: The change by which something above it was wrong from the start.
    """
    below = below or NOTHING_BELOW
    final, failure = _final(own, below), _failure(own, below)
    row.last_at = _latest(own.latest.timestamp if own.latest else None, below.last_at)
    started = _earliest(own.started, below.started)
    if own.state is not None:
        row.state_type, row.state_name = own.state.state_type, own.state.state_name
        row.state_at = own.state.timestamp
    if failure is not None and (
        final is None or final.status is _S.DONE or failure.timestamp < final.timestamp
    ):
        _set(row, failure.status, failure.message, started, failure.timestamp)
    elif final is not None and final.status is not _S.DONE:
        _set(row, final.status, final.message, started, final.timestamp)
    elif below.done == below.total and (final or (row.closed and below.total)):
        completed = _latest(final.timestamp if final else None, below.completed)
        message = final.message if final else ""
        _set(row, _S.DONE, message, started or completed, completed)
    elif above is not None:
        completed = _latest(above.timestamp, row.last_at)
        _set(row, _S.CANCELLED, cancelled_message(above), started, completed)
    else:
        active = own.status is not _S.PENDING or below.pending < below.total
        message = row.message if row.status is _S.PENDING and not active else ""
        if own.latest is not None and final is None:
            message = own.latest.message
        _set(row, _S.RUNNING if active else _S.PENDING, message, started, None)


def _final(own: Own, below: Below) -> StateChange | None:
    """Return the change by which it ended: what said ``DONE`` too early did not."""
    final, failed = own.final, own.failed
    if final is None or failed is None or final.status is not _S.DONE:
        return final
    is_done = below.done == below.total
    if is_done and (below.completed is None or below.completed <= failed.timestamp):
        return final
    return failed


def _failure(own: Own, below: Below) -> Failure | None:
    """Return the first failure below, as what it is for the object itself."""
    failure, stopping = below.failure, own.stopping
    if failure is None or stopping is None or failure.timestamp < stopping.timestamp:
        return failure
    # Prefect reports what a cancelled run's process was at as crashed.
    message = stopping.message or failure.message
    return replace(failure, status=_S.CANCELLED, message=message)


def cancelled_message(above: StateChange) -> str:
    """Return what is said of an object that an error above it cancelled."""
    kind = above.kind.replace("_", " ")
    return f"Cancelled: the {kind} above ended as {above.status}."


def _set(
    row: Row,
    status: PipelineTaskStatus,
    message: str,
    started: datetime | None,
    completed: datetime | None,
) -> None:
    row.status, row.message = status, message
    # What began below after it had failed did not make it start.
    late = started is not None and completed is not None and started > completed
    row.started, row.completed = None if late else started, completed


def is_superseded(row: Row, again_at: datetime | None) -> bool:
    """Tell whether a row below belongs to an attempt that was begun again.

    Args:
        row: The row of what lies below.
        again_at: When the attempt that counts began; nothing for the first one.
    """
    return (
        again_at is not None
        and row.last_at is not None
        and row.last_at < again_at
        and row.status is not _S.DONE
    )


def summarise(rows: Iterable[Row], *, superseded: bool = False) -> Below:
    """Take rows that lie below one object together.

    Args:
        rows: The rows.
        superseded: Whether to take those that are superseded, and not the others.
    """
    live = [row for row in rows if row.superseded is superseded]
    failures = [
        Failure(row.completed, row.id, row.status, row.message)
        for row in live
        if row.status.is_failed and row.completed is not None
    ]
    return Below(
        total=len(live),
        pending=sum(row.status is _S.PENDING for row in live),
        done=sum(row.status is _S.DONE for row in live),
        started=min((r.started for r in live if r.started), default=None),
        completed=max((r.completed for r in live if r.completed), default=None),
        last_at=max((r.last_at for r in live if r.last_at), default=None),
        failure=min(failures, key=lambda f: (f.timestamp, f.id), default=None),
    )


def _earliest(first: datetime | None, second: datetime | None) -> datetime | None:
    if first is None or second is None:
        return first or second
    return min(first, second)


def _latest(first: datetime | None, second: datetime | None) -> datetime | None:
    if first is None or second is None:
        return first or second
    return max(first, second)
