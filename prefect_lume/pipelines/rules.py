"""The status rules, as pure functions of what was reported.

What an object's status is depends on *which* changes were reported of it and of what
lies below it, never on the order in which they arrived: so two recorders, late events
and repeated ones all lead to the same rows.

- A status only advances, and the first final one (by its time) stays.
- What lies below makes its parents ``RUNNING``, and the first failure below is the
  failure of all above.
- A parent is ``DONE`` when nothing more comes below it and all below is ``DONE``.
- A run that Prefect starts once more begins again: what was before it counts no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.rows import Row
from prefect_lume.pipelines.status import PipelineTaskStatus

_S = PipelineTaskStatus
_T = TypeVar("_T")


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
        latest: The latest change that was reported, not inferred.
        started: When it first began to run.
        again_at: When the current attempt began, if it is not the first.
    """

    status: PipelineTaskStatus = PipelineTaskStatus.PENDING
    final: StateChange | None = None
    latest: StateChange | None = None
    started: datetime | None = None
    again_at: datetime | None = None

    @property
    def is_over(self) -> bool | None:
        """Whether Prefect's run has ended; nothing for what is no run of Prefect's."""
        told = self.final or self.latest
        if told is None or (told.state_type is None and not told.inferred):
            return None
        return self.final is not None


def fold(changes: Iterable[StateChange]) -> Own:
    """Take an object's own changes together, in whatever order they are given.

    Example:
        >>> fold([]).status
        <PipelineTaskStatus.PENDING: 'PENDING'>
    """
    own = Own()
    ordered = sorted(changes, key=lambda change: (change.timestamp, change.id))
    for change in ordered:
        if change.inferred:
            continue
        if _begins_again(own, change):
            own.again_at = change.timestamp
            own.final = None
            own.status = _S.RUNNING if own.started else _S.PENDING
        own.latest = change
        if own.final is not None:
            continue
        if change.status.is_final:
            own.final = change
        elif change.status is _S.RUNNING:
            own.started = own.started or change.timestamp
        if own.status.has_advanced(change.status):
            own.status = change.status
    if own.final is None:
        _conclude(own, ordered)
    return own


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
            return


def apply(row: Row, own: Own, below: Below | None) -> None:
    """Set a row's status, message and times by its own changes and what lies below.

    Args:
        row: The row; changed in place.
        own: Its own changes, taken together.
        below: What lies below it; nothing for a task result.
    """
    final = own.final
    if below is None:
        _finish(row, own, final, started=own.started)
        row.last_at = own.latest.timestamp if own.latest else None
        return
    row.last_at = _latest(own.latest.timestamp if own.latest else None, below.last_at)
    started = _earliest(own.started, below.started)
    failure = below.failure
    if failure is not None and (
        final is None
        or final.status is _S.DONE
        or (failure.timestamp, failure.id) < (final.timestamp, final.id)
    ):
        _set(row, failure.status, failure.message, started, failure.timestamp, own)
        return
    if final is not None and final.status is not _S.DONE:
        _finish(row, own, final, started=started)
        return
    finished = final is not None or (row.closed and below.total > 0)
    if finished and below.done == below.total:
        completed = _latest(final.timestamp if final else None, below.completed)
        message = final.message if final else ""
        _set(row, _S.DONE, message, started or completed, completed, own)
        return
    active = own.status is not _S.PENDING or below.pending < below.total
    status = _S.RUNNING if active else _S.PENDING
    message = own.latest.message if own.latest and final is None else ""
    _set(row, status, message, started, None, own)


def _finish(
    row: Row, own: Own, final: StateChange | None, *, started: datetime | None
) -> None:
    if final is None:
        message = own.latest.message if own.latest else row.message
        _set(row, own.status, message, started, None, own)
        return
    if final.status is _S.DONE and started is None:
        # A cached task run, for one, is never seen running.
        started = final.timestamp
    _set(row, final.status, final.message, started, final.timestamp, own)


def _set(
    row: Row,
    status: PipelineTaskStatus,
    message: str,
    started: datetime | None,
    completed: datetime | None,
    own: Own,
) -> None:
    row.status, row.message = status, message
    row.started, row.completed = started, completed
    latest = own.latest
    if latest is not None and latest.state_type is not None:
        row.state_type, row.state_name = latest.state_type, latest.state_name
        row.state_at = latest.timestamp


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


def summarise(rows: Iterable[Row]) -> Below:
    """Take rows that lie below one object together; superseded ones are left out."""
    live = [row for row in rows if not row.superseded]
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
