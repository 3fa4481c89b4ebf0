"""Settings from the environment: `PREFECT_LUME_HOME`, `PREFECT_LUME_SERVICES`..."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from prefect_lume.errors import ConfigurationError


class LumeSettings(BaseSettings):
    """What the environment says. Every field is optional.

    Example:
        >>> LumeSettings(blob_threshold=1024).blob_threshold
        1024
    """

    model_config = SettingsConfigDict(env_prefix="PREFECT_LUME_", extra="ignore")

    home: Path | None = Field(
        default=None,
        description=(
            "Folder of the embedded databases, files and unpacked packages. Empty: "
            "`lume` in Prefect's home."
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
    blob_threshold: int = Field(
        default=65_536,
        ge=256,
        le=8_388_608,
        description="Bytes from which a value leaves its result document as a blob.",
    )

    @classmethod
    def load(cls) -> LumeSettings:
        """Read the environment.

        Raises:
            ConfigurationError: A variable holds a value that is not allowed.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = "; ".join(
                f"PREFECT_LUME_{str(item['loc'][0]).upper()}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False)
            )
            raise ConfigurationError(
                f"The environment cannot be used: {problems}."
            ) from None

    def home_path(self) -> Path:
        """Return the folder of everything embedded (it may not exist yet)."""
        if self.home is not None:
            return self.home.expanduser().absolute()
        # Late, as reading Prefect's settings imports Prefect.
        from prefect.settings import get_current_settings

        return get_current_settings().home / "lume"
