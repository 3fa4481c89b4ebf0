"""Blobs that somebody changed in the database: an error on every way to them."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete

from prefect_lume.errors import DecodingError, IntegrityError, NotFoundError
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.stores.sql import tables as sql_tables

Tree = dict[str, Any]
PROJECT = "tampered"
NOTICED = (IntegrityError, DecodingError)


@cache
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
    raw: Any,
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
        "lazy": service.load(reference, lazy=True).outputs["field"].load,
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
        if not isinstance(service.db_service, SQLDBService):
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
    service: ResultsService, raw: Any, results: list[Result]
) -> None:
    """A result whose blob is gone raises; the rest of it can still be looked at."""
    result = results[0]
    sha256 = service.load(result.reference(), lazy=True).outputs["field"].sha256
    if not isinstance(service.db_service, SQLDBService):
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
