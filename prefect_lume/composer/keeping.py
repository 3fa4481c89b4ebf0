"""Keeps what later subflows read, and nothing else, without touching the user's code.

The code of a subflow runs with a result store that writes the return values of the
mapped tasks where they can be read again. Everything else is as it would be without
us: what is not persisted stays so, and as nothing of ours is stored under a cache key,
no task is skipped because its result happens to be stored.

Prefect's own switch, `PREFECT_RESULTS_PERSIST_BY_DEFAULT`, would not do: it makes
tasks with equal inputs share a result, and what a task without a cache (`NO_CACHE`)
returns is announced and never written.
"""

from __future__ import annotations

import logging
from typing import Any, Self, cast
from uuid import UUID

from prefect import Flow, Task
from prefect.context import TaskRunContext
from prefect.filesystems import WritableFileSystem
from prefect.results import (  # type: ignore[attr-defined]  # records: documented there
    ResultRecord,
    ResultRecordMetadata,
    ResultStore,
    should_persist_result,
)
from prefect.types import DateTime
from pydantic import PrivateAttr

from prefect_lume.serializer import LumeSerializer

__all__ = ["Kept", "Noted", "ResultRecordMetadata", "SubflowResultStore"]

_logger = logging.getLogger("prefect.flow_runs.prefect_lume")


class Kept(ResultRecordMetadata):
    """Where the result of a task run is.

    Attributes:
        task_run_id: The run; a later one has a greater id.
    """

    task_run_id: UUID | None = None


class Noted(dict[str, list[Kept]]):
    """Name of each task that ran → where the results of its runs are, if kept."""

    def __init__(self) -> None:
        super().__init__()
        self._begun: list[str] = []

    def begin(self, task_name: str) -> None:
        """Note that a task begins to run."""
        # Tasks run in threads: adding to a list cannot get lost, counting up can.
        self._begun.append(task_name)
        self.setdefault(task_name, [])

    def begun(self, task_name: str) -> int:
        """Return how many runs of a task began."""
        return self._begun.count(task_name)

    def all_of(self, task_name: str) -> list[Kept] | None:
        """Return where all results of a task are, in the order its runs were made.

        Returns:
            ``None`` if not every run that began has one: some failed.
        """
        found = self.get(task_name, [])
        if not found or len(found) != self.begun(task_name):
            return None
        return sorted(found, key=lambda kept: kept.task_run_id or UUID(int=0))


class SubflowResultStore(ResultStore):
    """A result store that keeps the results of some tasks."""

    _kept_tasks: frozenset[str] = PrivateAttr(default=frozenset())
    _storage: WritableFileSystem | None = PrivateAttr(default=None)
    _noted: Noted = PrivateAttr(default_factory=Noted)
    _keeps: str = PrivateAttr(default="")
    _task: Task[..., Any] | None = PrivateAttr(default=None)

    @classmethod
    def around(
        cls,
        own: ResultStore,
        kept_tasks: frozenset[str],
        storage: WritableFileSystem | None = None,
        noted: Noted | None = None,
    ) -> Self:
        """Return a store that is like another one, but for the kept tasks.

        Args:
            own: The store that the flow would have without us.
            kept_tasks: The names of the tasks whose results are kept.
            storage: Where they are written; by default where `own` writes.
            noted: Filled with the tasks that run, and where the kept results are.
        """
        store = cls(**{name: getattr(own, name) for name in ResultStore.model_fields})
        store._kept_tasks = kept_tasks
        store._storage = storage
        store._noted = noted if noted is not None else Noted()
        return store

    async def aupdate_for_task(self, task: Task[..., Any]) -> Self:
        """Return the store of a task of the subflow."""
        return (await super().aupdate_for_task(task))._for(task, self)

    def update_for_task(self, task: Task[..., Any], **options: Any) -> Self:
        """Return the store of a task of the subflow."""
        # `_sync`: Prefect's own way to say so, which its types leave out.
        store = super().update_for_task(task, **{**options, "_sync": True})
        return cast("Self", store)._for(task, self)

    def update_for_flow(self, flow: Flow[..., Any], **options: Any) -> Self:
        """Return the store of a flow called in the subflow: nothing is kept there."""
        store = super().update_for_flow(flow, **{**options, "_sync": True})
        inner = cast("Self", store)
        inner._kept_tasks = frozenset()
        return inner

    def _for(self, task: Task[..., Any], before: Self) -> Self:
        self._keeps = task.name if task.name in self._kept_tasks else ""
        self._task = task
        if before._task is not task:
            # Prefect asks again within a run, and at each of its attempts.
            self._noted.begin(task.name)
        if self._keeps and task.result_serializer is None:
            self.serializer = LumeSerializer()
        if self._keeps and task.result_storage is None and self._storage is not None:
            self.result_storage = self._storage
        return self

    def create_result_record(
        self, obj: Any, key: str | None = None, expiration: DateTime | None = None
    ) -> ResultRecord[Any]:
        """Create the record of a result, and write it if it is to be kept."""
        if not self._keeps or isinstance(obj, BaseException):
            return super().create_result_record(obj, key, expiration)
        # Where Prefect does not persist, no cache key either: the record is then only
        # ever found through its own run.
        by_prefect = should_persist_result() and key is not None
        record = super().create_result_record(
            obj, key if by_prefect else None, expiration
        )
        self._note(record.metadata)
        if not by_prefect:
            self._write(record)
        return record

    def read(self, key: str, holder: str | None = None) -> ResultRecord[Any]:
        """Read the result of a task that is not run, as it is cached."""
        record = super().read(key, holder)
        if self._keeps:
            self._note(record.metadata)
        return record

    async def aread(self, key: str, holder: str | None = None) -> ResultRecord[Any]:
        """Read the result of a task that is not run, as it is cached."""
        record = await super().aread(key, holder)
        if self._keeps:
            self._note(record.metadata)
        return record

    def _note(self, metadata: ResultRecordMetadata) -> None:
        context = TaskRunContext.get()
        run_id = context.task_run.id if context is not None else None
        kept = Kept(**dict(metadata), task_run_id=run_id)
        self._noted.setdefault(self._keeps, []).append(kept)

    def _write(self, record: ResultRecord[Any]) -> None:
        try:
            self.persist_result_record(record)
        except Exception as error:  # noqa: BLE001 - the user's task did its work.
            _logger.warning("A result could not be kept for later subflows: %s", error)
            return
        context = TaskRunContext.get()
        if context is not None:
            # Prefect tells its server where a task's result is only if the run
            # persists. This one does from here on; nothing more of it is written.
            context.persist_result = True
