"""The results service: see :mod:`prefect_lume.results`."""

from prefect_lume.results import ResultsService

__all__ = ["ResultsService"]
