"""Noting which object of a ``.map`` each task run works on.

Prefect tells nobody: its events and its API hold neither the position in the ``.map``
nor the arguments. Here the task runner of a flow's run is watched while it submits, on
this object alone, whatever task runner it is.
"""

from __future__ import annotations

import functools
import logging
import threading
import types
from collections.abc import Iterable, Mapping, Sized
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from prefect.futures import PrefectFuture
from prefect.results import ResultRecord  # type: ignore[attr-defined]  # Documented.
from prefect.task_runners import (
    ProcessPoolTaskRunner,
    TaskRunner,
    ThreadPoolTaskRunner,
)
from prefect.utilities.annotations import allow_failure, opaque, quote, unmapped
from prefect.utilities.collections import isiterable

from prefect_lume.pipelines.changes import TaskRunFacts
from prefect_lume.pipelines.jsonable import LIMIT, jsonable

logger = logging.getLogger(__name__)


class Watcher(Protocol):
    """What is told of the task runs that a task runner submits."""

    def submitted(
        self, task_run_id: str, index: int | None, task_object: Any, *, is_local: bool
    ) -> None:
        """Take note of a task run.

        Args:
            task_run_id: Prefect's id of it.
            index: The position in the ``.map``; nothing for what is not mapped.
            task_object: The object at that position, as JSON or the future of it.
            is_local: What it does is heard in this process.
        """

    def left(self) -> None:
        """Take note that the task runner was closed: no task of it still runs."""


#: Who watches the task runner that Prefect makes next in this context.
next_watcher: Final[ContextVar[Watcher | None]] = ContextVar(
    "prefect_lume_next_watcher", default=None
)


@dataclass
class _Map:
    """A ``.map`` under way in one thread."""

    runner: object
    parameters: Mapping[str, Any]
    names: list[str] | None = None
    count: int = 0


class _ThisThread(threading.local):
    # By thread, not by context: tasks run in copies of the context they were made in.
    mapping: _Map | None = None


_this_thread = _ThisThread()


class _Watched(Protocol):
    """A watched task runner: what its class does besides that of its own."""

    _lume_class: type[Any]
    _lume_watcher: Watcher | None


def _duplicate(self: _Watched) -> Any:
    made = self._lume_class.duplicate(self)
    watcher = next_watcher.get()
    next_watcher.set(None)
    if watcher is not None and watched(made):
        made._lume_watcher = watcher
    return made


def _map(self: _Watched, task: Any, parameters: Any, *args: Any, **kwargs: Any) -> Any:
    outer = _this_thread.mapping
    _this_thread.mapping = _Map(self, parameters)
    try:
        return self._lume_class.map(self, task, parameters, *args, **kwargs)
    finally:
        _this_thread.mapping = outer


def _submit(
    self: _Watched, task: Any, parameters: Any, *args: Any, **kwargs: Any
) -> Any:
    future = self._lume_class.submit(self, task, parameters, *args, **kwargs)
    watcher = self._lume_watcher
    if watcher is not None:
        try:
            index, obj = _place(self, parameters)
            is_local = isinstance(self, ThreadPoolTaskRunner | ProcessPoolTaskRunner)
            watcher.submitted(str(future.task_run_id), index, obj, is_local=is_local)
        except Exception:
            # The task is submitted: whatever goes wrong here must not show there.
            logger.exception("The object of a task run could not be noted")
    return future


def _exit(self: _Watched, *args: Any) -> Any:
    try:
        return self._lume_class.__exit__(self, *args)
    finally:
        watcher, self._lume_watcher = self._lume_watcher, None
        if watcher is not None:
            watcher.left()


def _itself(runner: Any) -> Any:
    return runner


def _reduce_ex(self: _Watched, _protocol: Any) -> Any:
    # In another process nobody watches, and the class made here is not there.
    plain = object.__new__(self._lume_class)
    state = {k: v for k, v in vars(self).items() if k != "_lume_watcher"}
    plain.__dict__.update(state)
    return _itself, (plain,)


@functools.cache
def _watched_class(kind: type[TaskRunner[Any]]) -> type[Any]:
    members = {
        # With nothing more in its objects, they may change from one to the other.
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "_lume_class": kind,
        "_lume_watcher": None,
        "duplicate": _duplicate,
        "map": _map,
        "submit": _submit,
        "__exit__": _exit,
        "__reduce_ex__": _reduce_ex,
    }
    made: type[Any] = types.new_class(
        kind.__name__, (kind,), exec_body=lambda namespace: namespace.update(members)
    )
    return made


def watched(runner: TaskRunner[Any]) -> bool:
    """Let a task runner, and those that it is duplicated to, be watched.

    Args:
        runner: A task runner, changed in place: nothing else of its class changes.

    Returns:
        Whether it could be done.
    """
    if hasattr(runner, "_lume_class"):
        return True
    try:
        cast("Any", runner).__class__ = _watched_class(type(runner))
    except TypeError as error:
        # Of a class with a layout of its own: its runs are recorded without objects.
        logger.debug("A %s cannot be watched: %s", type(runner).__name__, error)
        return False
    return True


def _place(runner: Any, parameters: Mapping[str, Any]) -> tuple[int | None, Any]:
    """Return the position in the ``.map`` under way, and the object at it."""
    mapping = _this_thread.mapping
    if mapping is None or mapping.runner is not runner:
        return None, None
    if mapping.names is None:
        mapping.names = _mapped(mapping.parameters)
    index = mapping.count
    mapping.count += 1
    given = {name: parameters[name] for name in mapping.names if name in parameters}
    if len(given) == 1:
        return index, _noted(next(iter(given.values())))
    return index, {name: _noted(value) for name, value in given.items()}


def _mapped(parameters: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters that a ``.map`` takes apart."""
    names = []
    for name, given in parameters.items():
        value = given
        if isinstance(value, allow_failure | opaque | quote):
            value = value.unwrap()
        if isinstance(value, unmapped):
            continue
        if isinstance(value, PrefectFuture):
            value = _result_of(value)
        if isiterable(value):
            names.append(name)
    return names


def _noted(value: Any) -> Any:
    """Return a value as JSON, so that it need not be kept; a future as it is."""
    if isinstance(value, allow_failure | opaque | quote):
        value = value.unwrap()
    return value if isinstance(value, PrefectFuture) else as_json(value)


def as_json(value: Any) -> Any:
    """Return a value as JSON; what is too long is not even looked through.

    Example:
        >>> as_json([1, 2])
        [1, 2]
        >>> as_json([0] * 1_000_000)
        {'type': 'builtins.list', 'repr': '1000000 items'}
    """
    if isinstance(value, Sized) and type(value) in _PLAIN and len(value) > LIMIT:
        return {"type": f"builtins.{type(value).__name__}", "repr": _length(value)}
    return jsonable(value)


_PLAIN: Final = frozenset({str, bytes, bytearray, list, tuple, set, frozenset, dict})


def _length(value: Sized) -> str:
    if isinstance(value, str):
        return value[: LIMIT // 8] + "…"
    return f"{len(value)} items"


class _Unknown:
    """Stands for a result that is not at hand."""


_UNKNOWN: Final = _Unknown()


def _result_of(future: PrefectFuture[Any]) -> Any:
    """Return a future's result if it is in memory already."""
    inner = getattr(future, "wrapped_future", None)
    if inner is None or not inner.done() or inner.cancelled() or inner.exception():
        return _UNKNOWN
    state = future.state
    data = state.data if state.is_completed() else _UNKNOWN
    if isinstance(data, ResultRecord):
        return data.result
    return _UNKNOWN


class MapNotes:
    """What is known of the objects of task runs, until it is recorded."""

    def __init__(self) -> None:
        self._notes: dict[str, tuple[int, Any]] = {}
        self._waiting: dict[str, TaskRunFacts] = {}

    def add(self, task_run_id: str, index: int, task_object: Any) -> None:
        """Note a task run's position, and its object or the future of it."""
        self._notes[task_run_id] = index, task_object

    def tell(self, facts: Iterable[TaskRunFacts]) -> None:
        """Fill in what is noted of these task runs.

        An object whose value is not known yet is filled in the next time that its task
        run is among them, or at the end.
        """
        for fact in facts:
            note = self._notes.get(fact.task_run_id)
            if note is None:
                continue
            fact.index, noted = note
            value, is_known = _resolved(noted)
            if is_known:
                fact.task_object = value
                del self._notes[fact.task_run_id]
                self._waiting.pop(fact.task_run_id, None)
            else:
                self._waiting[fact.task_run_id] = fact

    def rest(self) -> list[TaskRunFacts]:
        """Return those whose objects were not known; now they are, or are described."""
        waiting, self._waiting = self._waiting, {}
        for id_, fact in waiting.items():
            _, noted = self._notes.pop(id_)
            fact.task_object = _resolved(noted)[0]
        return list(waiting.values())


def _resolved(noted: Any) -> tuple[Any, bool]:
    """Return an object with the results of futures in it, and whether all are known."""
    if isinstance(noted, PrefectFuture):
        result = _result_of(noted)
        if result is _UNKNOWN:
            return {"task_run_id": str(noted.task_run_id)}, False
        return as_json(result), True
    if isinstance(noted, dict) and any(
        isinstance(value, PrefectFuture) for value in noted.values()
    ):
        parts = {name: _resolved(value) for name, value in noted.items()}
        value = {name: part[0] for name, part in parts.items()}
        return value, all(part[1] for part in parts.values())
    return noted, True
