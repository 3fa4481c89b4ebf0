"""A model with its deployments, runs and results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_lume.config import Context, open_context
from prefect_lume.errors import ConflictError, InvalidInputError
from prefect_lume.models.storing import Release, store
from prefect_lume.models.uses import uses_of_deployment

if TYPE_CHECKING:
    import pandas as pd
    from prefect.client.schemas.objects import FlowRun

    from prefect_lume.credentials import LumeServices
    from prefect_lume.models.running import Ran
    from prefect_lume.registry import DeploymentRecord, ModelDBService, ModelRecord
    from prefect_lume.results import Result


class Model:
    """A scientific model of the registry, with its deployments, runs and results.

    Make one with :meth:`create_model` or :meth:`get_model`.

    Attributes:
        record: The registry's row.
    """

    def __init__(self, record: ModelRecord, context: Context) -> None:
        self.record = record
        self._context = context
        self._loaded: DeploymentRecord | None = None

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
    def deployment(self) -> DeploymentRecord:
        """The deployment that the model runs: the loaded one, else the live one.

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
        make_importable: bool = False,
    ) -> DeploymentRecord:
        """Choose the deployment that :meth:`run` and :meth:`get_results` use.

        Args:
            version: Its version.
            deployment_id: Or its number.
            alias: Or an alias of the model, ``"live"`` or ``"latest"``. With none of
                the three: the one that is live now, also if another one becomes so.
            make_importable: Whether to make its package importable in this process at
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
        given = [item for item in (version, deployment_id, alias) if item is not None]
        if len(given) > 1:
            raise InvalidInputError(
                "Give one of version, deployment_id and alias, not several."
            )
        if version is not None:
            found = self._registry.get_deployment(
                model_id=self.model_id, version=version
            )
        elif deployment_id is not None:
            found = self._registry.get_deployment(
                model_id=self.model_id, deployment_id=deployment_id
            )
        else:
            found = self._registry.get_deployment_by_alias(
                self.model_id, alias or "live"
            )
        if make_importable:
            from prefect_lume.composer import packages

            packages.make_importable(found, self._context.packages_path)
        self._loaded = found
        return found

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        flow_name: str | None = None,
        prefect_deployment: str | None = None,
        timeout: float | None = None,
    ) -> FlowRun:
        """Run a flow of the loaded deployment (else the live one), and wait for it.

        Args:
            parameters: The flow's parameters, by name.
            flow_name: Which flow, if the deployment offers several.
            prefect_deployment: The Prefect deployment, ``flow/deployment``, that runs
                it on its work pool; left out, it runs in this process.
            timeout: Seconds to wait for a Prefect deployment; then the run is returned
                as it is. Left out: until it has ended.

        Returns:
            Prefect's flow run, whatever its state: a run that failed raises nothing.

        Raises:
            NotFoundError: There is no such flow or Prefect deployment, or no live
                deployment.
            InvalidInputError: The parameters do not fit, or several flows are offered.
            PackageError: The package cannot be imported.
        """
        return self._run(
            parameters, frozenset(), flow_name, prefect_deployment, timeout
        ).run

    def run_and_return(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        task_name: str | None = None,
        flow_name: str | None = None,
        prefect_deployment: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run a flow as :meth:`run` does, and return what it, or a task, returned.

        Args:
            parameters: The flow's parameters, by name.
            task_name: The task whose result is wanted; left out, the flow's own.
            flow_name: Which flow, if the deployment offers several.
            prefect_deployment: The Prefect deployment that runs it.
            timeout: Seconds to wait for a Prefect deployment.

        Returns:
            The result.

        Raises:
            FlowRunError: The run did not complete.
            NotFoundError: No such task completed; the message lists those that did.
            AmbiguousError: Several runs of that task completed.
            DecodingError: The result was not kept in a form that can be read.
        """
        kept = frozenset() if task_name is None else frozenset([task_name])
        ran = self._run(parameters, kept, flow_name, prefect_deployment, timeout)
        return ran.value(task_name)

    def _run(
        self,
        parameters: Mapping[str, Any] | None,
        kept: frozenset[str],
        flow_name: str | None,
        prefect_deployment: str | None,
        timeout: float | None,
    ) -> Ran:
        from prefect_lume.models import running

        if prefect_deployment is not None:
            return running.run_elsewhere(
                prefect_deployment, parameters or {}, kept, timeout
            )
        deployment = self.deployment
        name = running.flow_of(deployment, flow_name)
        return running.run_in_process(
            self._context, deployment, name, parameters or {}, kept
        )

    def get_results(
        self,
        query: Mapping[str, Any] | None = None,
        *,
        all_deployments: bool = False,
        project_name: str | None = None,
        **options: Any,
    ) -> list[Result]:
        """Return result documents that the model's deployments stored, by one query.

        Args:
            query: Conditions on the documents, as for ``results.find``.
            all_deployments: Whether to return those of all deployments of the model,
                not only of the loaded (else the live) one.
            project_name: The project they were stored under. Left out: the one of the
                flows that the deployment serves.
            **options: ``sort``, ``skip``, ``limit``, ``projection`` and what else
                ``results.find`` takes.

        Raises:
            NotFoundError: No deployment is loaded, and none is live.
            InvalidInputError: The project cannot be told.
            QueryError: The query holds what the query language has not.
        """
        project, conditions = self._asked(query, all_deployments, project_name)
        service = self._context.results_db_service()
        return list(service.find(project, conditions, **options))

    def get_results_df(
        self,
        query: Mapping[str, Any] | None = None,
        *,
        all_deployments: bool = False,
        project_name: str | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Return the same as :meth:`get_results` as a table, by one query.

        Args:
            query: Conditions on the documents.
            all_deployments: Whether to return those of all deployments of the model.
            project_name: The project they were stored under.
            **options: What else ``results.load_dataframe`` takes.

        Raises:
            NotFoundError: No deployment is loaded, and none is live.
            InvalidInputError: The project cannot be told.
            MissingDependencyError: pandas is not installed.
        """
        project, conditions = self._asked(query, all_deployments, project_name)
        service = self._context.results_db_service()
        return service.load_dataframe(project, query=conditions, **options)

    def _asked(
        self,
        query: Mapping[str, Any] | None,
        all_deployments: bool,
        project_name: str | None,
    ) -> tuple[str, dict[str, Any]]:
        chosen = self.deployments if all_deployments else (self.deployment,)
        numbers = [deployment.deployment_id for deployment in chosen]
        mine: dict[str, Any] = {"deployment_id": {"$in": numbers}}
        conditions = {"$and": [mine, dict(query)]} if query else mine
        if project_name is None:
            served = {flow.project_name for item in chosen for flow in item.flows}
            if len(served) != 1:
                known = ", ".join(sorted(map(repr, served))) or "none"
                raise InvalidInputError(
                    f"Say by project_name where the results are: the flows of these "
                    f"deployments belong to {len(served)} projects ({known})."
                )
            project_name = served.pop()
        return project_name, conditions

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
