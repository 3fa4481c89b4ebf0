"""The interface of a results database: see :mod:`prefect_lume.results.stores`."""

from prefect_lume.results.stores import DBService, DBServiceConfig

#: The spelling in the documentation of LUME-services.
BServiceConfig = DBServiceConfig

__all__ = ["BServiceConfig", "DBService", "DBServiceConfig"]
