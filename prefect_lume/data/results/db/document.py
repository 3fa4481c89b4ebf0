"""The base of document types: see :mod:`prefect_lume.results`."""

from prefect_lume.results import DocumentBase

__all__ = ["DocumentBase"]
