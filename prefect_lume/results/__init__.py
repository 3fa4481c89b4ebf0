"""Results: documents, references, codecs, queries, stores and the service."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prefect_lume.results.comparing import Comparison as Comparison
    from prefect_lume.results.comparing import compare_results as compare_results
    from prefect_lume.results.index import Index as Index
    from prefect_lume.results.model_docs import ModelDocs as ModelDocs
    from prefect_lume.results.model_docs import register_document as register_document
    from prefect_lume.results.model_docs import resolve_model_docs as resolve_model_docs
    from prefect_lume.results.references import FileReference as FileReference
    from prefect_lume.results.references import ResultReference as ResultReference
    from prefect_lume.results.result import DocumentBase as DocumentBase
    from prefect_lume.results.result import Generic as Generic
    from prefect_lume.results.result import Impact as Impact
    from prefect_lume.results.result import ImpactResult as ImpactResult
    from prefect_lume.results.result import Result as Result
    from prefect_lume.results.service import ResultsService as ResultsService
    from prefect_lume.results.writer import StoreOutcome as StoreOutcome

_EXPORTS: Final = {
    "Comparison": "comparing",
    "DocumentBase": "result",
    "FileReference": "references",
    "Generic": "result",
    "Impact": "result",
    "ImpactResult": "result",
    "Index": "index",
    "ModelDocs": "model_docs",
    "Result": "result",
    "ResultReference": "references",
    "ResultsService": "service",
    "StoreOutcome": "writer",
    "compare_results": "comparing",
    "register_document": "model_docs",
    "resolve_model_docs": "model_docs",
}

__all__ = sorted(_EXPORTS)  # noqa: PLE0605 - a list of strings.


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
