"""A model as the registry has it, and the deployment that it works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_lume.config import Context
from prefect_lume.errors import InvalidInputError

if TYPE_CHECKING:
    from prefect_lume.registry import DeploymentRecord, ModelDBService, ModelRecord


class ModelBase:
    """A model of the registry, and the deployment that it works with.

    Attributes:
        record: The registry's row.
    """

    def __init__(self, record: ModelRecord, context: Context) -> None:
        self.record = record
        self._context = context
        self._loaded: DeploymentRecord | None = None

    def __repr__(self) -> str:
        return f"Model(model_id={self.model_id}, description={self.description!r})"

    @property
    def _registry(self) -> ModelDBService:
        return self._context.model_db_service()

    @property
    def model_id(self) -> int:
        """The registry's id of the model."""
        return self.record.model_id

    @property
    def description(self) -> str:
        """What the model does, in a line."""
        return self.record.description

    @property
    def deployments(self) -> tuple[DeploymentRecord, ...]:
        """The model's deployments, oldest first, without their locks."""
        return tuple(self._registry.get_deployments(model_id=self.model_id))

    @property
    def live(self) -> DeploymentRecord:
        """The deployment that is live.

        Raises:
            NotFoundError: None is.
        """
        return self._registry.get_live_deployment(self.model_id)

    @property
    def latest(self) -> DeploymentRecord:
        """The deployment that was stored last, live or not.

        Raises:
            NotFoundError: There is none.
        """
        return self._registry.get_latest_deployment(self.model_id)

    @property
    def aliases(self) -> dict[str, DeploymentRecord]:
        """The aliases that were set, sorted, and the deployments they point at."""
        found = {
            alias: deployment
            for deployment in self.deployments
            for alias in deployment.aliases
        }
        return dict(sorted(found.items()))

    @property
    def deployment(self) -> DeploymentRecord:
        """The deployment that the model works with: the loaded one, else the live one.

        Raises:
            NotFoundError: None is loaded, and none is live.
        """
        return self._loaded or self.live

    def load_deployment(
        self,
        version: str | None = None,
        *,
        deployment_id: int | None = None,
        alias: str | None = None,
        load_artifacts: bool = False,
    ) -> DeploymentRecord:
        """Choose the deployment that :meth:`run` and :meth:`get_results` work with.

        It stays chosen, also if another one becomes live.

        Args:
            version: Its version.
            deployment_id: Or its number.
            alias: Or an alias of the model, ``"live"`` or ``"latest"``. With none of
                the three: the one that is live now.
            load_artifacts: Whether to make its package importable in this process at
                once: installed already, or its source verified by its hash and
                unpacked. :meth:`run` does so when it needs it.

        Returns:
            The deployment, also as :attr:`deployment`.

        Raises:
            NotFoundError: The model has no such deployment.
            InvalidInputError: Several of the three were given.
            PackageError: Its package cannot be imported.
            IntegrityError: Its source is not the one that was registered.
        """
        found = self._find(version, deployment_id, alias)
        if load_artifacts:
            from prefect_lume.composer.packages import make_importable

            make_importable(found, self._context.packages_path)
        self._loaded = found
        return found

    def _find(
        self, version: str | None, deployment_id: int | None, alias: str | None
    ) -> DeploymentRecord:
        given = {"version": version, "deployment_id": deployment_id}
        asked = {name: value for name, value in given.items() if value is not None}
        if len(asked) + (alias is not None) > 1:
            raise InvalidInputError(
                "Give one of version, deployment_id and alias, not several."
            )
        if asked:
            return self._registry.get_deployment(model_id=self.model_id, **asked)
        return self._registry.get_deployment_by_alias(self.model_id, alias or "live")
