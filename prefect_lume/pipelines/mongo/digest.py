"""Counting objects in the database: by pipeline, or by parent and status."""

from __future__ import annotations

from typing import Any, Final

from prefect_lume.pipelines.digest import PipelineDigest, PipelineDigestItem
from prefect_lume.pipelines.mongo.documents import RUNTIME, Document, from_ticks
from prefect_lume.pipelines.mongo.indices import Documents
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.pipelines.tally import Tally
from prefect_lume.storage.mongo import repeated

_SECOND: Final = 1_000_000
_STEPS: Final[list[Document]] = [
    {
        "$group": {
            "_id": {"pipeline": "$pipeline_id", "status": "$status"},
            "total": {"$sum": 1},
            "last": {"$max": "$started"},
            # Of those that have one.
            "runtime": {"$sum": f"${RUNTIME}"},
            "timed": {"$sum": {"$cond": [{"$gte": [f"${RUNTIME}", None]}, 1, 0]}},
        }
    }
]


def read_digest(results: Documents) -> PipelineDigest:
    """Return how each pipeline did; raises pymongo's exceptions."""
    found: dict[str, list[dict[str, Any]]] = {}
    for group in repeated(lambda: list(results.aggregate(_STEPS, allowDiskUse=True))):
        found.setdefault(group["_id"]["pipeline"], []).append(group)
    return {name: _item(found[name]) for name in sorted(found)}


def _item(groups: list[dict[str, Any]]) -> PipelineDigestItem:
    by_status = {
        PipelineTaskStatus(group["_id"]["status"]): int(group["total"])
        for group in groups
    }
    total = sum(by_status.values())
    success = by_status.get(PipelineTaskStatus.DONE, 0)
    failure = sum(n for status, n in by_status.items() if status.is_failed)
    last = max((g["last"] for g in groups if g["last"] is not None), default=None)
    timed = sum(int(group["timed"]) for group in groups)
    runtime = sum(int(group["runtime"]) for group in groups)
    return PipelineDigestItem(
        total_runs=success + failure,
        total_success=success,
        total_failure=failure,
        total_open=total - success - failure,
        last_ran=None if last is None else from_ticks(last),
        average_runtime=runtime / timed / _SECOND if timed else None,
    )


def read_tally(rows: Documents, query: Document) -> list[Tally]:
    """Return how many rows there are of each parent, status and attempt."""
    key = {name: f"${name}" for name in ("parent_id", "status", "superseded")}
    steps = [{"$match": query}, {"$group": {"_id": key, "number": {"$sum": 1}}}]
    found = repeated(lambda: list(rows.aggregate(steps, allowDiskUse=True)))
    return [
        Tally(
            group["_id"].get("parent_id"),
            PipelineTaskStatus(group["_id"]["status"]),
            group["_id"]["superseded"],
            int(group["number"]),
        )
        for group in found
    ]
