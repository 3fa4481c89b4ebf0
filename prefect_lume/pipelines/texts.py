"""Texts of a batch as every database can keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from itertools import chain
from operator import attrgetter
from typing import Any, Final, TypeVar

from prefect_lume.pipelines.changes import (
    Batch,
    FlowRunFacts,
    StateChange,
    TaskRunFacts,
)
from prefect_lume.pipelines.jsonable import is_storable, storable_text

_T = TypeVar("_T", StateChange, FlowRunFacts, TaskRunFacts)

_NAMES: Final[dict[type[Any], tuple[str, ...]]] = {
    kind: tuple(f.name for f in fields(kind) if f.type in ("str", "str | None"))
    for kind in (StateChange, FlowRunFacts, TaskRunFacts)
}
_TEXTS: Final[dict[type[Any], Callable[[Any], tuple[str | None, ...]]]] = {
    kind: attrgetter(*names) for kind, names in _NAMES.items()
}


def storable_batch(batch: Batch) -> Batch:
    """Return a batch without text that some databases cannot keep."""
    # One look at all of it: hardly ever is anything found.
    texts = chain(
        _texts(StateChange, batch.changes),
        _texts(FlowRunFacts, batch.flow_runs),
        _texts(TaskRunFacts, batch.task_runs),
    )
    if is_storable("".join(filter(None, texts))):
        return batch
    return Batch(
        [_storable(change) for change in batch.changes],
        [_storable(run) for run in batch.flow_runs],
        [_storable(task) for task in batch.task_runs],
    )


def _texts(kind: type[_T], items: Iterable[_T]) -> Iterable[str | None]:
    return chain.from_iterable(map(_TEXTS[kind], items))


def _storable(item: _T) -> _T:
    texts: dict[str, Any] = {
        name: storable_text(value)
        for name in _NAMES[type(item)]
        if isinstance(value := getattr(item, name), str) and not is_storable(value)
    }
    return replace(item, **texts) if texts else item
