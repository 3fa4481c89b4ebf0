"""Late import of optional packages, with an error that names the extra."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Final

from prefect_lume.errors import MissingDependencyError

#: Import name of an optional package → the extra that installs it.
EXTRAS: Final = {
    "numpy": "arrays",
    "pandas": "tables",
    "pyarrow": "tables",
    "xarray": "xarray",
    "pint": "units",
    "h5py": "files",
    "PIL": "files",
    "matplotlib": "demo",
    "beamphysics": "demo",
    "prefect_docker": "docker",
    "psycopg": "postgresql",
    "conda_lock": "environments",
    "mlflow": "mlflow",
}


def require(module: str, purpose: str = "") -> ModuleType:
    """Import an optional module and return it.

    Args:
        module: The dotted import name, for example ``"pyarrow.ipc"``.
        purpose: What needs it, the subject of the error's first sentence, for
            example ``"Storing a table"``.

    Returns:
        The imported module.

    Raises:
        MissingDependencyError: The package that holds the module is not installed.
            An import error of anything else is raised as it is.

    Example:
        >>> require("json").dumps([1])
        '[1]'
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name != package or package not in EXTRAS:
            raise
        raise MissingDependencyError(package, EXTRAS[package], purpose) from exc


def installed(module: str) -> bool:
    """Tell whether an optional module could be imported, without importing it.

    Example:
        >>> installed("json"), installed("no_such_module")
        (True, False)
    """
    return importlib.util.find_spec(module) is not None
