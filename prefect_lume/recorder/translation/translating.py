"""From Prefect's events and states to changes and facts.

Nothing here asks a server: what an event does not say is asked of a directory.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from prefect.utilities.text import truncated_to

from prefect_lume.errors import clip
from prefect_lume.pipelines.changes import (
    Batch,
    FlowRunFacts,
    StateChange,
    TaskRunFacts,
)
from prefect_lume.pipelines.rows import Kind, result_id
from prefect_lume.recorder.translation.statuses import status_of
from prefect_lume.recorder.translation.telling import (
    BEFORE_RUNNING,
    FLOW_RUN_EVENTS,
    HEARTBEAT,
    TASK_RUN_EVENTS,
    Told,
    read_event,
    take_hint,
)

__all__ = [
    "BEFORE_RUNNING",
    "FLOW_RUN_EVENTS",
    "HEARTBEAT",
    "TASK_RUN_EVENTS",
    "Directory",
    "Translator",
    "flow_run_change",
    "function_name",
    "made_at",
    "task_name",
    "task_run_change",
    "task_run_facts",
]

logger = logging.getLogger(__name__)

#: Characters of a message that Prefect's events keep; its API keeps all.
MESSAGE_LIMIT: Final = 100_000

_KEY_HASH = re.compile(r"-(?:[0-9a-f]{8}|unknown)$")
_MOST_COMPLAINTS: Final = 1_000


_Tasks = dict[tuple[str, str], TaskRunFacts]
#: Id, type, name, message, time, count of starts, and whether it was concluded.
_State = tuple[str, str, str | None, str | None, datetime, int | None, bool]


class Directory(Protocol):
    """What knows the facts about flow runs."""

    def facts(
        self, flow_run_ids: Collection[str], hints: Mapping[str, FlowRunFacts] = ...
    ) -> dict[str, FlowRunFacts]:
        """Return the facts of each of these flow runs."""


def flow_run_change(
    facts: FlowRunFacts,
    *,
    id: str,  # noqa: A002 - as the field is called.
    type: str,  # noqa: A002 - as Prefect calls it.
    name: str | None,
    message: str | None,
    timestamp: datetime,
    run_count: int | None = None,
    inferred: bool = False,
) -> StateChange:
    """Return the change that a state of a flow run is.

    A flow run that works on one object of a pipeline changes that pipeline result, any
    other its own execution.

    Args:
        facts: The facts of the flow run.
        id: Prefect's id of the state.
        type: Prefect's type of the state.
        name: Prefect's name of it.
        message: What was said with it.
        timestamp: When it was set, aware of its zone.
        run_count: How often the run had been started by then.
        inferred: Nobody reported it: it was concluded.
    """
    state = id, type, name, message, timestamp, run_count, inferred
    return _change(facts, _target(facts), state)


def _target(facts: FlowRunFacts) -> tuple[Kind, str]:
    """Return what a change of a flow run is a change of."""
    if facts.index is None:
        return Kind.EXECUTION, facts.run_id
    return Kind.RESULT, result_id(facts.run_id, facts.index)


def task_run_change(
    facts: FlowRunFacts,
    task_run_id: str,
    *,
    id: str,  # noqa: A002 - as the field is called.
    type: str,  # noqa: A002 - as Prefect calls it.
    name: str | None,
    message: str | None,
    timestamp: datetime,
    run_count: int | None = None,
    inferred: bool = False,
) -> StateChange:
    """Return the change that a state of a task run is.

    Args:
        facts: The facts of the flow run to which the task run belongs.
        task_run_id: Prefect's id of the task run.
        id: Prefect's id of the state.
        type: Prefect's type of the state.
        name: Prefect's name of it.
        message: What was said with it.
        timestamp: When it was set, aware of its zone.
        run_count: How often the task run had been started by then.
        inferred: Nobody reported it: it was concluded.
    """
    state = id, type, name, message, timestamp, run_count, inferred
    return _change(facts, (Kind.TASK_RESULT, task_run_id), state)


def _change(
    facts: FlowRunFacts, changed: tuple[Kind, str], state: _State
) -> StateChange:
    kind, target = changed
    id_, state_type, state_name, message, timestamp, run_count, inferred = state
    return StateChange(
        id=id_,
        run_id=facts.run_id,
        kind=kind,
        target=target,
        status=status_of(state_type, state_name, message, run_count),
        timestamp=timestamp,
        message=truncated_to(MESSAGE_LIMIT, message),
        state_type=state_type,
        state_name=state_name,
        run_count=run_count,
        inferred=inferred,
    )


def task_run_facts(
    facts: FlowRunFacts,
    task_run_id: str,
    *,
    task_key: str,
    name: str,
    dynamic_key: str = "",
    is_named: bool = True,
    first_seen: datetime | None = None,
) -> TaskRunFacts:
    """Return the facts of a task run, the same from whatever source they come.

    Args:
        facts: The facts of the flow run to which it belongs.
        task_run_id: Prefect's id of it.
        task_key: Prefect's key of the task.
        name: Prefect's name of the task run.
        dynamic_key: Prefect's dynamic key of it.
        is_named: It has the name that it keeps; Prefect gives that when it begins.
        first_seen: The time of its first known state.
    """
    return TaskRunFacts(
        task_run_id=task_run_id,
        run_id=facts.run_id,
        pipeline_result_id=result_id(facts.run_id, facts.index or 0),
        task_id=function_name(task_key),
        pipeline_task=task_name(task_key, name, dynamic_key),
        name=name,
        is_named=is_named,
        created=made_at(task_run_id) or first_seen,
    )


def task_name(task_key: str, run_name: str = "", dynamic_key: str = "") -> str:
    """Return a task's name, from what Prefect says of one of its runs.

    Prefect names a run of a task by the task and the beginning of the dynamic key,
    unless the task gives its runs names. Then only the name of its function is known.

    Example:
        >>> task_name("track_beam-cfb90ecb", "Track the beam-02d", "02d1db23")
        'Track the beam'
        >>> task_name("track_beam-cfb90ecb", "shot 17", "02d1db23")
        'track_beam'
    """
    if dynamic_key:
        for ending in (f"-{dynamic_key[:3]}", f"-{dynamic_key}"):
            if run_name.endswith(ending) and len(run_name) > len(ending):
                return run_name[: -len(ending)]
    return function_name(task_key)


def function_name(task_key: str) -> str:
    """Return what stays the same in Prefect's key of a task: its function's name.

    The rest is a hash of its code, which differs from process to process where a
    worker runs it: a run that is begun again would have every task twice.

    Example:
        >>> function_name("track_beam-cfb90ecb")
        'track_beam'
    """
    return _KEY_HASH.sub("", task_key)


def made_at(task_run_id: str) -> datetime | None:
    """Return when a task run was made, which Prefect's ids of task runs tell.

    Example:
        >>> made_at("01a1fa71-4e6b-7d4d-a58b-3de84467b294").isoformat()
        '2026-11-20T19:31:32.075000+00:00'
        >>> made_at("b1ab3c88-fd7c-468e-a484-ebd19cd95b96") is None
        True
    """
    try:
        id_ = uuid.UUID(task_run_id)
    except ValueError:
        return None
    if id_.version != 7:
        return None
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC)


class Translator:
    """Makes batches of Prefect's events.

    Args:
        directory: What knows the flow runs, such as
            :class:`prefect_lume.recorder.api.directory.FlowRunDirectory`.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._complained: set[str] = set()

    def translate(self, events: Sequence[Mapping[str, Any] | Told]) -> Batch:
        """Return the changes that events tell, with the facts of all that changed.

        Events that tell nothing of a run's state are left out, and so are those of
        task runs outside a flow run. One that is not as Prefect writes it is left out
        with a warning.

        Args:
            events: Events as Prefect's JSON, or what was read of them, in any order.

        Raises:
            httpx.HTTPError: The directory could not ask the server.
        """
        # In the order of their times, so that facts are those of a run's first state.
        told = sorted(self._read(events), key=lambda item: item.timestamp)
        hints: dict[str, FlowRunFacts] = {}
        for item in told:
            take_hint(hints, item)
        facts = self._directory.facts(list(hints), hints)
        batch = Batch(flow_runs=list(facts.values()))
        # By id and name: one that is renamed has facts for either name.
        tasks: _Tasks = {}
        for item in told:
            run = facts[item.flow_run_id]
            if item.task_run_id is None:
                self._add_flow_run(batch, run, item)
            elif run.is_object or not run.is_mapped:
                # A run over objects has no pipeline result of its own for its tasks.
                self._add_task_run(batch, tasks, run, item, item.task_run_id)
        batch.task_runs = list(tasks.values())
        return batch

    def _add_flow_run(self, batch: Batch, run: FlowRunFacts, item: Told) -> None:
        if item.state is None:
            if run.last_seen is None or run.last_seen < item.timestamp:
                run.last_seen = item.timestamp
            return
        batch.changes.append(_change(run, _target(run), _state(item, item.state)))

    def _add_task_run(
        self,
        batch: Batch,
        tasks: _Tasks,
        run: FlowRunFacts,
        item: Told,
        task_run_id: str,
    ) -> None:
        if item.state is None:
            return
        state = _state(item, item.state)
        target = Kind.TASK_RESULT, task_run_id
        batch.changes.append(_change(run, target, state))
        is_named = item.state["type"] not in BEFORE_RUNNING
        name = item.event["resource"].get("prefect.resource.name", "")
        known = tasks.get((task_run_id, name))
        if known is not None:
            known.is_named = known.is_named or is_named
            return
        task_run = item.event["payload"]["task_run"]
        tasks[task_run_id, name] = task_run_facts(
            run,
            task_run_id,
            task_key=task_run["task_key"],
            name=name,
            dynamic_key=task_run.get("dynamic_key", ""),
            is_named=is_named,
            first_seen=item.timestamp,
        )

    def _read(self, events: Sequence[Mapping[str, Any] | Told]) -> Iterator[Told]:
        for event in events:
            if isinstance(event, Told):
                yield event
                continue
            try:
                told = read_event(event)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._complain(event, f"{type(error).__name__}: {error}")
                continue
            if told is not None:
                yield told

    def _complain(self, event: Any, why: str) -> None:
        told = event if isinstance(event, Mapping) else {}
        name = clip(told.get("event"), 60)
        about = f"{name}: {why}"
        if about in self._complained or len(self._complained) >= _MOST_COMPLAINTS:
            return
        self._complained.add(about)
        logger.warning(
            "Event %s (%s) is left out, as it is not what Prefect writes: %s. Others "
            "that are wrong in the same way are left out without a word.",
            clip(told.get("id"), 60),
            name,
            clip(why, 120),
        )


def _state(item: Told, state: Mapping[str, Any]) -> _State:
    """Return what an event tells of a state, as the arguments of a change."""
    event = item.event
    count: str = event["resource"].get("prefect.run-count") or ""
    return (
        event["id"],
        state["type"],
        state.get("name"),
        state.get("message"),
        item.timestamp,
        int(count) if count.isdecimal() else None,
        False,
    )
