"""What somebody changed in the database: an error on every way to it, nothing run."""

from __future__ import annotations

import copy
import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sqlalchemy import delete, insert, make_url, select, update

from prefect_lume import migrations
from prefect_lume.cli._main import cli
from prefect_lume.config import configure, open_context
from prefect_lume.credentials import LumeServices, MongoDBCredentials, MySQLCredentials
from prefect_lume.errors import DecodingError, IntegrityError, LumeError, NotFoundError
from prefect_lume.results import ImpactResult, Result, ResultsService
from prefect_lume.results.stored import checksum
from prefect_lume.results.stores import SQLDBService, sql_tables
from prefect_lume.results.stores.trees import to_json
from prefect_lume.storage.mongo import database_of, get_client

Tree = dict[str, Any]
PROJECT = "tampered"
NOTICED = (IntegrityError, DecodingError)

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


# --- ways in ---------------------------------------------------------------------


def show(key: str) -> str:
    outcome = CliRunner().invoke(cli, ["--debug", "results", "show", PROJECT, key])
    if outcome.exception is not None:
        raise outcome.exception
    return outcome.stdout


def doors(
    service: ResultsService, result: Result, command_line: bool = True
) -> dict[str, Callable[[], Any]]:
    """Return the ways to read one result, by name."""
    key = result.unique_hash
    one = {"unique_hash": key}
    where = result.reference("inputs", ["n"])
    return {
        "load": lambda: service.load(result.reference()),
        "load lazy": lambda: service.load(result.reference(), lazy=True),
        "load_value": lambda: service.load_value(where),
        "find": lambda: list(service.find(PROJECT, one)),
        "find all": lambda: list(service.find(PROJECT)),
        "find by run": lambda: list(
            service.find(PROJECT, {"flow_run_id": result.flow_run_id})
        ),
        "find_one": lambda: service.find_one(PROJECT, one),
        "find_by_unique_field": lambda: service.find_by_unique_field(
            PROJECT, "unique_hash", key
        ),
        "load_dataframe": lambda: service.load_dataframe(PROJECT, one),
        **({"results show": lambda: show(key)} if command_line else {}),
    }


def right(answer: Any, result: Result, everything: list[Result]) -> bool:
    """Tell whether an answer is nothing but what was stored."""
    if isinstance(answer, Result):
        return answer.inputs == result.inputs and answer.type_name == "Generic"
    if isinstance(answer, list):
        stored = {one.unique_hash: one for one in everything}
        return all(
            one.unique_hash in stored and right(one, stored[one.unique_hash], [])
            for one in answer
        )
    if isinstance(answer, str):
        return f"note {result.inputs['n']}" in answer
    if isinstance(answer, int):
        return answer == result.inputs["n"]
    return answer.empty or list(answer["inputs.n"]) == [result.inputs["n"]]


# --- documents -------------------------------------------------------------------


def changed(*path: str | int, to: Any) -> Callable[[Tree, Tree], Tree]:
    """Return the recipe that sets one place of a document."""

    def recipe(tree: Tree, other: Tree) -> Tree:
        place: Any = tree
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to
        return tree

    return recipe


def without(*path: str) -> Callable[[Tree, Tree], Tree]:
    """Return the recipe that removes one key of a document."""

    def recipe(tree: Tree, other: Tree) -> Tree:
        place: Any = tree
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]
        return tree

    return recipe


PICKLE = "gASMC2x1bWVfY2FuYXJ5lIwEZXZpbJSTlIwBeJSFlFKULg=="
RECIPES: dict[str, Callable[[Tree, Tree], Tree]] = {
    "another number": changed("outputs", "sigma", to=9.25),
    "a number of another type": changed("inputs", "n", to=0.0),
    "an item of a list": changed("inputs", "steps", 1, to=5),
    "another text": changed("inputs", "note", to="forged"),
    "another flow run": changed("flow_run_id", to="run-7"),
    "another date": changed("date_modified", to="2001-01-01T00:00:00.000000Z"),
    "another project": changed("project_name", to="other"),
    "another deployment": changed("deployment_id", to=7),
    "a key more": changed("inputs", "extra", to=1),
    "a field more": changed("extra", to=1),
    "no input": without("inputs", "n"),
    "no inputs": without("inputs"),
    "no checksum": without("_checksum"),
    "no format": without("format"),
    "no type": without("result_type"),
    "another _id": changed("_id", to="f" * 64),
    "another's checksum": lambda tree, other: tree | {"_checksum": other["_checksum"]},
    "another's body": lambda tree, other: other | {"_id": tree["_id"]},
    "another registered type": changed("result_type", to="Impact"),
    "an unknown type": changed("result_type", to="os.system"),
    "a newer format": changed("format", to=99),
    "an older format": lambda tree, other: {
        key: item
        for key, item in changed("inputs", "n", to=9)(tree, other).items()
        if key != "_checksum"
    }
    | {"format": 1},
    "a format that is no number": changed("format", to="2"),
    "another blob": lambda tree, other: changed(
        "outputs", "field", to=other["outputs"]["field"]
    )(tree, other),
    "another dtype": changed("outputs", "field", "dtype", to="<i8"),
    "another shape": changed("outputs", "field", "shape", to=[100_000]),
    "pickled bytes": changed(
        "outputs", "sigma", to={"__lume__": "pickle", "v": 1, "data": PICKLE}
    ),
    "a class to import": changed(
        "outputs",
        "sigma",
        to={"__lume__": "model", "v": 1, "class": "lume_canary.Evil", "value": {}},
    ),
    "a reduction": changed(
        "outputs", "sigma", to={"__reduce__": ["lume_canary.evil", ["x"]]}
    ),
    "a newer codec": changed("outputs", "field", "v", to=99),
    "an operator": changed("inputs", "steps", to={"a": {"$where": "sleep(1000)"}}),
}


#: In MongoDB, what one looks for by is changed itself.
NOT_FOUND = {
    *(("another _id", door) for door in ("load", "load lazy", "load_value", "find")),
    *(("another _id", door) for door in ("find_one", "find_by_unique_field")),
    ("another _id", "load_dataframe"),
    ("another flow run", "find by run"),
    ("another's body", "find by run"),
}


def not_found(read: Callable[[], Any]) -> bool:
    try:
        answer = read()
    except NotFoundError:
        return True
    return len(answer) == 0


#: Each call of the command line takes long: some of them stand for the rest.
ON_THE_COMMAND_LINE = {"another number", "another's body", "an unknown type"}


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that would be noticed if anything imported it."""
    (tmp_path / "lume_canary.py").write_text("evil = Evil = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    assert "lume_canary" not in sys.modules


def test_the_canary_would_sing(tmp_path: Path, monkeypatch: Any) -> None:
    """The pickled bytes of these tests do import the canary where pickle is used."""
    import base64
    import pickle

    (tmp_path / "lume_canary.py").write_text("evil = Evil = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    pickle.loads(base64.b64decode(PICKLE))
    assert sys.modules.pop("lume_canary")


def test_a_changed_document_is_noticed_on_every_way(
    service: ResultsService,
    raw: InSQL | InMongoDB,
    results: list[Result],
    subtests: pytest.Subtests,
    canary: None,
) -> None:
    """Each change raises an integrity or decoding error, and gives no wrong data."""
    result, other = results
    key = result.unique_hash
    originals = [raw.document(one.unique_hash) for one in results]
    for name, recipe in RECIPES.items():
        raw.put(key, recipe(copy.deepcopy(originals[0]), copy.deepcopy(originals[1])))
        for door, read in doors(service, result, name in ON_THE_COMMAND_LINE).items():
            with subtests.test(name, door=door):
                if isinstance(raw, InMongoDB) and (name, door) in NOT_FOUND:
                    assert not_found(read)
                    continue
                with pytest.raises(NOTICED):
                    read()
        raw.restore(key, originals[0])
        assert service.load(result.reference()).inputs == result.inputs, name
        assert service.load(other.reference()).inputs == other.inputs, name


def test_swapped_documents_are_never_taken_for_each_other(
    service: ResultsService,
    raw: InSQL | InMongoDB,
    results: list[Result],
    subtests: pytest.Subtests,
) -> None:
    """Two documents that changed places: who asks for one never gets the other."""
    one, other = (raw.document(result.unique_hash) for result in results)
    swap = isinstance(raw, InSQL)
    for tree, body in ((one, other), (other, one)):
        raw.put(tree["_id"], body if swap else body | {"_id": tree["_id"]})
    for result in results:
        for door, read in doors(service, result).items():
            with subtests.test(door=door, n=result.inputs["n"]):
                try:
                    answer = read()
                except NOTICED:
                    continue
                assert right(answer, result, results)
        with pytest.raises(IntegrityError):
            service.load(result.reference())


PLAIN = {str, int, float, type(None), type(pd.NA), pd.Timestamp}
HOSTILE: dict[str, Any] = {
    "pickle": {"__lume__": "pickle", "v": 1, "data": PICKLE},
    "bytes": {"__lume__": "bytes", "v": 1, "data": PICKLE},
    "class": {"__lume__": "model", "v": 1, "class": "lume_canary.Evil", "value": {}},
    "enum": {"__lume__": "enum", "v": 1, "type": "lume_canary:Evil", "value": 1},
    "object array": {
        "__lume__": "array",
        "v": 1,
        "dtype": "|O",
        "shape": [1],
        "data": PICKLE,
    },
    "reduce": {"__reduce__": ["lume_canary.evil", ["x"]], "py/object": "os.system"},
    "operator": {"$where": "sleep(1000)"},
    "operator inside": {"a": [{"$function": {"body": "while(1);"}}]},
    "a path": {"__lume__": "file", "v": 1, "path": "../../../etc/passwd"},
    "a newer codec": {"__lume__": "array", "v": 99},
    "nested": None,
}


def harmless(answer: Any) -> bool:
    """Tell whether an answer holds nothing but plain data in the forged place."""
    if isinstance(answer, Result):
        sigma = answer.outputs["sigma"]
        return type(sigma) in {dict, bytes} and "__lume__" not in sigma
    if isinstance(answer, list):
        return all(harmless(one) for one in answer if one.inputs["n"] == 0)
    if isinstance(answer, int | str):
        return True
    return {type(value) for value in answer.to_numpy().ravel()} <= PLAIN


def test_forged_documents_run_nothing(
    service: ResultsService,
    raw: InSQL | InMongoDB,
    results: list[Result],
    subtests: pytest.Subtests,
    canary: None,
) -> None:
    """With a right checksum too: an error of ours or plain data, nothing imported."""
    result = results[0]
    original = raw.document(result.unique_hash)
    for name, value in HOSTILE.items():
        tree = copy.deepcopy(original)
        for _ in range(150 if value is None else 0):
            value = {"a": value}
        tree["outputs"]["sigma"] = value
        shown = {key: item for key, item in tree.items() if key != "_blobs"}
        tree["_checksum"] = checksum(shown)
        raw.put(result.unique_hash, tree)
        for door, read in doors(service, result).items():
            with subtests.test(name, door=door):
                try:
                    answer = read()
                except LumeError:
                    continue
                assert harmless(answer)
        raw.restore(result.unique_hash, original)


# --- blobs -----------------------------------------------------------------------


def bomb(size: int) -> bytes:
    """Return a few bytes that decompress to many."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    parts = [compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, compressor.flush()])


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


Chunks = list[bytes]
BLOB_RECIPES: dict[str, Callable[[Chunks, Chunks], tuple[Chunks, Tree]]] = {
    "a bit flipped": lambda own, other: ([flipped(own[0]), *own[1:]], {}),
    "a chunk cut": lambda own, other: ([own[0][:-1], *own[1:]], {}),
    "a chunk longer": lambda own, other: ([*own[:-1], own[-1] + b"x"], {}),
    "a chunk missing": lambda own, other: (own[:-1], {}),
    "all chunks missing": lambda own, other: ([], {}),
    "chunks exchanged": lambda own, other: (own[::-1], {}),
    "another's content": lambda own, other: (other, {}),
    "another size": lambda own, other: ([own[0][:100]], {"size": 100, "chunks": 1}),
    "no content at all": lambda own, other: ([], {"size": 0, "chunks": 0}),
    "said to be compressed": lambda own, other: (own, {"encoding": "zstd"}),
    "another encoding": lambda own, other: (own, {"encoding": "pickle"}),
    "a bomb": lambda own, other: (
        [bomb(1 << 29)],
        {"encoding": "zstd", "chunks": 1, "size": len(bomb(1 << 29))},
    ),
}


def test_a_damaged_blob_is_noticed_on_every_way(
    service: ResultsService,
    raw: InSQL | InMongoDB,
    results: list[Result],
    subtests: pytest.Subtests,
    tmp_path: Path,
) -> None:
    """Whatever happened to a blob: an integrity error, little memory, no file."""
    result, other = results
    sha256 = service.load(result.reference(), lazy=True).outputs["field"].sha256
    others = service.load(other.reference(), lazy=True).outputs["field"].sha256
    own, foreign = raw.chunks(sha256), raw.chunks(others)
    reference, target = result.reference(), tmp_path / "file"
    ways: dict[str, Callable[[], Any]] = {
        "load": lambda: service.load(reference),
        "lazy": lambda: service.load(reference, lazy=True).outputs["field"].load(),
        "value": lambda: service.load_value(result.reference("outputs", ["field"])),
        "find": lambda: list(service.find(PROJECT, {"inputs.n": 0})),
        "find_one": lambda: service.find_one(PROJECT, {"inputs.n": 0}),
        "projection": lambda: list(
            service.find(PROJECT, {"inputs.n": 0}, projection=["outputs.field"])
        ),
        "frame": lambda: service.load_dataframe(PROJECT, columns=["outputs.field"]),
        "get_blob": lambda: service.db_service.get_blob(sha256),
        "fetch_blob": lambda: service.db_service.fetch_blob(sha256, target),
    }
    assert np.array_equal(ways["value"](), result.outputs["field"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, recipe in BLOB_RECIPES.items():
        chunks, entry = recipe(own, foreign)
        raw.put_chunks(sha256, chunks, **entry)
        for way, read in ways.items():
            with subtests.test(name, way=way), pytest.raises(NOTICED):
                read()
        size = sum(map(len, own))
        whole = {"size": size, "chunks": len(own), "encoding": ""}
        if isinstance(raw, InMongoDB):
            raw.put_chunks(sha256, own, size=size)
            raw.database["lume_blobs"].files.update_one(
                {"filename": sha256}, {"$unset": {"metadata.encoding": 1}}
            )
        else:
            raw.put_chunks(sha256, own, **whole)
        assert np.array_equal(ways["value"](), result.outputs["field"])
    assert not target.exists()
    assert list(tmp_path.glob(".lume-*")) == []
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 96 << 10


def test_a_removed_blob_is_named(
    service: ResultsService, raw: InSQL | InMongoDB, results: list[Result]
) -> None:
    """A result whose blob is gone raises; the rest of it can still be looked at."""
    result = results[0]
    sha256 = service.load(result.reference(), lazy=True).outputs["field"].sha256
    if isinstance(raw, InMongoDB):
        raw.database["lume_blobs"].files.delete_one({"filename": sha256})
    else:
        link, blob = sql_tables.result_blob, sql_tables.blob
        with raw.engine.begin() as connection:
            connection.execute(delete(link).where(link.c.sha256 == sha256))
            connection.execute(delete(blob).where(blob.c.sha256 == sha256))
    with pytest.raises((IntegrityError, NotFoundError), match=sha256[:12]):
        service.load(result.reference())
    with pytest.raises((IntegrityError, NotFoundError), match=sha256[:12]):
        list(service.find(PROJECT))
    assert service.load(result.reference(), lazy=True).inputs == result.inputs
