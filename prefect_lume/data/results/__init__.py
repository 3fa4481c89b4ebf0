"""Results, where LUME-services had them: see :mod:`prefect_lume.results`."""

from prefect_lume.results import ImpactResult, Result

__all__ = ["ImpactResult", "Result"]
