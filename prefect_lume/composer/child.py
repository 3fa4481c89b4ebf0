"""A flow as a subflow: the same flow, of which what later subflows read is kept."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any, cast

from prefect import Flow
from prefect.context import FlowRunContext
from prefect.filesystems import WritableFileSystem
from prefect.results import ResultStore, get_default_persist_setting

from prefect_lume.composer.keeping import Noted, SubflowResultStore
from prefect_lume.serializer import LumeSerializer


def as_child(
    flow: Flow[..., Any],
    kept_tasks: frozenset[str],
    *,
    storage: WritableFileSystem | str | None = None,
    noted: Noted | None = None,
    started: Callable[[], None] = lambda: None,
) -> Flow[..., Any]:
    """Return a copy of a flow whose return value and some tasks' results are kept.

    Args:
        flow: The flow.
        kept_tasks: The names of the tasks.
        storage: A filesystem Block, or its slug and name; by default Prefect's.
        noted: Filled with the tasks that run, and where the kept results are.
        started: Called when the flow's own code starts.
    """
    child = copy(flow)
    # The run has been named after the subflow already.
    child.flow_run_name = None
    child.persist_result = True
    if flow.result_serializer is None:
        child.result_serializer = LumeSerializer()
    if flow.result_storage is None and storage is not None:
        child.result_storage = storage

    def begin() -> AbstractContextManager[Any]:
        started()
        return _as_without_us(flow, kept_tasks, noted)

    child.fn = _wrapped(flow, begin)
    return child


def _as_without_us(
    flow: Flow[..., Any], kept_tasks: frozenset[str], noted: Noted | None
) -> AbstractContextManager[Any]:
    """Return the context of the flow's own code: its own settings, and kept tasks."""
    context = FlowRunContext.get()
    if context is None:
        return nullcontext()
    own: Any = ResultStore()
    own = own.update_for_flow(flow, _sync=True)
    store = SubflowResultStore.around(
        own, kept_tasks, context.result_store.result_storage, noted
    )
    persist = flow.persist_result
    if persist is None:
        persist = get_default_persist_setting()
    update = {"result_store": store, "persist_result": persist}
    return context.model_copy(update=update)


def _wrapped(
    flow: Flow[..., Any], begin: Callable[[], AbstractContextManager[Any]]
) -> Callable[..., Any]:
    function = flow.fn

    async def run_async(*args: Any, **kwargs: Any) -> Any:
        with begin():
            return await function(*args, **kwargs)

    def run_sync(*args: Any, **kwargs: Any) -> Any:
        with begin():
            return function(*args, **kwargs)

    wrapper = cast("types.FunctionType", run_async if flow.isasync else run_sync)
    # Prefect evaluates annotations that are text in the globals of the function.
    scope = getattr(inspect.unwrap(function), "__globals__", globals())
    made = types.FunctionType(wrapper.__code__, scope, None, None, wrapper.__closure__)
    return functools.wraps(function)(made)
