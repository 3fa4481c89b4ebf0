"""Taking together what lies below objects, in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prefect_lume.pipelines.mongo.documents import Document, from_ticks
from prefect_lume.pipelines.mongo.indices import Documents
from prefect_lume.pipelines.rules import Below, Failure
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.storage.mongo import repeated

_S = PipelineTaskStatus
_FAILED: Final = sorted(status.value for status in _S.failed_statuses())


@dataclass(frozen=True)
class NotWritten:
    """The documents of a kind, without those that a session is about to replace."""

    collection: Documents
    replaced: Sequence[str]

    def below(self, parents: Sequence[str]) -> Document:
        """Return the query for what lies below objects and counts for them."""
        query: Document = {"parent_id": {"$in": list(parents)}, "superseded": False}
        if self.replaced:
            query["_id"] = {"$nin": list(self.replaced)}
        return query


def summarise_stored(stored: NotWritten, parents: Sequence[str]) -> dict[str, Below]:
    """Return what lies below each of these objects; those without are left out."""
    steps = [
        {"$match": stored.below(parents)},
        {
            "$group": {
                "_id": "$parent_id",
                "total": {"$sum": 1},
                "pending": _count([_S.PENDING.value]),
                "done": _count([_S.DONE.value]),
                "failed": _count(_FAILED),
                "started": {"$min": "$started"},
                "completed": {"$max": "$completed"},
                "last_at": {"$max": "$last_at"},
            }
        },
    ]
    found = repeated(lambda: list(stored.collection.aggregate(steps)))
    return {group["_id"]: _below(stored, group) for group in found}


def _count(statuses: Sequence[str]) -> Document:
    return {"$sum": {"$cond": [{"$in": ["$status", list(statuses)]}, 1, 0]}}


def _below(stored: NotWritten, group: dict[str, Any]) -> Below:
    failure = _first_failure(stored, group["_id"]) if group["failed"] else None
    return Below(
        total=int(group["total"]),
        pending=int(group["pending"]),
        done=int(group["done"]),
        started=_time(group["started"]),
        completed=_time(group["completed"]),
        last_at=_time(group["last_at"]),
        failure=failure,
    )


def _first_failure(stored: NotWritten, parent: str) -> Failure | None:
    query = {
        **stored.below([parent]),
        "status": {"$in": _FAILED},
        "completed": {"$exists": True},
    }
    order = [("completed", 1), ("_id", 1)]
    first = repeated(lambda: stored.collection.find_one(query, sort=order))
    if first is None:
        return None
    return Failure(
        from_ticks(first["completed"]),
        first["_id"],
        _S(first["status"]),
        first["message"],
    )


def add(one: Below, other: Below) -> Below:
    """Return two parts of what lies below an object, taken together."""
    failures = [f for f in (one.failure, other.failure) if f is not None]
    return Below(
        total=one.total + other.total,
        pending=one.pending + other.pending,
        done=one.done + other.done,
        started=min(filter(None, (one.started, other.started)), default=None),
        completed=max(filter(None, (one.completed, other.completed)), default=None),
        last_at=max(filter(None, (one.last_at, other.last_at)), default=None),
        failure=min(failures, key=lambda f: (f.timestamp, f.id), default=None),
    )


def _time(ticks: int | None) -> datetime | None:
    return None if ticks is None else from_ticks(ticks)
