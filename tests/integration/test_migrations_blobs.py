"""The revision that notes which document holds which blob, on every database."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, column, insert, table, text

from prefect_lume import migrations
from prefect_lume.migrations import _blob_links
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.stores.trees import to_json
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing import make_document

DATABASES = [
    "sqlite",
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
]
EVERYTHING = -timedelta(days=1)


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'lume.db'}"
    if request.param != "sqlite":
        url = request.getfixturevalue(f"{request.param}_url")
    engine = get_engine(url)
    yield engine
    engine.dispose()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def envelope(kind: str, data: bytes) -> dict[str, Any]:
    return {"__lume__": kind, "v": 1, "blob": digest(data), "size": len(data)}


def store_as_before(engine: Engine, tree: dict[str, Any], *blobs: bytes) -> str:
    """Write the rows that the code of revision 0001 wrote."""
    blob = table("blob", *map(column, ("sha256", "size", "chunks", "created")))
    chunk = table("blob_chunk", *map(column, ("sha256", "n", "data")))
    names = ("collection", "unique_hash", "result_type", "date_modified", "document")
    result = table("result", *map(column, names))
    with engine.begin() as connection:
        for data in blobs:
            row = (digest(data), len(data), 1, tree["date_modified"])
            connection.execute(insert(blob).values(row))
            connection.execute(insert(chunk).values((digest(data), 0, data)))
        row = (tree["project_name"], tree["_id"], "Generic", tree["date_modified"])
        connection.execute(insert(result).values((*row, to_json(tree))))
    return str(tree["_id"])


def test_documents_stored_before_keep_their_blobs(engine: Engine) -> None:
    """An upgrade finds the blobs of every document, also those inside its parts."""
    migrations.upgrade(engine, "0001")
    plain, inner, unused = b"plain", b"inner", b"unused"
    part = json.dumps({"a": [envelope("bytes", inner)]}).encode()
    inputs = {"x": envelope("bytes", plain), "y": [envelope("tree", part)]}
    store_as_before(engine, make_document(inputs=inputs).tree, plain, inner, part)
    store_as_before(engine, make_document(inputs={"blob": "no blob"}).tree, unused)
    for n in range(1100):
        tree = make_document("many", inputs={"n": n, "x": inputs["x"]}).tree
        if n % 100 == 0:
            store_as_before(engine, tree)
    migrations.upgrade(engine)
    assert migrations.check(engine) == []
    store = SQLDBService(engine)
    held = {digest(data) for data in (plain, inner, part)}
    assert set(store.held_blobs("contract")) == held
    assert set(store.held_blobs("many")) == {digest(plain)}
    gone = store.delete_unused_blobs(EVERYTHING)
    assert [info.sha256 for info in gone] == [digest(unused)]
    assert store.get_blob(digest(inner)) == inner


def test_a_document_that_lost_its_blob_does_not_stop_an_upgrade(
    engine: Engine,
) -> None:
    """It is named in a warning; its other blobs are kept, and so are all others."""
    migrations.upgrade(engine, "0001")
    there, lost, inner = b"there", b"lost", b"inner"
    part = json.dumps([envelope("bytes", inner)]).encode()
    inputs = {
        "a": envelope("bytes", lost),
        "b": envelope("tree", b"a lost part"),
        "c": envelope("tree", part),
        "d": envelope("bytes", there),
    }
    tree = make_document(inputs=inputs).tree
    store_as_before(engine, tree, there, inner, part)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        migrations.upgrade(engine)
    said = "\n".join(str(warning.message) for warning in caught)
    for name in (tree["_id"], digest(lost), digest(b"a lost part")):
        assert name in said
    store = SQLDBService(engine)
    held = {digest(data) for data in (there, inner, part)}
    assert set(store.held_blobs("contract")) == held


def test_an_upgrade_that_was_killed_is_run_again(engine: Engine) -> None:
    """Where tables were changed without the revision's name, the rest is done."""
    migrations.upgrade(engine)
    store = SQLDBService(engine)
    data = bytes(1000)
    document = make_document(inputs={"x": envelope("bytes", data)})
    document.blobs[digest(data)] = data
    store.insert("contract", document)
    with engine.begin() as connection:
        connection.execute(text("UPDATE lume_schema_version SET version_num = '0001'"))
        connection.execute(text("DROP TABLE result_blob"))
    migrations.upgrade(engine)
    assert migrations.check(engine) == []
    assert list(store.held_blobs("contract")) == [digest(data)]


def test_going_back_keeps_every_blob(engine: Engine) -> None:
    """Compressed blobs and large ones are those of the older revision again."""
    migrations.upgrade(engine)
    store = SQLDBService(engine)
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(40_000))
    contents = [bytes(3 << 20), bytes(12 << 20) + noise, noise * 8, b"small"]
    for data in contents:
        store.put_blob(digest(data), data)
    # A server that is killed when it has this, and no table changed, has it again.
    with engine.begin() as connection:
        _blob_links.unpack(connection)
    migrations.downgrade(engine, "0001")
    with engine.connect() as connection:
        for data in contents:
            chunks = connection.execute(
                text("SELECT data FROM blob_chunk WHERE sha256 = :h ORDER BY n"),
                {"h": digest(data)},
            )
            assert b"".join(bytes(row.data) for row in chunks) == data
    migrations.upgrade(engine)
    assert migrations.check(engine) == []
    for data in contents:
        assert store.get_blob(digest(data)) == data
