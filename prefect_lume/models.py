"""Models as objects: the friendly face of the registry.

Example:
    >>> from prefect_lume.models import Model
    >>> model = Model.create_model(
    ...     author="Jackie Garrahan",
    ...     laboratory="slac",
    ...     facility="lcls",
    ...     beampath="cu_hxr",
    ...     description="test_model",
    ... )
    >>> model.deployments
    ()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefect_lume.config import Context, open_context
from prefect_lume.errors import PackageError
from prefect_lume.packages import PackageSource, build_sdist, inspect_source

if TYPE_CHECKING:
    from prefect_lume.credentials import LumeServices
    from prefect_lume.registry import DeploymentRecord, ModelRecord


class Model:
    """A scientific model of the registry, with its deployments.

    Make one with :meth:`create_model` or :meth:`get_model`.

    Attributes:
        record: The registry's row.
    """

    def __init__(self, record: ModelRecord, context: Context) -> None:
        self.record = record
        self._context = context

    def __repr__(self) -> str:
        return f"Model(model_id={self.model_id}, description={self.description!r})"

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
        """The model's deployments, oldest first."""
        service = self._context.model_db_service()
        return tuple(service.get_deployments(model_id=self.model_id))

    @property
    def live(self) -> DeploymentRecord:
        """The deployment that is live.

        Raises:
            NotFoundError: None is.
        """
        return self._context.model_db_service().get_live_deployment(self.model_id)

    def store_deployment(
        self,
        source_path: str | Path,
        project_name: str,
        *,
        image: str | None = None,
        asset_dir: str | None = None,
        is_live: bool = True,
    ) -> DeploymentRecord:
        """Register a version of the model from its package, with the package's flows.

        The package is read, never run. A directory is packed into an sdist first (the
        same files give the same bytes), kept in the context's packages folder, so that
        the deployment stays what it was when it was registered.

        Args:
            source_path: An sdist, a wheel or a source directory: path or ``file:`` URI.
            project_name: The project of the package's flows, which must exist.
            image: Container image; by default the package's own ``IMAGE``.
            asset_dir: Folder of the files that the model imports, if any.
            is_live: Whether this version becomes the model's live one.

        Returns:
            The deployment. Registering the same package again returns the first.

        Raises:
            PackageError: The source is not a model package; the message says why.
            ConflictError: The version is registered with another source.
            NotFoundError: There is no such project.
        """
        service = self._context.model_db_service()
        service.get_project(project_name)
        source = self._kept(inspect_source(source_path))
        if not source.flow_entrypoints:
            raise PackageError(
                f"{source.uri}: the package offers no flow. Name its flow or the "
                f"module of its flows in the entry point group 'orchestration': "
                f'"{source.import_name}.flow" = "{source.import_name}.flow".'
            )
        deployment_id = service.store_deployment(
            model_id=self.model_id,
            version=source.version,
            source=source.uri,
            sha256=source.sha256,
            package_import_name=source.import_name,
            asset_dir=asset_dir,
            image=image or source.image,
            is_live=is_live,
            entrypoints=dict(source.flow_entrypoints),
        )
        deployment = service.get_deployment(deployment_id=deployment_id)
        self._register_flows(deployment, project_name)
        return deployment

    def _kept(self, source: PackageSource) -> PackageSource:
        if source.kind != "directory":
            return source
        packed = build_sdist(source.path, self._context.packages_path / "sources")
        return inspect_source(packed)

    def _register_flows(self, deployment: DeploymentRecord, project_name: str) -> None:
        service = self._context.model_db_service()
        scheduling = self._context.scheduling_service()
        known = {
            flow.flow_name for flow in service.get_flows(project_name=project_name)
        }
        for flow_name in deployment.entrypoints:
            # A version that is not live leaves the flows of the live one alone.
            if deployment.is_live or flow_name not in known:
                scheduling.register_flow(
                    flow_name, project_name, deployment.deployment_id
                )
