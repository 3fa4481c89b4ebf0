"""What a storage must be able to do inside one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.rows import Kind, ResultRow, Row
from prefect_lume.pipelines.rules import Below


class PipelineSession(ABC):
    """One unit of work on a storage: all of it is kept, or nothing.

    A storage without transactions keeps to it as well as it can: a unit of work that
    was broken off is repeated from the start, and every method here may be repeated.
    What it must never leave behind is a part of *one run*: the rules go by what is
    stored, and would not know what is missing.

    Whoever uses a session locks the runs that it works on before anything else. What a
    session reads includes what it wrote. The rows that it returns are the caller's to
    change: that changes nothing in the storage until they are put.
    """

    @abstractmethod
    def lock(self, run_ids: Sequence[str]) -> None:
        """Keep other sessions from changing these runs until this one ends.

        Args:
            run_ids: Ids of pipeline executions, sorted; some may not exist yet.
        """

    @abstractmethod
    def get(self, kind: Kind, ids: Collection[str]) -> dict[str, Row]:
        """Return the rows of these ids by id; those that do not exist are left out."""

    @abstractmethod
    def put(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Store rows, whether new or known, as they are."""

    @abstractmethod
    def get_below(self, kind: Kind, parent_id: str) -> list[Row]:
        """Return all rows of ``kind`` which lie directly below one object."""

    def get_all_below(self, kind: Kind, parent_ids: Collection[str]) -> list[Row]:
        """Return all rows of ``kind`` which lie directly below any of these objects.

        A storage that can ask for all of them at once does so here.
        """
        return [row for id_ in parent_ids for row in self.get_below(kind, id_)]

    @abstractmethod
    def get_open(self, run_id: str) -> dict[Kind, list[Row]]:
        """Return the rows of a run without a final status, the execution left out."""

    @abstractmethod
    def summarise(self, kind: Kind, parent_ids: Collection[str]) -> dict[str, Below]:
        """Return what lies directly below each of these objects.

        Args:
            kind: The kind of what lies below.
            parent_ids: The ids of the objects above.

        Returns:
            The same as :func:`prefect_lume.pipelines.rules.summarise` of the rows below
            each; an id with nothing below may be left out.
        """

    @abstractmethod
    def add_history(self, changes: Sequence[StateChange]) -> int:
        """Store changes; those whose id is known are left as they are.

        Returns:
            How many were new.
        """

    @abstractmethod
    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        """Return the changes reported of each of these objects, in any order."""

    def count(self, before: ResultRow | None, after: ResultRow | None) -> None:
        """Be told that a pipeline result changed, to keep a digest up to date.

        Args:
            before: What it was; nothing if it is new.
            after: What it is; nothing if it was removed.
        """
        del before, after
