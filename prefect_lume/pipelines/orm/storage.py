"""Pipeline results in an SQL database: SQLite, MySQL, MariaDB or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, func, select

from prefect_lume.errors import ConfigurationError
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.digest import PipelineDigest
from prefect_lume.pipelines.filters import check_time
from prefect_lume.pipelines.orm import counting, removing
from prefect_lume.pipelines.orm.columns import is_id
from prefect_lume.pipelines.orm.finding import Question, find_run_ids
from prefect_lume.pipelines.orm.mapping import CHANGE_COLUMNS, changes_of
from prefect_lume.pipelines.orm.objects import (
    OrmPipelineExecution,
    OrmPipelineResult,
    OrmTaskExecution,
    OrmTaskResult,
)
from prefect_lume.pipelines.orm.session import OrmPipelineSession
from prefect_lume.pipelines.orm.statements import chunks, raise_to
from prefect_lume.pipelines.orm.tables import (
    metadata,
    pipeline_state,
    recorder_position,
)
from prefect_lume.pipelines.orm.transactions import Transactions
from prefect_lume.pipelines.rows import Kind, Row
from prefect_lume.pipelines.session import PipelineSession
from prefect_lume.pipelines.tally import Tally
from prefect_lume.storage.sql import get_engine, safe_url

T = TypeVar("T")


class OrmPipelineResultsStorage(PipelineStorage):
    """Keeps executions and results in an SQL database.

    The tables come from the migrations (``prefect-lume db upgrade``).

    Args:
        engine: The database.
        url: Or its SQLAlchemy URL.

    Raises:
        ConfigurationError: Both were given, or neither; or the URL cannot be read.

    Example:
        >>> from prefect_lume.pipelines import Pipeline
        >>> storage = OrmPipelineResultsStorage(url="sqlite://")
        >>> storage.create_tables()
        >>> execution = storage.build_pipeline_execution(Pipeline("scan"), "run-1")
        >>> execution.report_status_change("RUNNING")
        True
        >>> storage.get_pipeline_digest()["scan"].total_open
        1
    """

    execution_class = OrmPipelineExecution
    result_class = OrmPipelineResult
    task_execution_class = OrmTaskExecution
    task_result_class = OrmTaskResult

    def __init__(
        self, engine: Engine | None = None, *, url: str | URL | None = None
    ) -> None:
        if (engine is None) == (url is None):
            raise ConfigurationError(
                "OrmPipelineResultsStorage takes either an engine or a url."
            )
        self.engine = engine if engine is not None else get_engine(url or "")
        self._transactions = Transactions(self.engine)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {safe_url(self.engine)}>"

    @classmethod
    def for_context(cls, context: Any, *, url: str | URL | None = None) -> Self:
        """Return the storage in the database of a context's registry.

        Args:
            context: A :class:`prefect_lume.config.Context`.
            url: The SQLAlchemy URL of another database, if it is to be one.

        Raises:
            StorageError: The database cannot be used; the message says why.
        """
        return cls(url=url) if url else cls(context.pipelines_engine())

    def create_tables(self) -> None:
        """Create the tables that do not exist, without the migrations; for tests."""
        self._transactions.write(metadata.create_all)

    def transaction(self, work: Callable[[PipelineSession], T]) -> T:
        """Run ``work`` in one transaction; again after a deadlock."""

        def run(connection: Connection) -> T:
            session = OrmPipelineSession(connection)
            done = work(session)
            session.finish()
            return done

        return self._transactions.write(run)

    def find(
        self,
        kind: Kind,
        where: Mapping[str, Any] | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
        limit: int | None = None,
        skip: int = 0,
        newest_first: bool = False,
    ) -> list[Row]:
        """Return the rows of a kind that match."""
        question = Question.of(
            kind, where, since, before, limit, skip, newest_first=newest_first
        )
        return self._transactions.read(question.answer)

    def iterate(
        self,
        kind: Kind,
        where: Mapping[str, Any] | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
        newest_first: bool = False,
    ) -> Iterator[Row]:
        """Yield the rows of :meth:`find`, a thousand in memory at a time."""
        question = Question.of(kind, where, since, before, newest_first=newest_first)
        return self._transactions.stream(question.stream)

    def tally(
        self,
        kind: Kind,
        where: Mapping[str, Any] | None = None,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[Tally]:
        """Count the rows that match, by parent, status and whether superseded."""
        question = Question.of(kind, where, since, before)
        return self._transactions.read(question.tally)

    def find_run_ids(self, prefix: str, limit: int = 2) -> list[str]:
        """Return ids of runs that begin so, at most ``limit`` of them."""
        if not is_id(prefix):
            return []
        return self._transactions.read(lambda c: find_run_ids(c, prefix, limit))

    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        """Return the changes reported of each of these objects, the oldest first."""
        columns = pipeline_state.c

        def read(connection: Connection) -> dict[str, list[StateChange]]:
            found: dict[str, list[StateChange]] = {}
            for some in chunks({target for target in targets if is_id(target)}):
                statement = (
                    select(*CHANGE_COLUMNS)
                    .where(columns.target.in_(some))
                    .order_by(columns.target, columns.timestamp, columns.id)
                )
                for change in changes_of(connection.execute(statement)):
                    found.setdefault(change.target, []).append(change)
            return found

        return self._transactions.read(read)

    def count_states(self, run_id: str | None = None) -> int:
        """Return how many changes are kept, of one run or of all."""
        statement = select(func.count()).select_from(pipeline_state)
        if run_id is not None:
            if not is_id(run_id):
                return 0
            statement = statement.where(pipeline_state.c.run_id == run_id)
        return self._transactions.read(lambda c: c.scalar(statement) or 0)

    def remove(self, run_ids: Sequence[str]) -> None:
        """Remove runs with all that belongs to them, and take them off the digest."""
        self._transactions.write(lambda c: removing.remove(c, run_ids))

    def get_position(self, source: str) -> datetime | None:
        """Return up to when a source of changes has been read, if it ever was."""
        columns = recorder_position.c
        statement = select(columns.position).where(columns.source == source)
        return self._transactions.read(lambda c: c.scalar(statement))

    def set_position(self, source: str, position: datetime) -> None:
        """Keep up to when a source has been read; a position only moves forward."""
        check_time("position", position)
        values = {"source": source, "position": position}

        def write(connection: Connection) -> None:
            statement = raise_to(recorder_position, connection.dialect.name)
            connection.execute(statement, values)

        self._transactions.write(write)

    def get_pipeline_digest(self) -> PipelineDigest:
        """Return how each pipeline did, by its id, in the order of the ids."""
        return self._transactions.read(counting.read)
