"""The results databases of prefect-lume keep the contract that they publish."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from sqlalchemy import Engine

from prefect_lume.results.stores import DBService, MongoDBService, SQLDBService
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.storage.mongo import database_of, get_client
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import DBServiceContract, IndexOptionsContract


def sql_service(url: str) -> Iterator[SQLDBService]:
    engine = get_engine(url)
    service = SQLDBService(engine)
    service.create_tables()
    yield service
    engine.dispose()


@pytest.fixture
def on_server(
    emptied_database: Callable[[str, Callable[[Engine], None]], Engine],
) -> Callable[[str], SQLDBService]:
    """Opens the results database on a server, which is empty."""

    def open_service(name: str) -> SQLDBService:
        return SQLDBService(emptied_database(name, sql_tables.metadata.create_all))

    return open_service


class TestSQLite(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self, tmp_path: Path) -> Iterator[DBService]:
        yield from sql_service(f"sqlite:///{tmp_path / 'results.db'}")


class TestSQLiteInMemory(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self) -> Iterator[DBService]:
        from sqlalchemy import StaticPool, create_engine

        # Not from get_engine, which would share one database between the tests.
        engine = create_engine(
            "sqlite://",
            poolclass=StaticPool,
            connect_args={"check_same_thread": False},
        )
        service = SQLDBService(engine)
        service.create_tables()
        yield service
        engine.dispose()


@pytest.mark.service("mysql")
class TestMySQL(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self, on_server: Callable[[str], DBService]) -> DBService:
        return on_server("mysql")


@pytest.mark.service("mariadb")
class TestMariaDB(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self, on_server: Callable[[str], DBService]) -> DBService:
        return on_server("mariadb")


@pytest.mark.service("postgresql")
class TestPostgreSQL(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self, on_server: Callable[[str], DBService]) -> DBService:
        return on_server("postgresql")


class TestMongoDB(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self, mongodb_url: str) -> DBService:
        client: MongoClient[dict[str, Any]] = get_client(mongodb_url)
        return MongoDBService(client[database_of(mongodb_url)])
