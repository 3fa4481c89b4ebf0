"""Results databases: the interface, and the two that come with prefect-lume."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from prefect_lume.results.stores.base import DBService as DBService
from prefect_lume.results.stores.base import DBServiceConfig as DBServiceConfig

if TYPE_CHECKING:
    from prefect_lume.results.stores.mongo.service import (
        MongoDBService as MongoDBService,
    )
    from prefect_lume.results.stores.sql.service import SQLDBService as SQLDBService

__all__ = ["DBService", "DBServiceConfig", "MongoDBService", "SQLDBService"]

# Each loads its driver: only when it is asked for.
_LAZY: Final = {
    "MongoDBService": "prefect_lume.results.stores.mongo.service",
    "SQLDBService": "prefect_lume.results.stores.sql.service",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
