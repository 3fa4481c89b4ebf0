"""A model with its deployments, runs and results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_lume.config import open_context
from prefect_lume.errors import ConflictError
from prefect_lume.models.runs import RunCalls
from prefect_lume.models.storing import Release, store
from prefect_lume.models.uses import uses_of_deployment

if TYPE_CHECKING:
    from prefect_lume.credentials import LumeServices
    from prefect_lume.registry import DeploymentRecord, ModelDBService


class Model(RunCalls):
    """A scientific model of the registry, with its deployments, runs and results.

    Make one with :meth:`create_model` or :meth:`get_model`.
    """

    @classmethod
    def create_model(
        cls,
        *,
        author: str,
        laboratory: str,
        facility: str,
        beampath: str,
        description: str,
        services: LumeServices | str | None = None,
    ) -> Model:
        """Register a model, or find the one whose five fields are the same.

        Args:
            author: Who wrote it.
            laboratory: Whose it is, for example ``"slac"``.
            facility: The machine it describes, for example ``"lcls"``.
            beampath: The part of the machine, for example ``"cu_hxr"``.
            description: What it does, in a line.
            services: The services Block, its name, or nothing for the default.

        Returns:
            The model.

        Raises:
            InvalidInputError: A field is empty, too long or holds a null byte.
            StorageError: The registry cannot be used.
        """
        context = open_context(services)
        service = context.model_db_service()
        model_id = service.store_model(
            author=author,
            laboratory=laboratory,
            facility=facility,
            beampath=beampath,
            description=description,
        )
        return cls(service.get_model(model_id=model_id), context)

    @classmethod
    def get_model(
        cls, services: LumeServices | str | None = None, **criteria: object
    ) -> Model:
        """Find one model by any of its columns, for example ``model_id=3``.

        Raises:
            NotFoundError: No model matches.
            AmbiguousError: Several do.
            InvalidInputError: A keyword is not a column.
        """
        context = open_context(services)
        return cls(context.model_db_service().get_model(**criteria), context)

    def store_deployment(
        self,
        source_path: str | Path,
        project_name: str,
        *,
        image: str | None = None,
        asset_dir: str | None = None,
        is_live: bool = True,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        aliases: Iterable[str] = (),
        parent_deployment_id: int | None = None,
        reason: str = "",
        registry: ModelDBService | None = None,
    ) -> DeploymentRecord:
        """Register a version of the model from its package, with the package's flows.

        The package is read, never run. A directory is packed into an sdist first (the
        same files give the same bytes), kept in the context's packages folder, so that
        the deployment stays what it was when it was registered. What is on a web
        server is fetched into that folder.

        Args:
            source_path: An sdist, a wheel or a source directory: path or ``file:`` URI;
                or the ``http(s)`` address of an sdist or wheel.
            project_name: The project of the package's flows, which must exist.
            image: Container image; by default the package's own ``IMAGE``.
            asset_dir: Folder of the files that the model imports, if any.
            is_live: Whether this version becomes the model's live one.
            description: What is to be said of this release.
            tags: Key → value, what else to note of it.
            aliases: Names that point at it from now on.
            parent_deployment_id: The deployment that it was made from.
            reason: Why, for the history.
            registry: The registry's service to use, in place of the context's own.

        Returns:
            The deployment. Registering the same package again returns the first.

        Raises:
            PackageError: The source is not a model package; the message says why.
            ConflictError: The version is registered with another source.
            NotFoundError: There is no such project.
        """
        release = Release(
            image=image,
            asset_dir=asset_dir,
            is_live=is_live,
            description=description,
            tags=tags,
            aliases=aliases,
            parent_deployment_id=parent_deployment_id,
            reason=reason,
        )
        service = registry or self._registry
        return store(
            self._context, service, self.model_id, source_path, project_name, release
        )

    def delete_deployment(
        self, deployment_id: int, *, force: bool = False, reason: str = ""
    ) -> None:
        """Remove a deployment of the model, unless something refers to it.

        Args:
            deployment_id: The deployment.
            force: Whether to do so also if it is live, has aliases, or made results.
            reason: Why, for the history, which stays.

        Raises:
            NotFoundError: The model has no such deployment.
            ConflictError: It is live or has aliases, results or runs; or one of its
                flows takes part in a flow-of-flows, against which force does not help.
        """
        self._registry.get_deployment(
            model_id=self.model_id, deployment_id=deployment_id
        )
        used = uses_of_deployment(self._context, deployment_id)
        if used and not force:
            raise ConflictError(
                f"Deployment {deployment_id} has {used}, which would name a deployment "
                f"that is gone. Retire it, or say force=True."
            )
        self._registry.delete_deployment(deployment_id, force, reason=reason)
