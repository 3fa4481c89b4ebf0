"""Keeps what later subflows read, and nothing else, without touching the user's code.

A child flow in this process gets a result store that writes the return values of the
mapped tasks, and of the flow itself, where they can be read again. Everything else is
as it would be without us: what is not persisted stays so, and as nothing is stored
under a cache key, no task is skipped because its result happens to be stored.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from prefect.context import TaskRunContext
from prefect.results import ResultStore, should_persist_result
from prefect.serializers import Serializer
from pydantic import PrivateAttr

from prefect_lume.serializer import LumeSerializer

if TYPE_CHECKING:
    from datetime import datetime

    from prefect import Flow, Task
    from prefect.results import ResultRecord

_logger = logging.getLogger("prefect.flow_runs.prefect_lume")


class SubflowResultStore(ResultStore):
    """A result store that keeps the results of one flow and of some of its tasks.

    Attributes:
        kept_flow: The name of the flow whose return value is kept.
        kept_tasks: The names of the tasks whose results are kept.
    """

    kept_flow: str = ""
    kept_tasks: frozenset[str] = frozenset()
    _keeps: bool = PrivateAttr(default=False)
    _own: Serializer | None = PrivateAttr(default=None)

    def _for(self, runnable: Flow[..., Any] | Task[..., Any], kept: bool) -> Self:
        # `_own` is what the user's code would use here, had we not been there.
        own = self.serializer if runnable.result_serializer is not None else self._own
        self._own = own if own is not None else self.serializer
        self._keeps = kept
        keep_as_ours = kept and runnable.result_serializer is None
        self.serializer = LumeSerializer() if keep_as_ours else self._own
        return self

    async def aupdate_for_flow(self, flow: Flow[..., Any]) -> Self:
        """Return the store of a flow called in the subflow, or of the subflow."""
        store = await super().aupdate_for_flow(flow)
        return store._for(flow, flow.name == self.kept_flow)

    def update_for_flow(self, flow: Flow[..., Any], **options: Any) -> Self:
        """Return the store of a flow called in the subflow, or of the subflow."""
        store = super().update_for_flow(flow, _sync=True, **_without_sync(options))
        return store._for(flow, flow.name == self.kept_flow)

    async def aupdate_for_task(self, task: Task[..., Any]) -> Self:
        """Return the store of a task of the subflow."""
        store = await super().aupdate_for_task(task)
        return store._for(task, task.name in self.kept_tasks)

    def update_for_task(self, task: Task[..., Any], **options: Any) -> Self:
        """Return the store of a task of the subflow."""
        store = super().update_for_task(task, _sync=True, **_without_sync(options))
        return store._for(task, task.name in self.kept_tasks)

    def create_result_record(
        self, obj: Any, key: str | None = None, expiration: datetime | None = None
    ) -> ResultRecord[Any]:
        """Create the record of a result, and write it if it is to be kept."""
        persisted_anyway = should_persist_result()
        if not self._keeps or persisted_anyway or isinstance(obj, BaseException):
            return super().create_result_record(obj, key, expiration)
        # No cache key: the record is only ever found through its own run.
        record = super().create_result_record(obj, None, expiration)
        try:
            # A flow's store would write its metadata nowhere: here they go together.
            whole = self.model_copy(update={"metadata_storage": None})
            whole.persist_result_record(record)
        except Exception as error:  # noqa: BLE001 - the user's task did its work.
            _logger.warning("A result could not be kept for later subflows: %s", error)
            return record
        context = TaskRunContext.get()
        if context is not None:
            # Prefect tells its server where a task's result is only if the run
            # persists. This one does from here on; nothing more of it is written.
            context.persist_result = True
        return record


def _without_sync(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "_sync"}
