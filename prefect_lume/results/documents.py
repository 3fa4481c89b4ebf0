"""Result documents: their classes, their registry, and their stored form."""

from __future__ import annotations

from prefect_lume.results.result import DocumentBase as DocumentBase
from prefect_lume.results.result import Generic as Generic
from prefect_lume.results.result import Impact as Impact
from prefect_lume.results.result import ImpactResult as ImpactResult
from prefect_lume.results.result import Index as Index
from prefect_lume.results.result import Result as Result
from prefect_lume.results.stored import FORMAT as FORMAT
from prefect_lume.results.stored import (
    UnknownResultTypeWarning as UnknownResultTypeWarning,
)
from prefect_lume.results.stored import from_document as from_document
from prefect_lume.results.stored import to_document as to_document
from prefect_lume.results.types import ModelDocs as ModelDocs
from prefect_lume.results.types import register_document as register_document
from prefect_lume.results.types import resolve_model_docs as resolve_model_docs

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
]
