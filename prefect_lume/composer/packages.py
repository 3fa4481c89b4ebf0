"""Imports the flow of a registered deployment: installed, or unpacked and verified."""

from __future__ import annotations

import importlib
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefect import Flow

from prefect_lume._fingerprint import sha256_file
from prefect_lume.errors import NotFoundError, PackageError, clip

if TYPE_CHECKING:
    from prefect_lume.registry import DeploymentRecord

_lock: Final = threading.RLock()
#: Import name → version and source hash of what this process uses.
_in_use: dict[str, tuple[str, str]] = {}


def import_flow(
    deployment: DeploymentRecord, flow_name: str, packages_path: Path
) -> Flow[..., Any]:
    """Return a flow of a registered deployment.

    The installed package is taken if it has the deployment's version. Otherwise the
    deployment's source is verified by its SHA-256, unpacked and put on `sys.path`.

    Args:
        deployment: The registry's deployment.
        flow_name: The flow.
        packages_path: The folder into which packages are unpacked.

    Raises:
        NotFoundError: The deployment offers no such flow.
        PackageError: The package cannot be imported, this process uses another version
            of it, or the entry point leads out of it.
        IntegrityError: The source is not the one that was registered.
    """
    entrypoint = deployment.entrypoints.get(flow_name)
    if entrypoint is None:
        raise NotFoundError(
            f"flow in deployment {deployment.deployment_id} of the package "
            f"{deployment.package_import_name!r}",
            flow_name,
            known=deployment.entrypoints,
        )
    package = deployment.package_import_name
    if not f"{entrypoint.partition(':')[0]}.".startswith(f"{package}."):
        # What a row names is imported only from the package whose hash was checked.
        raise PackageError(
            f"Deployment {deployment.deployment_id} names the entry point "
            f"{clip(repr(entrypoint), 120)} for the flow {flow_name!r}, which is not "
            f"in its package {package!r}: it is not imported. Register it again."
        )
    make_importable(deployment, packages_path)
    flow = import_entrypoint(entrypoint)
    return flow if flow.name == flow_name else flow.with_options(name=flow_name)


def make_importable(deployment: DeploymentRecord, packages_path: Path) -> None:
    """Make the package of a deployment the one that is imported in this process."""
    name, wanted = deployment.package_import_name, deployment.version
    with _lock:
        used = _in_use.get(name)
        if used == (wanted, deployment.sha256):
            return
        if used is not None:
            raise PackageError(_two_versions(name, used[0], wanted))
        if installed_version(name) != wanted:
            _unpack(deployment, packages_path)
        _in_use[name] = (wanted, deployment.sha256)


def _unpack(deployment: DeploymentRecord, packages_path: Path) -> None:
    from prefect_lume.packages import inspect_source, unpack

    name, wanted = deployment.package_import_name, deployment.version
    source = inspect_source(_local(deployment, packages_path))
    folder = unpack(source, packages_path, sha256=deployment.sha256)
    loaded = sys.modules.get(name)
    where = str(getattr(loaded, "__file__", "") or "")
    if loaded is not None and not where.startswith(str(folder)):
        if where and _same_files(Path(where).parent, folder / name.replace(".", "/")):
            # A source tree of the very content that was registered.
            return
        other = installed_version(name) or f"the one at {where}"
        raise PackageError(_two_versions(name, other, wanted))
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def _local(deployment: DeploymentRecord, packages_path: Path) -> str:
    """Return where a deployment's source is on this machine; fetch it if need be."""
    from prefect_lume.packages.downloads import download, is_remote

    if not is_remote(deployment.source):
        return deployment.source
    kept = packages_path / "sources"
    found = sorted((kept / deployment.sha256).glob("[!.]*"))
    return str(found[0] if found else download(deployment.source, kept))


def _same_files(one: Path, other: Path) -> bool:
    """Say whether two package folders hold the same files, but for compiled ones."""

    def files(folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): sha256_file(path)
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    return other.is_dir() and files(one) == files(other)


def installed_version(import_name: str) -> str | None:
    """Return the version of the installed distribution that an import name is of.

    Example:
        >>> installed_version("no_such_package_anywhere") is None
        True
    """
    try:
        return metadata.version(import_name)
    except metadata.PackageNotFoundError:
        owners = metadata.packages_distributions().get(import_name)
        return metadata.version(owners[0]) if owners else None


def import_entrypoint(entrypoint: str) -> Flow[..., Any]:
    """Import ``"module:attribute"``, which must be a flow.

    Raises:
        PackageError: It cannot be imported, or is no flow.
    """
    module_name, colon, attribute = entrypoint.partition(":")
    if not colon or not module_name or not attribute:
        raise PackageError(
            f"{entrypoint!r} names no flow: write 'module:attribute', for example "
            f"'injector.flows:generate'."
        )
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        # Whatever a package raises when it is imported: without it there is no flow.
        raise PackageError(
            f"The flow {entrypoint!r} cannot be imported: {type(error).__name__}: "
            f"{error}. Install what it needs, or correct the entry point."
        ) from error
    if not isinstance(found, Flow):
        raise PackageError(
            f"{entrypoint!r} is a {type(found).__name__}, not a flow: decorate it "
            f"with @flow."
        )
    return found


def _two_versions(name: str, used: str, wanted: str) -> str:
    return (
        f"This process uses version {used} of the package {name!r}, and version "
        f"{wanted} is wanted too. One process can use one version only: make the "
        f"versions equal, or run the subflows as deployments."
    )
