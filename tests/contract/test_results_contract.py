"""The results databases of prefect-lume keep the contract that they publish."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from prefect_lume.results.stores import DBService, MongoDBService, SQLDBService
from prefect_lume.storage.mongo import database_of, get_client
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import DBServiceContract, IndexOptionsContract


def sql_service(url: str) -> Iterator[SQLDBService]:
    engine = get_engine(url)
    service = SQLDBService(engine)
    service.create_tables()
    yield service
    engine.dispose()


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


class TestMySQL(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self, mysql_url: str) -> Iterator[DBService]:
        yield from sql_service(mysql_url)


class TestMariaDB(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self, mariadb_url: str) -> Iterator[DBService]:
        yield from sql_service(mariadb_url)


class TestPostgreSQL(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self, postgresql_url: str) -> Iterator[DBService]:
        yield from sql_service(postgresql_url)


class TestMongoDB(DBServiceContract, IndexOptionsContract):
    @pytest.fixture
    def db_service(self, mongodb_url: str) -> DBService:
        client: MongoClient[dict[str, Any]] = get_client(mongodb_url)
        return MongoDBService(client[database_of(mongodb_url)])
