"""prefect-lume: scientific models as Prefect flows, registered, composed, recorded.

Importing this package loads neither Prefect nor any driver: every public name is
imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prefect_lume.composer import FlowOfFlows as FlowOfFlows
    from prefect_lume.credentials import LumeServices as LumeServices
    from prefect_lume.credentials import MongoDBCredentials as MongoDBCredentials
    from prefect_lume.credentials import MySQLCredentials as MySQLCredentials
    from prefect_lume.filesystems import LumeResultsStorage as LumeResultsStorage
    from prefect_lume.models import Model as Model
    from prefect_lume.recorder import recorded as recorded
    from prefect_lume.recorder import run_pipeline as run_pipeline
    from prefect_lume.results import FileReference as FileReference
    from prefect_lume.results import ImpactResult as ImpactResult
    from prefect_lume.results import Result as Result
    from prefect_lume.results import ResultReference as ResultReference
    from prefect_lume.tasks import find_results as find_results
    from prefect_lume.tasks import load_file as load_file
    from prefect_lume.tasks import load_result as load_result
    from prefect_lume.tasks import publish_digest as publish_digest
    from prefect_lume.tasks import publish_result as publish_result
    from prefect_lume.tasks import publish_run as publish_run
    from prefect_lume.tasks import register_deployment as register_deployment
    from prefect_lume.tasks import register_model as register_model
    from prefect_lume.tasks import save_file as save_file
    from prefect_lume.tasks import store_result as store_result
    from prefect_lume.tasks import store_results as store_results

__version__: Final = "0.1.0"

_EXPORTS: Final = {
    "FlowOfFlows": "prefect_lume.composer",
    "LumeServices": "prefect_lume.credentials",
    "MongoDBCredentials": "prefect_lume.credentials",
    "MySQLCredentials": "prefect_lume.credentials",
    "LumeResultsStorage": "prefect_lume.filesystems",
    "Model": "prefect_lume.models",
    "recorded": "prefect_lume.recorder",
    "run_pipeline": "prefect_lume.recorder",
    "FileReference": "prefect_lume.results",
    "ImpactResult": "prefect_lume.results",
    "Result": "prefect_lume.results",
    "ResultReference": "prefect_lume.results",
    "load_file": "prefect_lume.tasks",
    "store_results": "prefect_lume.tasks",
    "publish_digest": "prefect_lume.tasks",
    "publish_result": "prefect_lume.tasks",
    "publish_run": "prefect_lume.tasks",
    "find_results": "prefect_lume.tasks",
    "load_result": "prefect_lume.tasks",
    "register_deployment": "prefect_lume.tasks",
    "register_model": "prefect_lume.tasks",
    "save_file": "prefect_lume.tasks",
    "store_result": "prefect_lume.tasks",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604 - names of strings, from a dict.


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
