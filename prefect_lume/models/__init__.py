"""Models as objects: the friendly face of the registry.

Example:
    >>> from prefect_lume.models import Model
    >>> model = Model.create_model(
    ...     author="Jackie Garrahan",
    ...     laboratory="slac",
    ...     facility="lcls",
    ...     beampath="cu_hxr",
    ...     description="test_model",
    ... )
    >>> model.deployments
    ()
"""

from prefect_lume.models.model import Model
from prefect_lume.models.uses import uses_of_deployment

__all__ = ["Model", "uses_of_deployment"]
