"""Results on the move: into a folder and back, and between two databases."""

from __future__ import annotations

from prefect_lume.results.transfer.copying import copy_results
from prefect_lume.results.transfer.exporting import export_results
from prefect_lume.results.transfer.importing import import_results
from prefect_lume.results.transfer.reports import Progress, TransferReport

__all__ = [
    "Progress",
    "TransferReport",
    "copy_results",
    "export_results",
    "import_results",
]
