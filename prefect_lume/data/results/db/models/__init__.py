"""The predefined document types: see :mod:`prefect_lume.results`."""

from prefect_lume.results import ModelDocs

__all__ = ["ModelDocs"]
