"""Reads what a child run returned, by its task's name, whoever ran it and where."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import TaskRunSort
from prefect.filesystems import LocalFileSystem, WritableFileSystem
from prefect.results import aget_default_result_storage, aresolve_result_storage
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_lume.composer.keeping import Noted, ResultRecordMetadata
from prefect_lume.errors import (
    AmbiguousError,
    ConnectionFailedError,
    DecodingError,
    LumeError,
    NotFoundError,
)
from prefect_lume.serializer import NotStoredError, load

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun, TaskRun

#: How long the API may take to show the task runs of a finished flow run.
_PATIENCE: Final = 30.0
#: The same, when this process ran the task and should know of it without the API.
_LESS_PATIENCE: Final = 15.0
#: How long what the API shows must stay the same before a task counts as not run.
_CALM: Final = 5.0
_PAUSE: Final = 0.1
_PAGE: Final = 200


def returned(run: FlowRun, task_name: str | None, noted: Noted | None = None) -> Any:
    """Return what a completed child run's task, or the flow itself, returned.

    Args:
        run: The completed child run.
        task_name: The task; ``None`` means the flow's own return value.
        noted: Task name → where its results are, when this process ran it; what is
            not in it is asked of the API, which shows task runs seconds later.

    Raises:
        NotFoundError: No task of that name completed; the message lists those that
            did.
        AmbiguousError: Several did.
        DecodingError: The result was not kept in a form that can be read.
    """
    if task_name is None:
        return _value(run.state.data if run.state else None, "the flow")
    what = f"the task {task_name!r}"
    here = noted.get(task_name, []) if noted is not None else []
    if len(here) == 1:
        return _value(here[0], what)
    if here:
        raise _several(task_name, len(here))
    # `noted` is empty after a restart, and for a subflow that ran elsewhere.
    patience = _LESS_PATIENCE if noted is not None else _PATIENCE
    state = named_task(run, task_name, patience, ran=noted or ()).state
    return _value(state.data if state else None, what)


def all_returned(run: FlowRun, task_name: str, noted: Noted | None = None) -> list[Any]:
    """Return what every completed run of a task returned, in the order they were made.

    Args:
        run: The completed flow run.
        task_name: The task.
        noted: As for :func:`returned`.

    Raises:
        NotFoundError: No task of that name completed; the message lists those that
            did.
        DecodingError: A result was not kept in a form that can be read.
    """
    what = f"the task {task_name!r}"
    here = noted.all_of(task_name) if noted is not None else None
    if here is not None:
        return [_value(kept, what) for kept in here]
    begun = noted.begun(task_name) if noted is not None else 0
    patience = _LESS_PATIENCE if noted is not None and not begun else _PATIENCE
    done, runs = _completed(run, task_name, patience, begun=begun, every=True)
    if not done:
        raise NotFoundError(
            "completed run of the task",
            task_name,
            known=sorted({*(noted or ()), *map(_name_of, runs)}),
            hint="Name a task that ran, or leave task_name out for what the flow "
            "returned.",
        )
    done.sort(key=lambda item: item.id)
    return [_value(item.state.data if item.state else None, what) for item in done]


def named_task(
    run: FlowRun,
    task_name: str,
    patience: float = _PATIENCE,
    *,
    ran: Iterable[str] = (),
) -> TaskRun:
    """Return the one completed task run of a name, once the API shows it.

    Args:
        run: The completed child run.
        task_name: The task.
        patience: Seconds that the API may take to show it.
        ran: Names of tasks that are known to have run, for the error's message.

    Raises:
        NotFoundError: No task of that name completed.
        AmbiguousError: Several did.
    """
    done, runs = _completed(run, task_name, patience)
    if len(done) == 1:
        return done[0]
    if done:
        raise _several(task_name, len(done))
    raise NotFoundError(
        "completed run of the task",
        task_name,
        known=sorted({*ran, *map(_name_of, runs)}),
        hint="Name a task that ran, or return the value from the flow and leave "
        "parent_task_name out.",
    )


def _completed(
    run: FlowRun,
    task_name: str,
    patience: float,
    *,
    begun: int = 0,
    every: bool = False,
) -> tuple[list[TaskRun], list[TaskRun]]:
    """Wait for the API to show a task, and return its completed runs, and all runs.

    Args:
        run: The completed flow run.
        task_name: The task.
        patience: Seconds that the API may take.
        begun: How many runs of the task there are, if that is known.
        every: Whether to wait for all of them, or until no more come to light.

    Raises:
        ConnectionFailedError: The API does not show all that are known.
    """
    deadline = time.monotonic() + patience
    calm_since, shown = time.monotonic(), -1
    while True:
        runs = _task_runs(run.id)
        named = _named(runs, task_name)
        done = [item for item in named if item.state and item.state.is_completed()]
        settled = all(item.state and item.state.is_final() for item in runs)
        if len(runs) != shown or not settled:
            calm_since, shown = time.monotonic(), len(runs)
        calm = bool(runs) and settled and time.monotonic() - calm_since > _CALM
        late = time.monotonic() > deadline
        if every and begun:
            calm = settled and len(named) >= begun
            if late and not calm:
                raise ConnectionFailedError(
                    f"The task {task_name!r} ran {begun} times, of which Prefect's "
                    f"server shows {len(done)} as completed after {patience:.0f} "
                    f"seconds: it is behind. Ask again later."
                )
        if (settled and done and not every) or calm or late:
            return done, runs
        # Task runs reach the API asynchronously, after the flow run has ended.
        time.sleep(_PAUSE)


def _several(task_name: str, count: int) -> AmbiguousError:
    return AmbiguousError(
        f"{count} runs of the task {task_name!r} completed, so which result is meant "
        f"cannot be told. Give the one that is meant a name of its own with "
        f".with_options(name=...), or return the value from the flow and leave "
        f"parent_task_name out."
    )


def _task_runs(flow_run_id: UUID) -> list[TaskRun]:
    found: list[TaskRun] = []
    with get_client(sync_client=True) as client:
        while True:
            page = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
                sort=TaskRunSort.ID_DESC,
                limit=_PAGE,
                offset=len(found),
            )
            found += page
            if len(page) < _PAGE:
                return found


def _named(runs: list[TaskRun], task_name: str) -> list[TaskRun]:
    named = [item for item in runs if _name_of(item) == task_name]
    # A task with a task_run_name of its own is known by its function only.
    return named or [
        item for item in runs if item.task_key.rpartition("-")[0] == task_name
    ]


def _name_of(task_run: TaskRun) -> str:
    """Return the task's name: a run is called after it, with a few digits behind."""
    name, dash, digits = task_run.name.rpartition("-")
    digits_are_ours = digits and task_run.dynamic_key.startswith(digits)
    return name if dash and digits_are_ours else task_run.name


def _value(metadata: Any, what: str) -> Any:
    if not isinstance(metadata, ResultRecordMetadata):
        raise DecodingError(
            "",
            f"the result of {what} was not kept. When a task runner runs it in another "
            f"process, or a Prefect deployment of your own runs the flow, give its "
            f"decorator persist_result=True and result_serializer=LumeSerializer() "
            f"(from prefect_lume.serializer).",
        )
    kind = getattr(metadata.serializer, "type", "")
    if kind != "lume":
        raise DecodingError(
            "",
            f"the result of {what} is stored with the serializer {kind!r}, which is "
            f"not read here. Leave result_serializer out of its decorator, or name "
            f"'lume'; a result cached by an earlier run has to be computed again.",
        )
    try:
        return load(_payload(metadata))
    except NotStoredError as error:
        raise DecodingError(
            "",
            f"{what} returned a value of type {error.type_name}, which cannot be "
            f"handed on: {error.reason}",
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, LumeError):
            raise
        raise DecodingError(
            "",
            f"the stored result of {what} cannot be read ({type(error).__name__}: "
            f"{error}). When subflows run on other machines, name a file storage in "
            f"the LumeServices Block that all of them reach.",
        ) from error


def _payload(metadata: ResultRecordMetadata) -> bytes:
    # Prefect's own reader would choose the deserializer by what is stored; the type
    # has been checked, so the record is opened here.
    content = run_coro_as_sync(_content(metadata))
    record = json.loads(content)
    if isinstance(record, dict) and "metadata" not in record:
        return content  # Prefect writes the result of a flow without a record.
    result = record.get("result") if isinstance(record, dict) else None
    if not isinstance(result, str):
        raise DecodingError("", "the stored result is malformed.")
    return result.encode("utf-8", "surrogatepass")


async def _content(metadata: ResultRecordMetadata) -> bytes:
    key = metadata.storage_key or ""
    storage: WritableFileSystem
    if metadata.storage_block_id is not None:
        storage = await aresolve_result_storage(metadata.storage_block_id)
    elif Path(key).is_absolute():
        storage = LocalFileSystem(basepath=str(Path(key).parent))
    else:
        storage = await aget_default_result_storage()
    # Blocks of both kinds exist: those whose methods return the value in a
    # synchronous flow, and those that always return a coroutine.
    content: Any = storage.read_path(key)
    return bytes(await content if inspect.isawaitable(content) else content)
