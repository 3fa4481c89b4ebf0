"""Result documents: their classes, their registry, and their stored form."""

from __future__ import annotations

from prefect_lume.results.index import Index
from prefect_lume.results.model_docs import (
    ModelDocs,
    register_document,
    resolve_model_docs,
)
from prefect_lume.results.result import (
    DocumentBase,
    Generic,
    Impact,
    ImpactResult,
    Result,
)
from prefect_lume.results.stored import (
    FORMAT,
    UnknownResultTypeWarning,
    from_document,
    to_document,
    verify_document,
)

__all__ = [
    "FORMAT",
    "DocumentBase",
    "Generic",
    "Impact",
    "ImpactResult",
    "Index",
    "ModelDocs",
    "Result",
    "UnknownResultTypeWarning",
    "from_document",
    "register_document",
    "resolve_model_docs",
    "to_document",
    "verify_document",
]
