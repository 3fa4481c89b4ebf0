"""Recording what Prefect runs, in process or by following its server."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prefect_lume.recorder.inprocess.decorating import recorded as recorded
    from prefect_lume.recorder.objects.running import run_pipeline as run_pipeline

_EXPORTS: Final = {
    "recorded": "prefect_lume.recorder.inprocess.decorating",
    "run_pipeline": "prefect_lume.recorder.objects.running",
}

__all__ = ["recorded", "run_pipeline"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
