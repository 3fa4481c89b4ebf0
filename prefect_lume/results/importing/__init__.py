"""Taking over the results of other systems."""

from __future__ import annotations

from prefect_lume.results.importing.lume_services import import_lume_services
from prefect_lume.results.importing.report import (
    CollectionCounts,
    ImportProblem,
    ImportReport,
)

__all__ = [
    "CollectionCounts",
    "ImportProblem",
    "ImportReport",
    "import_lume_services",
]
