"""The names by which composer and a subflow on a work pool understand each other."""

from __future__ import annotations

from typing import Final

#: The entry point of every subflow's Prefect deployment: `composer.remote`.
ENTRYPOINT: Final = "prefect_lume.composer.remote.subflow"

#: Environment: the flow, as ``module:attribute``.
FLOW: Final = "PREFECT_LUME_FLOW"
#: Environment: the flow's name in Prefect.
FLOW_NAME: Final = "PREFECT_LUME_FLOW_NAME"
#: Environment: the package that holds it, as ``import name==version``.
PACKAGE: Final = "PREFECT_LUME_PACKAGE"
#: Environment: the registry's deployment that holds it.
DEPLOYMENT: Final = "PREFECT_LUME_DEPLOYMENT_ID"
#: Environment: the name of the services Block.
SERVICES: Final = "PREFECT_LUME_SERVICES"
#: Environment: the folder of the embedded databases.
HOME: Final = "PREFECT_LUME_HOME"
#: Environment of one run: the tasks whose results are read later, as a JSON list.
KEEP: Final = "PREFECT_LUME_KEEP"
