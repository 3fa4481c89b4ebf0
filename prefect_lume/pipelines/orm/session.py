"""One transaction on the tables of pipeline results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, select

from prefect_lume.errors import ConflictError
from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.orm import summaries
from prefect_lume.pipelines.orm.columns import check_ids
from prefect_lume.pipelines.orm.counting import Counting
from prefect_lume.pipelines.orm.mapping import (
    CHANGE_COLUMNS,
    CHANGE_VALUES,
    ROW_COLUMNS,
    changes_of,
    rows_of,
)
from prefect_lume.pipelines.orm.statements import chunks, insert_missing, upsert
from prefect_lume.pipelines.orm.tables import TABLES, pipeline_run, pipeline_state
from prefect_lume.pipelines.orm.writing import write_many
from prefect_lume.pipelines.rows import ROW_VALUES, Kind, ResultRow, Row
from prefect_lume.pipelines.rules import Below
from prefect_lume.pipelines.session import PipelineSession
from prefect_lume.pipelines.status import PipelineTaskStatus

_OPEN: Final = tuple(
    sorted(set(PipelineTaskStatus) - PipelineTaskStatus.final_statuses())
)
_LOCK_ATTEMPTS: Final = 10


class OrmPipelineSession(PipelineSession):
    """What recording does within one transaction.

    Args:
        connection: A connection in a transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._counting = Counting()
        # What was read of histories: nobody else writes them while this one does.
        self._history: dict[str, dict[str, StateChange]] = {}

    def lock(self, run_ids: Sequence[str]) -> None:
        """Keep other sessions from changing these runs until this one ends.

        Raises:
            InvalidInputError: An id cannot be one.
        """
        check_ids(run_ids)
        for ids in chunks(sorted(set(run_ids))):
            self._lock(ids)

    def _lock(self, ids: list[str]) -> None:
        # SQLite has one writer at a time: its transactions begin with the lock.
        statement = (
            select(pipeline_run.c.run_id)
            .where(pipeline_run.c.run_id.in_(ids))
            .order_by(pipeline_run.c.run_id)
            .with_for_update()
        )
        for _ in range(_LOCK_ATTEMPTS):
            self._connection.execute(
                insert_missing(pipeline_run, self._dialect),
                [{"run_id": id_} for id_ in ids],
            )
            # Somebody may have removed a run between the two.
            if len(self._connection.scalars(statement).all()) == len(ids):
                return
        raise ConflictError(
            f"Runs are removed as soon as they are stored: {ids[0]!r}, for one. Record "
            f"them when the clean-up is done."
        )

    def get(self, kind: Kind, ids: Collection[str]) -> dict[str, Row]:
        """Return the rows of these ids by id; those that do not exist are left out."""
        table = TABLES[kind]
        found: list[Row] = []
        for some in chunks(ids):
            found += self._rows(kind, table.c.id.in_(some))
        return {row.id: row for row in found}

    def _rows(self, kind: Kind, *conditions: Any) -> list[Row]:
        statement = select(*ROW_COLUMNS[kind]).where(*conditions)
        return rows_of(kind, self._connection.execute(statement))

    def put(self, kind: Kind, rows: Sequence[Row]) -> None:
        """Store rows, whether new or known, as they are.

        Raises:
            InvalidInputError: An id cannot be one.
        """
        check_ids(id_ for row in rows for id_ in (row.id, row.run_id, row.parent_id))
        statement = upsert(TABLES[kind], self._dialect)
        # In the order of the ids: writers of one run after the other lock alike.
        ordered = sorted(rows, key=lambda row: row.id)
        for some in chunks(ordered):
            values = map(ROW_VALUES[kind], some)
            write_many(self._connection, statement, ROW_COLUMNS[kind], values)

    def get_below(self, kind: Kind, parent_id: str) -> list[Row]:
        """Return all rows of ``kind`` which lie directly below one object."""
        return self.get_all_below(kind, [parent_id])

    def get_all_below(self, kind: Kind, parent_ids: Collection[str]) -> list[Row]:
        """Return all rows of ``kind`` which lie directly below any of these objects."""
        columns = TABLES[kind].c
        found: list[Row] = []
        for some in chunks(parent_ids):
            found += self._rows(kind, columns.parent_id.in_(some))
        return found

    def get_open(self, run_id: str) -> dict[Kind, list[Row]]:
        """Return the rows of a run without a final status, the execution left out."""
        return {
            kind: self._rows(kind, table.c.run_id == run_id, table.c.status.in_(_OPEN))
            for kind, table in TABLES.items()
            if kind is not Kind.EXECUTION
        }

    def summarise(self, kind: Kind, parent_ids: Collection[str]) -> dict[str, Below]:
        """Return what lies directly below each of these objects, if anything does."""
        return summaries.summarise(self._connection, TABLES[kind], parent_ids)

    def add_history(self, changes: Sequence[StateChange]) -> int:
        """Store changes; those whose id is known are left as they are."""
        self._load_history({change.target for change in changes})
        new: list[StateChange] = []
        for change in changes:
            known = self._history[change.target]
            if change.id not in known:
                known[change.id] = change
                new.append(change)
        check_ids(id_ for change in new for id_ in (change.id, change.target))
        statement = insert_missing(pipeline_state, self._dialect)
        for some in chunks(new):
            values = map(CHANGE_VALUES, some)
            write_many(self._connection, statement, CHANGE_COLUMNS, values)
        return len(new)

    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        """Return the changes reported of each of these objects, in any order."""
        self._load_history(targets)
        return {
            target: list(changes.values())
            for target in targets
            if (changes := self._history[target])
        }

    def _load_history(self, targets: Collection[str]) -> None:
        missing = [target for target in targets if target not in self._history]
        for target in missing:
            self._history[target] = {}
        for some in chunks(missing):
            statement = select(*CHANGE_COLUMNS).where(pipeline_state.c.target.in_(some))
            for change in changes_of(self._connection.execute(statement)):
                self._history[change.target][change.id] = change

    def count(self, before: ResultRow | None, after: ResultRow | None) -> None:
        """Note that a pipeline result changed; the digest follows at the end."""
        self._counting.count(before, after)

    def finish(self) -> None:
        """Store what is to be stored last."""
        self._counting.store(self._connection)
