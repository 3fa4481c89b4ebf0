"""The one door to the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine

from prefect_lume.registry import changes, compositions, fields, repository
from prefect_lume.registry.records import (
    DeploymentRecord,
    FlowOfFlowsRecord,
    FlowRecord,
    ModelRecord,
    ProjectRecord,
    SubflowEntry,
)
from prefect_lume.registry.tables import metadata
from prefect_lume.registry.transactions import read, write
from prefect_lume.storage.sql import safe_url, translated


class ModelDBService:
    """The registry of models, deployments, projects, flows and flow-of-flows.

    Every call is one transaction: it happens as a whole or not at all, and is repeated
    when the database reports a deadlock. A service may be shared between threads.

    Any call may raise, besides what its description names: ``SchemaError`` when the
    tables are missing, ``PermissionDeniedError`` when the database user may not do it,
    ``ConnectionFailedError`` when the server cannot be reached, and
    ``InvalidInputError`` for a value that the database could not hold unchanged.

    Args:
        engine: The database, from :func:`prefect_lume.storage.sql.get_engine`.
        migrate: What :meth:`apply_schema` calls; by default the registry's tables are
            created where they are missing.

    Example:
        >>> from prefect_lume.storage.sql import get_engine
        >>> registry = ModelDBService(get_engine("sqlite://"))
        >>> registry.apply_schema()
        >>> model_id = registry.store_model(
        ...     author="Jackie Garrahan", laboratory="slac", facility="lcls",
        ...     beampath="cu_hxr", description="test_model",
        ... )
        >>> registry.get_model(model_id=model_id).beampath
        'cu_hxr'
        >>> registry.close()
    """

    def __init__(
        self, engine: Engine, *, migrate: Callable[[Engine], None] | None = None
    ) -> None:
        self._engine = engine
        self._migrate = migrate

    def __repr__(self) -> str:
        return f"ModelDBService({safe_url(self._engine)!r})"

    def apply_schema(self) -> None:
        """Create the tables, or bring them to the revision of this code."""
        with translated(self._engine):
            (self._migrate or metadata.create_all)(self._engine)

    def close(self) -> None:
        """Close the pooled connections. The service may be used again."""
        self._engine.dispose()

    def store_model(
        self,
        *,
        author: str,
        laboratory: str,
        facility: str,
        beampath: str,
        description: str,
    ) -> int:
        """Store a model, or find the one with the same five fields.

        Args:
            author: Who made it; like the others, 1 to 255 characters.
            laboratory: For example ``slac``.
            facility: For example ``lcls``.
            beampath: For example ``cu_hxr``.
            description: What it is.

        Returns:
            Its ``model_id``.
        """
        values = {
            "author": author,
            "laboratory": laboratory,
            "facility": facility,
            "beampath": beampath,
            "description": description,
        }
        checked = {name: fields.text(name, value) for name, value in values.items()}
        return write(self._engine, lambda s: changes.store_model(s, checked))

    def get_model(self, **criteria: Any) -> ModelRecord:
        """Return the one model that fits.

        Args:
            **criteria: Columns and their values: ``model_id``, ``author``,
                ``laboratory``, ``facility``, ``beampath``, ``description``,
                ``created``. Values are compared exactly.

        Raises:
            NotFoundError: There is none.
            AmbiguousError: There are several.
        """
        return read(self._engine, lambda s: repository.find_model(s, criteria))

    def get_models(self, **criteria: Any) -> list[ModelRecord]:
        """Return all models that fit (see :meth:`get_model`), oldest first."""
        return read(self._engine, lambda s: repository.find_models(s, criteria))

    def delete_model(self, model_id: int, force: bool = False) -> None:
        """Remove a model with its deployments and the flows that point at them.

        Args:
            model_id: The model.
            force: Whether to do so also while one of the deployments is live.

        Raises:
            NotFoundError: There is no such model.
            ConflictError: A deployment is live, or a flow takes part in a
                flow-of-flows (``force`` does not help against that).
        """
        number = fields.integer("model_id", model_id)
        write(self._engine, lambda s: changes.delete_model(s, number, force))

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
                :meth:`set_live` does.
            entrypoints: The flows that the package offers: flow name →
                ``module:attribute``.
            lock: The resolved environment, as the text of a conda-lock file.

        Returns:
            Its ``deployment_id``.

        Raises:
            NotFoundError: There is no such model.
            ConflictError: The version is stored already, with another sha256.
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
        )
        return write(self._engine, lambda s: changes.store_deployment(s, new))

    def set_live(self, deployment_id: int) -> None:
        """Make a deployment the live one of its model.

        In the same transaction the model's flows that this deployment offers (by its
        ``entrypoints``) point at it from now on. Making an older one live again takes
        back a release.

        Raises:
            NotFoundError: There is no such deployment.
        """
        number = fields.integer("deployment_id", deployment_id)
        write(self._engine, lambda s: changes.set_live(s, number))

    def get_deployment(self, **criteria: Any) -> DeploymentRecord:
        """Return the one deployment that fits, with its model.

        Args:
            **criteria: Columns and their values: ``deployment_id``, ``model_id``,
                ``version``, ``deploy_date``, ``package_import_name``, ``asset_dir``,
                ``source``, ``sha256``, ``image``, ``is_live``. Values are compared
                exactly; ``None`` finds what has no ``asset_dir`` or ``image``.

        Raises:
            NotFoundError: There is none.
            AmbiguousError: There are several.
        """
        return read(self._engine, lambda s: repository.find_deployment(s, criteria))

    def get_deployments(self, **criteria: Any) -> list[DeploymentRecord]:
        """Return all that fit (see :meth:`get_deployment`), oldest first."""
        return read(self._engine, lambda s: repository.find_deployments(s, criteria))

    def get_latest_deployment(self, model_id: int) -> DeploymentRecord:
        """Return the deployment of a model that was stored last, live or not.

        Raises:
            NotFoundError: There is no such model, or it has no deployment.
        """
        number = fields.integer("model_id", model_id)
        return read(self._engine, lambda s: repository.latest_deployment(s, number))

    def get_live_deployment(self, model_id: int) -> DeploymentRecord:
        """Return the live deployment of a model.

        Raises:
            NotFoundError: There is no such model, or none of its deployments is live.
        """
        number = fields.integer("model_id", model_id)
        return read(self._engine, lambda s: repository.live_deployment(s, number))

    def delete_deployment(self, deployment_id: int, force: bool = False) -> None:
        """Remove a deployment and the flows that point at it.

        Args:
            deployment_id: The deployment. Its number is never given out again.
            force: Whether to do so also while it is live.

        Raises:
            NotFoundError: There is no such deployment.
            ConflictError: It is live, or a flow that points at it takes part in a
                flow-of-flows (``force`` does not help against that).
        """
        number = fields.integer("deployment_id", deployment_id)
        write(self._engine, lambda s: changes.delete_deployment(s, number, force))

    def store_project(self, project_name: str, description: str = "") -> str:
        """Store a project. A known one gets the description, unless that is empty.

        Args:
            project_name: Its name, 1 to 255 characters.
            description: What it is for.

        Returns:
            Its name.
        """
        name = fields.text("project_name", project_name)
        about = fields.text(
            "description", description, fields.SOURCE_LENGTH, empty=True
        )
        return write(self._engine, lambda s: changes.store_project(s, name, about))

    def get_project(self, project_name: str) -> ProjectRecord:
        """Return a project by its name.

        Raises:
            NotFoundError: There is none of that name.
        """
        name = fields.text("project_name", project_name)
        return read(self._engine, lambda s: repository.find_project(s, name))

    def get_projects(self) -> list[ProjectRecord]:
        """Return all projects, by name."""
        return read(self._engine, repository.find_projects)

    def store_flow(
        self,
        *,
        flow_id: str,
        flow_name: str,
        project_name: str,
        deployment_id: int | None = None,
    ) -> str:
        """Store a flow, or point a known one at another deployment of its model.

        Args:
            flow_id: Prefect's id of the flow, at most 36 characters.
            flow_name: Its name, unique within the project.
            project_name: A project that the registry knows.
            deployment_id: The deployment that serves the flow. Left out, a known flow
                keeps the one it has.

        Returns:
            The flow's id.

        Raises:
            NotFoundError: There is no such project or deployment.
            ConflictError: The id belongs to a flow of another name or project, the
                name to a flow of another id, or the flow to another model.
        """
        identifier = fields.text("flow_id", flow_id, fields.FLOW_ID_LENGTH)
        name = fields.text("flow_name", flow_name)
        project = fields.text("project_name", project_name)
        target = fields.optional_integer("deployment_id", deployment_id)
        values = identifier, name, project, target
        return write(self._engine, lambda s: changes.store_flow(s, *values))

    def get_flow(self, **criteria: Any) -> FlowRecord:
        """Return the one flow that fits, with its project and deployment.

        Args:
            **criteria: Columns and their values: ``flow_id``, ``flow_name``,
                ``project_name``, ``deployment_id``, ``created``. Values are compared
                exactly; ``deployment_id=None`` finds flows without one.

        Raises:
            NotFoundError: There is none.
            AmbiguousError: There are several.
        """
        return read(self._engine, lambda s: repository.find_flow(s, criteria))

    def get_flows(self, **criteria: Any) -> list[FlowRecord]:
        """Return all flows that fit (see :meth:`get_flow`), by project and name."""
        return read(self._engine, lambda s: repository.find_flows(s, criteria))

    def delete_flow(self, flow_id: str) -> None:
        """Remove a flow; of a flow-of-flows, the parent with its rows of subflows.

        Raises:
            NotFoundError: There is no such flow.
            ConflictError: It takes part in a flow-of-flows.
        """
        identifier = fields.text("flow_id", flow_id, fields.FLOW_ID_LENGTH)
        write(self._engine, lambda s: changes.delete_flow(s, identifier))

    def store_flow_of_flows(
        self,
        *,
        parent_flow_id: str,
        parent_flow_name: str,
        project_name: str,
        subflows: Sequence[SubflowEntry],
        composition: Mapping[str, Any] | None = None,
    ) -> str:
        """Store a flow-of-flows: the parent and all its subflows, or nothing.

        Storing an equal one again changes nothing; another one takes its place.

        Args:
            parent_flow_id: Prefect's id of the parent, at most 36 characters.
            parent_flow_name: The parent's name, unique within the project.
            project_name: A project that the registry knows.
            subflows: At least one, each of a flow that the registry knows.
            composition: What to keep beside them, as plain JSON data.

        Returns:
            The parent's id.

        Raises:
            NotFoundError: There is no such project, or no such flow for a subflow.
            ConflictError: The parent's id or name belongs to another flow, or to one
                that a deployment serves.
            InvalidInputError: Two subflows have one name, a position is below 1, the
                parent would contain itself, or a value has no JSON form.
        """
        identifier = fields.text(
            "parent_flow_id", parent_flow_id, fields.FLOW_ID_LENGTH
        )
        name = fields.text("parent_flow_name", parent_flow_name)
        project = fields.text("project_name", project_name)
        entries = compositions.checked(subflows)
        extras = fields.json_object("composition", composition or {})
        values = identifier, name, project, entries, extras
        return write(
            self._engine, lambda s: compositions.store_flow_of_flows(s, *values)
        )

    def get_flow_of_flows(
        self,
        *,
        parent_flow_id: str | None = None,
        flow_name: str | None = None,
        project_name: str | None = None,
    ) -> FlowOfFlowsRecord:
        """Return the flow-of-flows with this parent, with its subflows in order.

        Raises:
            NotFoundError: There is none.
            AmbiguousError: There are several.
            InvalidInputError: All three were left out.
        """
        asked = parent_flow_id, flow_name, project_name
        return read(self._engine, lambda s: repository.find_flow_of_flows(s, *asked))
