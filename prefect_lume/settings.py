"""Settings from the environment: `PREFECT_LUME_HOME`, `PREFECT_LUME_SERVICES`...

What the environment does not say, the table `[tool.prefect-lume]` of the nearest
`pyproject.toml` may, under the fields' names.
"""

from __future__ import annotations

import json
import os
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
)

from prefect_lume.errors import ConfigurationError, name_list, suggestion
from prefect_lume.pipelines.configured import StorageChoice

_PREFIX: Final = "PREFECT_LUME_"
_TABLE: Final = ("tool", "prefect-lume")
_STORAGE: Final = "pipelines_results_storage"


class LumeSettings(BaseSettings):
    """What the environment and `pyproject.toml` say. Every field is optional.

    Example:
        >>> LumeSettings(blob_threshold=1024).blob_threshold
        1024
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        extra="ignore",
        pyproject_toml_table_header=_TABLE,
        pyproject_toml_depth=64,
    )

    home: Path | None = Field(
        default=None,
        description=(
            "Folder of the embedded databases, files and unpacked packages. Empty: "
            "`lume` in Prefect's home. In `pyproject.toml` relative to its folder."
        ),
    )
    services: str = Field(
        default="",
        description=(
            "Name of the LumeServices Block that calls use which name none. Empty: "
            "the embedded default."
        ),
    )
    deployment_id: int | None = Field(
        default=None,
        ge=1,
        description="Registry id of the deployment that this process runs.",
    )
    actor: str = Field(
        default="",
        max_length=200,
        description=(
            "Who changes the registry, for its history. Empty: the user and the "
            "machine. A flow run is named besides."
        ),
    )
    blob_threshold: int = Field(
        default=65_536,
        ge=256,
        le=8_388_608,
        description="Bytes from which a value leaves its result document as a blob.",
    )
    record: bool = Field(
        default=True,
        description=(
            "Whether runs of composed flows, and of their subflows on work pools, are "
            "recorded as pipeline executions by their own process."
        ),
    )
    pipelines_results_storage: Annotated[StorageChoice | None, NoDecode] = Field(
        default=None,
        description=(
            "Storage of pipelines' executions and results: the Python path of its "
            "class, or a pair of that and its keyword arguments (in the environment as "
            "JSON). Also `orm`, `mongodb` or `memory`. Empty: the registry's database."
        ),
    )

    @field_validator(_STORAGE, mode="before")
    @classmethod
    def _read_storage(cls, value: Any) -> Any:
        if value is None or isinstance(value, StorageChoice):
            return value
        return StorageChoice.of(value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings are read from; the first one wins."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _Environment(settings_cls), _Pyproject(settings_cls)

    @classmethod
    def load(cls) -> LumeSettings:
        """Read the environment and `pyproject.toml`.

        Raises:
            ConfigurationError: One of them holds a value that is not allowed.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = "; ".join(
                f"{_named(str(item['loc'][0]))}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False)
            )
            raise ConfigurationError(
                f"The settings cannot be used: {problems}."
            ) from None

    def home_path(self) -> Path:
        """Return the folder of everything embedded (it may not exist yet)."""
        if self.home is not None:
            return self.home.expanduser().absolute()
        # Late, as reading Prefect's settings imports Prefect.
        from prefect.settings import get_current_settings

        return get_current_settings().home / "lume"


def _named(field: str) -> str:
    """Return the name by which a setting was given."""
    variable = f"{_PREFIX}{field.upper()}"
    if variable in {name.upper() for name in os.environ}:
        return variable
    return f"{field!r} in [tool.prefect-lume] of pyproject.toml"


class _Environment(EnvSettingsSource):
    """The environment, which remembers that a storage was named by it."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        told = found.pop(_STORAGE, None)
        if told:
            variable = f"{_PREFIX}{_STORAGE.upper()}"
            source = f"the environment variable {variable}"
            found[_STORAGE] = StorageChoice.of(_unpacked(told, source), source)
        return found


def _unpacked(text: str, source: str) -> Any:
    """Return the pair that a variable holds as JSON; another text as it is."""
    if not text.lstrip().startswith("["):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        # Neither the text nor the cause, which may hold a password.
        at = getattr(error, "pos", 0)
        raise ConfigurationError(
            f"The storage of pipelines named by {source} is no JSON: character {at} is "
            f'not allowed there. A pair looks so: ["my_package.MyStorage", '
            f'{{"name": "value"}}].'
        ) from None


class _Pyproject(PyprojectTomlConfigSettingsSource):
    """The table `[tool.prefect-lume]` of the nearest `pyproject.toml`."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        try:
            super().__init__(settings_cls)
        except FileNotFoundError:
            # The working directory was removed.
            self.init_kwargs = {}

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        path = Path(file_path)
        try:
            stat = path.stat()
            table = _table_of(path, stat.st_mtime_ns, stat.st_size)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(
                f"{path} cannot be read for its table [tool.prefect-lume]: {error}"
            ) from error
        return {"tool": {"prefect-lume": _checked(path, table)}}


@lru_cache(maxsize=8)
def _table_of(path: Path, _changed: int, _size: int) -> dict[str, Any]:
    """Return the table as it is in the file, which is read when it has changed."""
    with path.open("rb") as stream:
        data: Any = tomllib.load(stream)
    for name in _TABLE:
        data = data.get(name, {}) if isinstance(data, dict) else {}
    return data if isinstance(data, dict) else {}


def _checked(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    known = LumeSettings.model_fields
    for name in table.keys() - known.keys():
        raise ConfigurationError(
            f"{path} has {name!r} in [tool.prefect-lume], which is no setting."
            f"{suggestion(name, known)} Settings: {name_list(known)}."
        )
    found = dict(table)
    if _STORAGE in found:
        source = f"[tool.prefect-lume] in {path}"
        found[_STORAGE] = StorageChoice.of(found[_STORAGE], source)
    if isinstance(found.get("home"), str):
        found["home"] = path.parent / Path(found["home"]).expanduser()
    return found
