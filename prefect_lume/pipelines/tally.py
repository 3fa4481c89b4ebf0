"""How many objects there are of each status, without reading them one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from prefect_lume.pipelines.rows import Row
from prefect_lume.pipelines.status import PipelineTaskStatus


@dataclass(frozen=True, slots=True)
class Tally:
    """A number of rows that have the same parent and the same status.

    Attributes:
        parent_id: The id of the object above; nothing for pipeline executions.
        status: Where they stand.
        superseded: Whether they belong to attempts that were repeated.
        number: How many they are.
    """

    parent_id: str | None
    status: PipelineTaskStatus
    superseded: bool
    number: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many objects of one kind are in which status.

    Attributes:
        by_status: Status → how many, superseded ones left out.
        superseded: How many belong to attempts that were repeated.
    """

    by_status: dict[PipelineTaskStatus, int] = field(default_factory=dict)
    superseded: int = 0

    @property
    def total(self) -> int:
        """How many there are, superseded ones left out."""
        return sum(self.by_status.values())

    @property
    def done(self) -> int:
        """How many are ``DONE``."""
        return self.by_status.get(PipelineTaskStatus.DONE, 0)

    @property
    def failed(self) -> int:
        """How many ended otherwise, cancelled ones included."""
        return sum(n for status, n in self.by_status.items() if status.is_failed)

    @property
    def running(self) -> int:
        """How many are ``RUNNING``."""
        return self.by_status.get(PipelineTaskStatus.RUNNING, 0)

    @property
    def pending(self) -> int:
        """How many are ``PENDING``."""
        return self.by_status.get(PipelineTaskStatus.PENDING, 0)

    @property
    def open(self) -> int:
        """How many have not ended yet."""
        return self.total - self.done - self.failed


NO_COUNTS: Final = Counts()


def count_rows(rows: Iterable[Row]) -> list[Tally]:
    """Count rows one by one: what a storage that cannot count for itself does."""
    found: dict[tuple[str | None, PipelineTaskStatus, bool], int] = {}
    for row in rows:
        key = (row.parent_id, row.status, row.superseded)
        found[key] = found.get(key, 0) + 1
    return [Tally(*key, number) for key, number in found.items()]


def counts_by_parent(tallies: Iterable[Tally]) -> dict[str, Counts]:
    """Return the counts of what lies below each object.

    Example:
        >>> done = Tally("task", PipelineTaskStatus.DONE, False, 3)
        >>> counts_by_parent([done])["task"].done
        3
    """
    grouped: dict[str, list[Tally]] = {}
    for tally in tallies:
        grouped.setdefault(tally.parent_id or "", []).append(tally)
    return {parent: counts_of(items) for parent, items in grouped.items()}


def counts_of(tallies: Iterable[Tally]) -> Counts:
    """Return the counts of all of these together."""
    by_status: dict[PipelineTaskStatus, int] = {}
    superseded = 0
    for tally in tallies:
        if tally.superseded:
            superseded += tally.number
        else:
            by_status[tally.status] = by_status.get(tally.status, 0) + tally.number
    return Counts(by_status, superseded)
