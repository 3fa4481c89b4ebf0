"""The context: engines, stores and services made from one LumeServices Block."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prefect.blocks.core import Block
from prefect.filesystems import LocalFileSystem, WritableFileSystem
from sqlalchemy import Engine

from prefect_lume import migrations
from prefect_lume.config.announcing import actor, announce
from prefect_lume.config.scheduling import SchedulingService
from prefect_lume.credentials import LumeServices, MySQLCredentials
from prefect_lume.errors import ConfigurationError, LumeError
from prefect_lume.settings import LumeSettings
from prefect_lume.storage import sql

if TYPE_CHECKING:
    from prefect_lume.pipelines import PipelineStorage
    from prefect_lume.registry import ModelDBService
    from prefect_lume.results import ResultsService
    from prefect_lume.results.stores import DBService

#: The embedded database's file, in the embedded folder.
EMBEDDED_DATABASE = "lume.db"


@dataclass(frozen=True)
class ServiceStatus:
    """How one service of a context is.

    Attributes:
        service: ``"registry"``, ``"results"`` or ``"files"``.
        where: Its address, without any secret.
        ok: Whether it can be used.
        detail: What it is, or in one line what is wrong.
    """

    service: str
    where: str
    ok: bool
    detail: str


class Context:
    """Every service of one LumeServices Block, made when it is first used.

    A context is safe to share between threads. Engines and clients belong to the
    process, not to the context, so that many contexts of one Block share one pool.

    Args:
        services: The Block. Empty fields mean the embedded default.
        settings: What the environment says; read when left out.
    """

    def __init__(
        self, services: LumeServices | None = None, settings: LumeSettings | None = None
    ) -> None:
        self.services = services or LumeServices()
        self.settings = settings or LumeSettings.load()
        self._made: dict[str, Any] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the services. The process's pools stay open for other contexts."""
        with self._lock:
            self._made.clear()

    @property
    def home(self) -> Path:
        """The folder of everything embedded."""
        if self.services.home:
            return Path(self.services.home).expanduser().absolute()
        return self.settings.home_path()

    @property
    def packages_path(self) -> Path:
        """The folder into which model packages are unpacked."""
        return self.home / "packages"

    def _once(self, name: str, make: Any) -> Any:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    def _sql_engine(self, credentials: MySQLCredentials | None) -> Engine:
        """Return an engine whose schema is the code's; the embedded one is migrated."""
        if credentials is not None:
            engine = credentials.get_engine()
            migrations.ensure(engine)
            return engine
        engine = self.embedded_engine()
        migrations.upgrade(engine)
        return engine

    def embedded_engine(self) -> Engine:
        """Return the engine of the embedded database, whatever its tables are."""
        return sql.get_engine(f"sqlite:///{self.home / EMBEDDED_DATABASE}")

    def model_db_service(self) -> ModelDBService:
        """Return the model registry's service.

        Raises:
            StorageError: The database cannot be used; the message says why.
            SchemaError: Its tables are missing or of another revision.
        """

        def make() -> ModelDBService:
            from prefect_lume.registry import ModelDBService

            return ModelDBService(
                self._sql_engine(self.services.registry),
                migrate=migrations.upgrade,
                actor=lambda: actor(self.settings.actor),
                on_change=announce,
            )

        service: ModelDBService = self._once("registry", make)
        return service

    def results_db_service(self) -> ResultsService:
        """Return the results database's service.

        Raises:
            ConfigurationError: The Block names two results databases.
            StorageError: The database cannot be used; the message says why.
        """

        def make() -> ResultsService:
            from prefect_lume.results import ResultsService

            return ResultsService(
                self._results_store(), blob_threshold=self.settings.blob_threshold
            )

        service: ResultsService = self._once("results", make)
        return service

    def _results_store(self) -> DBService:
        from prefect_lume.results.stores import MongoDBService, SQLDBService

        mongodb, in_sql = self.services.results_mongodb, self.services.results_sql
        if mongodb is not None and in_sql is not None:
            raise ConfigurationError(
                "The LumeServices Block names two results databases, 'results_mongodb' "
                "and 'results_sql': keep one of them."
            )
        if mongodb is not None:
            return MongoDBService(mongodb.get_database)
        return SQLDBService(self._sql_engine(in_sql))

    def pipelines_engine(self) -> Engine:
        """Return the engine of the database that holds the registry.

        Pipelines are recorded beside it unless another storage is set.

        Raises:
            StorageError: The database cannot be used; the message says why.
            SchemaError: Its tables are missing or of another revision.
        """
        # A forked child needs an engine of its own, hence one for each process.
        engine: Engine = self._once(
            f"pipelines engine {os.getpid()}",
            lambda: self._sql_engine(self.services.registry),
        )
        return engine

    def pipeline_storage(self) -> PipelineStorage:
        """Return the storage of pipelines' executions and results.

        It is what the setting ``pipelines_results_storage`` names, else the database
        of the registry.

        Raises:
            ConfigurationError: The setting does not name a storage that can be made.
            StorageError: The database cannot be used; the message says why.
            SchemaError: Its tables are missing or of another revision.
        """
        from prefect_lume.pipelines.configured import DEFAULT, make_storage

        choice = self.settings.pipelines_results_storage or DEFAULT
        storage: PipelineStorage = self._once(
            f"pipelines {os.getpid()}", lambda: make_storage(choice, self)
        )
        return storage

    def forget_pipeline_storage(self) -> None:
        """Let the next :meth:`pipeline_storage` make the storage anew."""
        with self._lock:
            for name in [name for name in self._made if name.startswith("pipelines ")]:
                del self._made[name]

    def scheduling_service(self) -> SchedulingService:
        """Return the service that keeps registry and Prefect in step."""

        def make() -> SchedulingService:
            return SchedulingService(self.model_db_service())

        service: SchedulingService = self._once("scheduling", make)
        return service

    def file_storage(self) -> WritableFileSystem:
        """Return the Prefect filesystem Block that holds the files.

        Raises:
            ConfigurationError: There is no such Block, or it is not a filesystem.
        """
        storage: WritableFileSystem = self._once(
            "files", lambda: load_filesystem(self.services.file_storage, self.home)
        )
        return storage

    def check(self) -> list[ServiceStatus]:
        """Try every service once and say in one line each how it is.

        What is wrong with a service is in its line, not raised.
        """
        return [
            self._status("registry", self.model_db_service),
            self._status("results", self.results_db_service),
            self._status("files", self.file_storage),
        ]

    def _status(self, service: str, make: Any) -> ServiceStatus:
        where = self._address(service)
        try:
            detail = self._connect(service)
            make()
        except LumeError as error:
            return ServiceStatus(service, where, ok=False, detail=str(error))
        return ServiceStatus(service, where, ok=True, detail=detail)

    def _credentials(self, service: str) -> Any:
        if service == "registry":
            return self.services.registry
        return self.services.results_mongodb or self.services.results_sql

    def _address(self, service: str) -> str:
        if service == "files":
            return self.services.file_storage or str(self.home / "files")
        credentials = self._credentials(service)
        if credentials is None:
            return str(self.home / EMBEDDED_DATABASE)
        if isinstance(credentials, MySQLCredentials):
            return sql.safe_url(credentials.get_url())
        return f"MongoDB database {credentials.database_name!r}"

    def _connect(self, service: str) -> str:
        if service == "files":
            return type(self.file_storage()).__name__
        credentials = self._credentials(service)
        if credentials is None:
            return f"embedded SQLite {sql.check(self._sql_engine(None))}"
        return str(credentials.test_connection())


def load_filesystem(name: str, home: Path) -> WritableFileSystem:
    """Load a filesystem Block by ``"type-slug/name"``, or return the embedded one.

    Raises:
        ConfigurationError: There is no such Block, or it is not a filesystem.
    """
    if not name:
        return LocalFileSystem(basepath=str(home / "files"))
    try:
        block = Block.load(name, _sync=True)  # type: ignore[call-arg]
    except ValueError as error:
        raise ConfigurationError(
            f"There is no Prefect Block {name!r} for the files: {error} Name it as "
            f"type-slug/name, for example local-file-system/results."
        ) from error
    if not isinstance(block, WritableFileSystem):
        raise ConfigurationError(
            f"The Block {name!r} is a {type(block).__name__}, not a filesystem that "
            f"can be written: name a Local File System, an S3 bucket or the like."
        )
    return block
