"""Results in three databases, and the way in for whoever may write to these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, insert, make_url, select, update

from prefect_lume import migrations
from prefect_lume.config import configure, open_context
from prefect_lume.credentials import LumeServices, MongoDBCredentials, MySQLCredentials
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.trees import to_json
from prefect_lume.storage.mongo import database_of, get_client

Tree = dict[str, Any]
PROJECT = "tampered"

STORES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
    pytest.param("mongodb", marks=pytest.mark.service("mongodb")),
]


class InSQL:
    """The tables of an SQL database, for whoever may write to them."""

    def __init__(self, store: SQLDBService) -> None:
        self.engine = store.engine

    def document(self, key: str) -> Tree:
        table = sql_tables.result
        statement = select(table.c.document).where(table.c.unique_hash == key)
        with self.engine.connect() as connection:
            return json.loads(connection.execute(statement).scalar_one())

    def put(self, key: str, tree: Tree) -> None:
        table = sql_tables.result
        change = update(table).where(table.c.unique_hash == key)
        with self.engine.begin() as connection:
            connection.execute(change.values(document=to_json(tree)))

    def restore(self, key: str, tree: Tree) -> None:
        self.put(key, tree)

    def chunks(self, sha256: str) -> list[bytes]:
        table = sql_tables.blob_chunk
        statement = select(table.c.data).where(table.c.sha256 == sha256)
        with self.engine.connect() as connection:
            rows = connection.execute(statement.order_by(table.c.n)).scalars()
            return [bytes(data) for data in rows]

    def put_chunks(self, sha256: str, parts: list[bytes], **entry: Any) -> None:
        table, blob = sql_tables.blob_chunk, sql_tables.blob
        rows = [{"sha256": sha256, "n": n, "data": d} for n, d in enumerate(parts)]
        with self.engine.begin() as connection:
            connection.execute(delete(table).where(table.c.sha256 == sha256))
            if rows:
                connection.execute(insert(table), rows)
            if entry:
                change = update(blob).where(blob.c.sha256 == sha256)
                connection.execute(change.values(**entry))


class InMongoDB:
    """The collections of a MongoDB database, for whoever may write to them."""

    def __init__(self, url: str) -> None:
        self.database = get_client(url)[database_of(url)]

    def document(self, key: str) -> Tree:
        tree = self.database[PROJECT].find_one({"_id": key})
        assert tree is not None
        return tree

    def put(self, key: str, tree: Tree) -> None:
        self.database[PROJECT].delete_one({"_id": key})
        self.database[PROJECT].replace_one({"_id": tree["_id"]}, tree, upsert=True)

    def restore(self, key: str, tree: Tree) -> None:
        self.database[PROJECT].delete_many({"_id": {"$in": ["f" * 64, key]}})
        self.put(key, tree)

    def chunks(self, sha256: str) -> list[bytes]:
        blobs = self.database["lume_blobs"]
        file = blobs.files.find_one({"filename": sha256})
        found = blobs.chunks.find({"files_id": file["_id"]}, sort=[("n", 1)])
        return [chunk["data"] for chunk in found]

    def put_chunks(self, sha256: str, parts: list[bytes], **entry: Any) -> None:
        blobs = self.database["lume_blobs"]
        file = blobs.files.find_one({"filename": sha256})
        blobs.chunks.delete_many({"files_id": file["_id"]})
        for n, data in enumerate(parts):
            blobs.chunks.insert_one({"files_id": file["_id"], "n": n, "data": data})
        names = {"size": "length", "encoding": "metadata.encoding"}
        changes = {names[key]: value for key, value in entry.items() if key in names}
        if changes:
            blobs.files.update_one({"_id": file["_id"]}, {"$set": changes})


@pytest.fixture(params=STORES)
def store_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def services(
    store_name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> LumeServices:
    home = str(tmp_path / "lume")
    if store_name == "sqlite":
        return LumeServices(home=home)
    url = request.getfixturevalue(f"{store_name}_url")
    if store_name == "mongodb":
        credentials = MongoDBCredentials(uri=url, database=database_of(url))
        return LumeServices(home=home, results_mongodb=credentials)
    parsed = make_url(url)
    in_sql = MySQLCredentials(
        driver="postgresql+psycopg",
        username=parsed.username,
        password=parsed.password,
        host=parsed.host,
        port=parsed.port,
        database=parsed.database,
    )
    migrations.upgrade(in_sql.get_engine())
    return LumeServices(home=home, results_sql=in_sql)


@pytest.fixture
def service(services: LumeServices) -> Iterator[ResultsService]:
    configure(services)
    yield open_context().results_db_service()
    configure()


@pytest.fixture
def raw(
    service: ResultsService, request: pytest.FixtureRequest, store_name: str
) -> InSQL | InMongoDB:
    if isinstance(service.db_service, SQLDBService):
        return InSQL(service.db_service)
    return InMongoDB(request.getfixturevalue("mongodb_url"))


@pytest.fixture
def results(service: ResultsService) -> list[Result]:
    """Two results that differ in all, with an array that is a blob each."""
    stored = [
        Result(
            project_name=PROJECT,
            flow_run_id=f"run-{n}",
            inputs={"n": n, "note": f"note {n}", "steps": [1, 2, 3]},
            outputs={
                "sigma": n + 0.5,
                "field": np.random.default_rng(n).random(200_000),
            },
        )
        for n in range(2)
    ]
    service.store_many(stored)
    return stored
