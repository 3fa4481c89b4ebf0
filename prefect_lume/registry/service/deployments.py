"""Deployments: stored, found, described, removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefect_lume.registry import chronicle, fields, repository
from prefect_lume.registry.changes import deployments as changes
from prefect_lume.registry.records import DeploymentRecord, Lineage, RegistryEvent
from prefect_lume.registry.service.base import ServiceBase


def _description(value: str) -> str:
    return fields.text("description", value, fields.DESCRIPTION_LENGTH, empty=True)


class DeploymentCalls(ServiceBase):
    """The calls of the service that are about deployments as they are."""

    def store_deployment(
        self,
        *,
        model_id: int,
        version: str,
        source: str,
        sha256: str,
        package_import_name: str,
        asset_dir: str | None = None,
        image: str | None = None,
        is_live: bool = True,
        entrypoints: Mapping[str, str] | None = None,
        lock: str | None = None,
        description: str = "",
        parent_deployment_id: int | None = None,
        tags: Mapping[str, str] | None = None,
        aliases: Iterable[str] = (),
        reason: str = "",
    ) -> int:
        """Store a version of a model. Once stored it never changes.

        Storing the version again with the same sha256 returns the deployment as it was
        stored first; the other arguments are then not looked at, but for ``is_live``.

        Args:
            model_id: The model.
            version: Unique within the model, 1 to 255 characters.
            source: Where the package comes from, as a URI.
            sha256: The hash of the source, 64 hexadecimal digits.
            package_import_name: The name to import the package by.
            asset_dir: The folder with its assets.
            image: The container image.
            is_live: Whether to make it the model's live deployment, as
                :meth:`promote` does.
            entrypoints: The flows that the package offers: flow name →
                ``module:attribute``.
            lock: The resolved environment, as the text of a conda-lock file.
            description: What is to be said of this release, up to 4,000 characters.
            parent_deployment_id: The deployment, of this or another model, that it was
                made from.
            tags: Key → value, what else to note of it.
            aliases: Names that point at it from now on (see :meth:`set_alias`).
            reason: Why, for the history.

        Returns:
            Its ``deployment_id``.

        Raises:
            NotFoundError: There is no such model or parent.
            ConflictError: The version is stored already, with another sha256; or it is
                retired and was to become live.
        """
        new = changes.NewDeployment(
            model_id=fields.integer("model_id", model_id),
            version=fields.text("version", version),
            source=fields.text("source", source, fields.SOURCE_LENGTH),
            sha256=fields.sha256("sha256", sha256),
            package_import_name=fields.text("package_import_name", package_import_name),
            asset_dir=fields.optional_text("asset_dir", asset_dir, fields.PATH_LENGTH),
            image=fields.optional_text("image", image, fields.PATH_LENGTH),
            is_live=fields.boolean("is_live", is_live),
            entrypoints=fields.entrypoints(entrypoints),
            lock=fields.lock(lock),
            description=_description(description),
            parent_deployment_id=fields.optional_integer(
                "parent_deployment_id", parent_deployment_id
            ),
            tags=fields.tags(tags),
            aliases=tuple(dict.fromkeys(map(fields.alias, aliases))),
        )
        return self._change(lambda tx: changes.store_deployment(tx, new), reason)

    def get_deployment(self, **criteria: Any) -> DeploymentRecord:
        """Return the one deployment that fits, with its model and its lock.

        Args:
            **criteria: Columns and their values: ``deployment_id``, ``model_id``,
                ``version``, ``deploy_date``, ``package_import_name``, ``asset_dir``,
                ``source``, ``sha256``, ``image``, ``is_live``, ``description``,
                ``retired``, ``parent_deployment_id``. Values are compared exactly;
                ``None`` finds what has no ``asset_dir``, ``image``, ``retired`` or
                ``parent_deployment_id``.

        Raises:
            NotFoundError: There is none.
            AmbiguousError: There are several.
        """
        return self._read(lambda c: repository.find_deployment(c, criteria))

    def get_deployments(self, **criteria: Any) -> list[DeploymentRecord]:
        """Return all that fit (see :meth:`get_deployment`), oldest first.

        They come without their locks. To look among many, or by more than equality:
        :meth:`search_deployments`.
        """
        return self._read(lambda c: repository.find_deployments(c, criteria))

    def get_latest_deployment(self, model_id: int) -> DeploymentRecord:
        """Return the deployment of a model that was stored last, live or not.

        Raises:
            NotFoundError: There is no such model, or it has no deployment.
        """
        number = fields.integer("model_id", model_id)
        return self._read(lambda c: repository.latest_deployment(c, number))

    def get_live_deployment(self, model_id: int) -> DeploymentRecord:
        """Return the live deployment of a model.

        Raises:
            NotFoundError: There is no such model, or none of its deployments is live.
        """
        number = fields.integer("model_id", model_id)
        return self._read(lambda c: repository.live_deployment(c, number))

    def get_lineage(self, deployment_id: int) -> Lineage:
        """Return what a deployment was made from, and what was made from it.

        Raises:
            NotFoundError: There is no such deployment.
        """
        number = fields.integer("deployment_id", deployment_id)
        return self._read(lambda c: chronicle.lineage(c, number))

    def describe_deployment(
        self, deployment_id: int, description: str, *, reason: str = ""
    ) -> RegistryEvent | None:
        """Say something else of a deployment.

        Args:
            deployment_id: The deployment.
            description: What is to be said of it, up to 4,000 characters.
            reason: Why, for the history.

        Returns:
            The event, or ``None`` if it was described so already.

        Raises:
            NotFoundError: There is no such deployment.
        """
        number = fields.integer("deployment_id", deployment_id)
        about = _description(description)
        return self._event(
            lambda tx: changes.describe_deployment(tx, number, about), reason
        )

    def delete_deployment(
        self, deployment_id: int, force: bool = False, *, reason: str = ""
    ) -> None:
        """Remove a deployment and the flows that point at it.

        Args:
            deployment_id: The deployment. Its number is never given out again.
            force: Whether to do so also while it is live or has aliases.
            reason: Why, for the history, which stays.

        Raises:
            NotFoundError: There is no such deployment.
            ConflictError: It is live or has aliases, or a flow that points at it takes
                part in a flow-of-flows (``force`` does not help against that).
        """
        number = fields.integer("deployment_id", deployment_id)
        self._change(lambda tx: changes.delete_deployment(tx, number, force), reason)
