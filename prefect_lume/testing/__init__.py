"""Contract suites for whoever puts a service of their own in our place."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prefect_lume.testing.corpus import make_document as make_document
    from prefect_lume.testing.pipelines import (
        PipelineStorageContract as PipelineStorageContract,
    )
    from prefect_lume.testing.results import DBServiceContract as DBServiceContract
    from prefect_lume.testing.results_indices import (
        IndexOptionsContract as IndexOptionsContract,
    )

_EXPORTS: Final = {
    "DBServiceContract": "prefect_lume.testing.results",
    "IndexOptionsContract": "prefect_lume.testing.results_indices",
    "PipelineStorageContract": "prefect_lume.testing.pipelines",
    "make_document": "prefect_lume.testing.corpus",
}

__all__ = [
    "DBServiceContract",
    "IndexOptionsContract",
    "PipelineStorageContract",
    "make_document",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
