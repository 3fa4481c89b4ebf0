"""The pipelines storages of prefect-lume keep the contract that they publish."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, StaticPool, create_engine

from prefect_lume import migrations
from prefect_lume.pipelines import PipelineStorage
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.mongo import MongoPipelineResultsStorage
from prefect_lume.pipelines.orm import OrmPipelineResultsStorage
from prefect_lume.storage.mongo import database_of, get_client
from prefect_lume.storage.sql import prepared
from prefect_lume.testing import PipelineStorageContract


@pytest.fixture
def on_server(
    emptied_database: Callable[[str, Callable[[Engine], None]], Engine],
) -> Callable[[str], PipelineStorage]:
    """Opens the storage on a database, which is migrated and empty."""

    def open_storage(name: str) -> PipelineStorage:
        return OrmPipelineResultsStorage(emptied_database(name, migrations.upgrade))

    return open_storage


class TestMemory(PipelineStorageContract):
    @pytest.fixture
    def storage(self) -> PipelineStorage:
        return MemoryPipelineResultsStorage()


class TestSQLite(PipelineStorageContract):
    @pytest.fixture
    def storage(self, on_server: Callable[[str], PipelineStorage]) -> PipelineStorage:
        return on_server("sqlite")


class TestSQLiteInMemory(PipelineStorageContract):
    @pytest.fixture
    def storage(self) -> Iterator[PipelineStorage]:
        # Not from get_engine, which would share one database between the tests.
        engine = prepared(
            create_engine(
                "sqlite://",
                poolclass=StaticPool,
                connect_args={"check_same_thread": False},
            )
        )
        storage = OrmPipelineResultsStorage(engine)
        storage.create_tables()
        yield storage
        engine.dispose()


@pytest.mark.service("mysql")
class TestMySQL(PipelineStorageContract):
    @pytest.fixture
    def storage(self, on_server: Callable[[str], PipelineStorage]) -> PipelineStorage:
        return on_server("mysql")


@pytest.mark.service("mariadb")
class TestMariaDB(PipelineStorageContract):
    @pytest.fixture
    def storage(self, on_server: Callable[[str], PipelineStorage]) -> PipelineStorage:
        return on_server("mariadb")


@pytest.mark.service("postgresql")
class TestPostgreSQL(PipelineStorageContract):
    @pytest.fixture
    def storage(self, on_server: Callable[[str], PipelineStorage]) -> PipelineStorage:
        return on_server("postgresql")


class TestMongoDB(PipelineStorageContract):
    is_transactional = False

    @pytest.fixture
    def storage(self, mongodb_url: str) -> PipelineStorage:
        client = get_client(mongodb_url)
        return MongoPipelineResultsStorage(client[database_of(mongodb_url)])
