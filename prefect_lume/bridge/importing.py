"""Takes over the registered models of an MLflow registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from prefect_lume._fingerprint import sha256_file, sha256_tree
from prefect_lume.bridge.client import open_client, shown, translated
from prefect_lume.config import Context
from prefect_lume.errors import (
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    clip,
)
from prefect_lume.packages import local_path
from prefect_lume.registry import ModelDBService, fields

_PAGE: Final = 200
#: What our fields are called in the tags of a registered model.
_PREFIX: Final = "lume."
_UNKNOWN: Final = "unknown"
#: The tag of a model that tells which version an import made live last.
_LIVE: Final = "mlflow.live"


@dataclass
class MlflowImport:
    """What an import from MLflow did.

    Attributes:
        source: The MLflow registry, without any secret.
        dry_run: Whether nothing was written.
        models: Registered models that were read.
        stored: Versions that became deployments.
        present: Versions that were here already.
        renamed: Aliases that our rules refuse, and what they are called here.
        refused: Version → why it could not be taken over.
    """

    source: str
    dry_run: bool = False
    models: int = 0
    stored: int = 0
    present: int = 0
    renamed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every version is here now."""
        return not self.refused

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Defaults:
    laboratory: str
    facility: str
    beampath: str
    live_alias: str


def import_mlflow_registry(
    tracking_uri: str,
    context: Context,
    *,
    names: Iterable[str] = (),
    laboratory: str = _UNKNOWN,
    facility: str = _UNKNOWN,
    beampath: str = _UNKNOWN,
    live_alias: str = "champion",
    dry_run: bool = False,
    progress: Callable[[str, int], None] = lambda _name, _done: None,
) -> MlflowImport:
    """Take over registered models with their versions, aliases and tags.

    A registered model becomes a model whose description is its name; a version becomes
    a deployment of the same version, source and tags. Importing again stores what is
    new, and moves aliases to where MLflow has them. What runs in MLflow is not touched.

    Args:
        tracking_uri: Where MLflow is, for example ``sqlite:///mlflow.db``.
        context: The services whose registry gets it.
        names: Only these registered models; by default all.
        laboratory: The models' laboratory, where they have no tag
            ``lume.laboratory``; likewise the next two.
        facility: Their facility.
        beampath: Their beam path.
        live_alias: The alias whose version becomes live; without one of that name, the
            version in the stage ``Production``, if there is one. Empty: none. What is
            promoted here later stays live until MLflow names another version.
        dry_run: Whether to write nothing.
        progress: Is told of each registered model, and how many versions are done.

    Returns:
        What was done. The sha256 of a version is that of its files where they are on
        this machine, else of what names it; the tag ``mlflow.sha256-of`` says which.

    Raises:
        MissingDependencyError: MLflow is not installed.
        ConfigurationError: The URI is empty, or names a file that is not there.
        NotFoundError: It has no registered model of one of the names.
        StorageError: It, or our registry, cannot be used.
    """
    _refuse_new_file(tracking_uri)
    client = open_client(tracking_uri)
    registry = context.model_db_service()
    if dry_run:
        registry = registry.preview()
    report = MlflowImport(shown(tracking_uri), dry_run)
    defaults = _Defaults(laboratory, facility, beampath, live_alias)
    with translated(tracking_uri):
        for registered in _registered(client, tuple(names)):
            report.models += 1
            _take_over(client, registry, registered, defaults, report, progress)
    return report


def _refuse_new_file(tracking_uri: str) -> None:
    """Refuse a database file that is not there: MLflow would make an empty one."""
    path = tracking_uri.removeprefix("sqlite:///").partition("?")[0]
    if tracking_uri.startswith("sqlite:///") and path and not Path(path).exists():
        raise ConfigurationError(
            f"There is no file {clip(path)!r} to import from. Correct the tracking URI."
        )


def _registered(client: Any, names: tuple[str, ...]) -> Iterator[Any]:
    if names:
        for name in names:
            yield client.get_registered_model(name)
        return
    token = None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        for found in page:
            # The search leaves out the aliases of some stores.
            yield client.get_registered_model(found.name)
        token = page.token
        if not token:
            return


def _versions(client: Any, name: str) -> list[Any]:
    # MLflow's filters know no way to write a quote: a wildcard stands for it.
    asked = f"name='{name}'"
    if "'" in name:
        asked = "name LIKE '{}'".format(name.replace("'", "_"))
    found: list[Any] = []
    token = None
    while True:
        page = client.search_model_versions(asked, max_results=_PAGE, page_token=token)
        found += [version for version in page if version.name == name]
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def _take_over(
    client: Any,
    registry: ModelDBService,
    registered: Any,
    defaults: _Defaults,
    report: MlflowImport,
    progress: Callable[[str, int], None],
) -> None:
    name = registered.name
    tags = dict(registered.tags or {})
    values = {
        key: tags.get(f"{_PREFIX}{key}") or getattr(defaults, key)
        for key in ("laboratory", "facility", "beampath")
    }
    versions = _versions(client, name)
    author = next((v.user_id for v in versions if v.user_id), None)
    values["author"] = tags.get(f"{_PREFIX}author") or author or _UNKNOWN
    try:
        model_id = registry.store_model(description=name, **values)
        if not report.dry_run:
            registry.tag_model(model_id, _fitting_tags({**tags, "mlflow.name": name}))
    except InvalidInputError as error:
        report.refused[name] = str(error)
        return
    numbers: dict[str, int] = {}
    for done, version in enumerate(versions, start=1):
        _store(registry, model_id, name, version, report, numbers)
        progress(name, done)
    if not report.dry_run:
        _point(registry, model_id, registered, versions, numbers, defaults, report)


def _store(
    registry: ModelDBService,
    model_id: int,
    name: str,
    version: Any,
    report: MlflowImport,
    numbers: dict[str, int],
) -> None:
    label = f"{name}/{version.version}"
    number = str(version.version)
    try:
        known = (
            []
            if report.dry_run and not registry.get_models(model_id=model_id)
            else registry.get_deployments(model_id=model_id, version=number)
        )
        if known:
            report.present += 1
            numbers[number] = known[0].deployment_id
            return
        if report.dry_run:
            report.stored += 1
            return
        sha256, of = _hash(report.source, name, version)
        about = {
            **{key: str(value) for key, value in (version.tags or {}).items()},
            "mlflow.name": name,
            "mlflow.run_id": version.run_id or "",
            "mlflow.stage": getattr(version, "current_stage", None) or "",
            "mlflow.created": str(version.creation_timestamp),
            "mlflow.sha256-of": of,
        }
        numbers[number] = registry.store_deployment(
            model_id=model_id,
            version=number,
            source=version.source or shown(report.source),
            sha256=sha256,
            package_import_name="mlflow",
            is_live=False,
            description=(version.description or "")[: fields.DESCRIPTION_LENGTH],
            tags=_fitting_tags({key: text for key, text in about.items() if text}),
            reason=f"imported from {report.source}",
        )
        report.stored += 1
    except (InvalidInputError, ConflictError, OSError) as error:
        report.refused[label] = str(error)


def _fitting_tags(tags: dict[str, str]) -> dict[str, str]:
    return {
        key[: fields.NAME_LENGTH]: value[: fields.TAG_LENGTH].replace("\0", "")
        for key, value in tags.items()
        if key
    }


def _hash(source: str, name: str, version: Any) -> tuple[str, str]:
    """Return the hash of a version's files, or of what names it, and which it is."""
    uri = version.source or ""
    path = local_path(uri) if uri.startswith(("/", "file:")) else None
    if path is not None and path.is_file():
        return sha256_file(path), "file"
    if path is not None and path.is_dir():
        return sha256_tree(dict(_contents(path))), "directory"
    named = {
        "registry": source,
        "name": name,
        "version": str(version.version),
        "run_id": version.run_id or "",
        "source": uri,
    }
    return sha256_tree(named), "reference"


def _contents(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix(), sha256_file(path)


def _point(
    registry: ModelDBService,
    model_id: int,
    registered: Any,
    versions: list[Any],
    numbers: dict[str, int],
    defaults: _Defaults,
    report: MlflowImport,
) -> None:
    """Set the aliases, and what is live, as MLflow has them."""
    reason = f"as in {report.source}"
    aliases = {key: str(value) for key, value in (registered.aliases or {}).items()}
    for alias, version in aliases.items():
        if version not in numbers:
            continue
        name = _alias(alias)
        if name != alias:
            report.renamed[f"{registered.name}@{alias}"] = name
        try:
            registry.set_alias(model_id, name, numbers[version], reason=reason)
        except (InvalidInputError, NotFoundError, ConflictError) as error:
            report.refused[f"{registered.name}@{alias}"] = str(error)
    live = aliases.get(defaults.live_alias) if defaults.live_alias else None
    if live is None and defaults.live_alias:
        staged = [
            str(version.version)
            for version in versions
            if getattr(version, "current_stage", None) == "Production"
        ]
        live = staged[-1] if staged else None
    # What somebody promoted here since stays, until MLflow says something else.
    known = registry.get_model(model_id=model_id).tags.get(_LIVE)
    if live in numbers and live != known:
        try:
            registry.promote(numbers[live], reason=reason)
            registry.tag_model(model_id, {_LIVE: live}, reason=reason)
        except ConflictError as error:
            report.refused[f"{registered.name}/{live}"] = str(error)


def _alias(alias: str) -> str:
    """Return an alias as it may be called here."""
    try:
        return fields.alias(alias)
    except InvalidInputError:
        return f"mlflow-{alias}"
