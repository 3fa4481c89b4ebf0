"""Where a worker finds a subflow: the entry point of its Prefect deployment.

The environment says which flow it is (`PREFECT_LUME_FLOW`), and which of the registry's
deployments holds it (`PREFECT_LUME_DEPLOYMENT_ID`). Importing this module also makes
the result serializer known to Prefect in the worker's process.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import prefect_lume.serializer  # noqa: F401 - registers it with Prefect.
from prefect_lume.composer.packages import (
    import_entrypoint,
    installed_version,
    make_importable,
)
from prefect_lume.config import open_context
from prefect_lume.errors import ConfigurationError


def load_subflow() -> Any:
    """Return the flow that the environment names.

    Raises:
        ConfigurationError: It names none.
        PackageError: Its package cannot be imported.
        IntegrityError: The package's source is not the registered one.
    """
    entrypoint = os.environ.get("PREFECT_LUME_FLOW", "")
    if not entrypoint:
        raise ConfigurationError(
            "PREFECT_LUME_FLOW is not set: create the Prefect deployments of subflows "
            "with FlowOfFlows.deploy_subflows."
        )
    package, _, version = os.environ.get("PREFECT_LUME_PACKAGE", "").partition("==")
    number = os.environ.get("PREFECT_LUME_DEPLOYMENT_ID", "")
    if number and installed_version(package) != version:
        context = open_context()
        registry = context.model_db_service()
        deployment = registry.get_deployment(deployment_id=int(number))
        make_importable(deployment, context.packages_path)
    flow = import_entrypoint(entrypoint)
    name = os.environ.get("PREFECT_LUME_FLOW_NAME") or flow.name
    return flow if flow.name == name else flow.with_options(name=name)


_loaded: list[Any] = []


def __getattr__(name: str) -> Any:
    if name != "subflow":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _loaded:
        try:
            _loaded.append(load_subflow())
        except Exception:
            # Prefect would only say that it could not find the object.
            traceback.print_exc(file=sys.stderr)
            raise
    return _loaded[0]
