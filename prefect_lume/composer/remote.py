"""Where a worker finds a subflow: the entry point of its Prefect deployment.

The environment says which flow it is (`PREFECT_LUME_FLOW`), and which of the registry's
deployments holds it (`PREFECT_LUME_DEPLOYMENT_ID`).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from prefect_lume.composer.child import as_child
from prefect_lume.composer.packages import (
    import_entrypoint,
    installed_version,
    make_importable,
)
from prefect_lume.composer.remote_names import (
    DEPLOYMENT,
    FLOW,
    FLOW_NAME,
    KEEP,
    PACKAGE,
)
from prefect_lume.config import open_context
from prefect_lume.errors import ConfigurationError
from prefect_lume.recorder import recorded
from prefect_lume.settings import LumeSettings


def load_subflow() -> Any:
    """Return the flow that the environment names.

    Raises:
        ConfigurationError: It names none.
        PackageError: Its package cannot be imported.
        IntegrityError: The package's source is not the registered one.
    """
    entrypoint = os.environ.get(FLOW, "")
    if not entrypoint:
        raise ConfigurationError(
            f"{FLOW} is not set: create the Prefect deployments of subflows "
            "with FlowOfFlows.deploy_subflows."
        )
    package, _, version = os.environ.get(PACKAGE, "").partition("==")
    number = os.environ.get(DEPLOYMENT, "")
    if number and installed_version(package) != version:
        context = open_context()
        registry = context.model_db_service()
        deployment = registry.get_deployment(deployment_id=int(number))
        make_importable(deployment, context.packages_path)
    flow = import_entrypoint(entrypoint)
    name = os.environ.get(FLOW_NAME) or flow.name
    if flow.name != name:
        flow = flow.with_options(name=name)
    storage = open_context().services.file_storage or None
    child = as_child(flow, _kept_tasks(), storage=storage)
    return recorded(child) if LumeSettings.load().record else child


def _kept_tasks() -> frozenset[str]:
    try:
        names = json.loads(os.environ.get(KEEP) or "[]")
    except ValueError as error:
        raise ConfigurationError(
            f"{KEEP} must be a JSON list of task names."
        ) from error
    return frozenset(map(str, names))


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
