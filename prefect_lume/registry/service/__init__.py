"""The one door to the registry."""

from __future__ import annotations

from prefect_lume.registry.service.base import Listener, login_name
from prefect_lume.registry.service.deployments import DeploymentCalls
from prefect_lume.registry.service.flows import FlowCalls
from prefect_lume.registry.service.life import LifeCalls
from prefect_lume.registry.service.models import ModelCalls
from prefect_lume.registry.service.searching import SearchCalls
from prefect_lume.registry.service.standing import StandingCalls


class ModelDBService(
    ModelCalls, DeploymentCalls, LifeCalls, FlowCalls, SearchCalls, StandingCalls
):
    """The registry of models, deployments, projects, flows and flow-of-flows.

    Every call is one transaction: it happens as a whole or not at all, and is repeated
    when the database reports a deadlock. A service may be shared between threads.

    Any call may raise, besides what its description names: ``SchemaError`` when the
    tables are missing, ``PermissionDeniedError`` when the database user may not do it,
    ``ConnectionFailedError`` when the server cannot be reached, and
    ``InvalidInputError`` for a value that the database could not hold unchanged.

    Args:
        engine: The database, from :func:`prefect_lume.storage.sql.get_engine`.
        migrate: What :meth:`apply_schema` calls; by default the registry's tables are
            created where they are missing.

    Example:
        >>> from prefect_lume.storage.sql import get_engine
        >>> registry = ModelDBService(get_engine("sqlite://"))
        >>> registry.apply_schema()
        >>> model_id = registry.store_model(
        ...     author="Jackie Garrahan", laboratory="slac", facility="lcls",
        ...     beampath="cu_hxr", description="test_model",
        ... )
        >>> registry.get_model(model_id=model_id).beampath
        'cu_hxr'
        >>> registry.close()
    """


__all__ = ["Listener", "ModelDBService", "login_name"]
