"""The collections of a storage in MongoDB, and their indices."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from pymongo import ASCENDING, IndexModel
from pymongo.collection import Collection
from pymongo.database import Database

from prefect_lume.pipelines.mongo.documents import ORDER, WHEN
from prefect_lume.pipelines.rows import Kind
from prefect_lume.storage.mongo import repeated

Documents = Collection[dict[str, Any]]

#: All collections begin with it. The results database takes no project of that name.
PREFIX: Final = "lume_pipelines"
#: The collection of state changes.
STATES: Final = "pipeline_state"
#: Where each run stands: see ``turns``.
RUNS: Final = "run"
#: What is about to be written: see ``journal``.
JOURNAL: Final = "journal"
#: How far sources of changes were read.
POSITIONS: Final = "position"

_ROWS: Final[tuple[tuple[str, ...], ...]] = (
    ("run_id", "status"),
    ("parent_id", "status", "completed"),
)
_INDICES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    Kind.EXECUTION: (("pipeline_id", ORDER), ("parent_run_id",), (WHEN,), (ORDER,)),
    Kind.RESULT: (*_ROWS, ("pipeline_id",), ("flow_run_id",)),
    Kind.TASK_EXECUTION: _ROWS,
    Kind.TASK_RESULT: (*_ROWS, ("pipeline_result_id",)),
    STATES: (("target",), ("run_id",)),
    RUNS: (("pending",),),
    JOURNAL: (("token",), ("made",)),
}


def documents(database: Database[dict[str, Any]], name: str) -> Documents:
    """Return a collection of the storage."""
    return database[f"{PREFIX}.{name}"]


def ensure(database: Database[dict[str, Any]]) -> None:
    """Create the indices that are missing; raises pymongo's exceptions."""
    for name, keys in _INDICES.items():
        models = [IndexModel([(key, ASCENDING) for key in fields]) for fields in keys]
        repeated(partial(documents(database, name).create_indexes, models))
