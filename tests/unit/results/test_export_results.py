"""Results in a folder: what is written, and what is read back."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from prefect_lume.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    QueryError,
    StorageError,
)
from prefect_lume.results import Index, Result, ResultsService
from prefect_lume.results.stores.trees import to_json
from prefect_lume.results.transfer import export_results, import_results


def files(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def blob_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "blobs").rglob("*") if path.is_file())


def read_lines(folder: Path) -> list[bytes]:
    return (folder / "results.jsonl").read_bytes().splitlines()


def count(service: ResultsService) -> int:
    return sum(service.count(name) for name in service.projects())


def test_layout_of_an_export(filled_service, exported):
    """A document per line, sorted; each blob once by its hash; a manifest."""
    lines = [json.loads(line) for line in read_lines(exported)]
    places = [(line["collection"], line["document"]["_id"]) for line in lines]
    assert places == sorted(places)
    assert len(lines) == 13
    assert [to_json(line).encode() for line in lines] == read_lines(exported)
    blobs = blob_files(exported)
    assert len(blobs) == 9
    for path in blobs:
        assert path.name == hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.parent.name == path.name[:2]
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest == {
        "format": "prefect-lume-results",
        "version": 1,
        "documents": 13,
        "blobs": 9,
        "blob_bytes": sum(path.stat().st_size for path in blobs),
        "results_bytes": (exported / "results.jsonl").stat().st_size,
        "results_sha256": hashlib.sha256(
            (exported / "results.jsonl").read_bytes()
        ).hexdigest(),
    }


def test_files_can_be_read_by_who_may_read_the_folder(exported):
    """Blobs have the access rights of the other files."""
    mode = (exported / "results.jsonl").stat().st_mode
    assert {path.stat().st_mode for path in blob_files(exported)} == {mode}


def test_equal_results_make_equal_files(
    filled_service, make_service, exported, tmp_path
):
    """Exported, imported elsewhere and exported again, every byte is the same."""
    other = make_service()
    report = import_results(other, exported)
    assert (report.documents, report.stored, report.present) == (13, 13, 0)
    assert report.projects == {"project 0": 7, "project 1": 6}
    export_results(other, tmp_path / "again")
    assert files(tmp_path / "again") == files(exported)
    assert other.db_service.unused_blobs(timedelta(0)) == []
    found = other.find_one("project 0", {"outputs.n": 4})
    assert np.array_equal(found.outputs["array"], np.full(20_000, 5.0))
    far = other.find_one("project 0", {"outputs.far": {"$exists": True}})
    assert np.array_equal(far.outputs["far"][-1], np.zeros(20_001))


def test_export_of_a_part(filled_service, tmp_path):
    """Projects, query and type select what is exported, and only its blobs."""
    report = export_results(
        filled_service,
        tmp_path / "a",
        ["project 1"],
        {"inputs.n": {"$lt": 4}},
        "Generic",
    )
    assert (report.documents, report.blobs) == (2, 1)
    assert report.projects == {"project 1": 2}
    assert (
        export_results(filled_service, tmp_path / "b", result_type="Impact").documents
        == 0
    )


def test_progress_reaches_the_total(filled_service, make_service, exported, tmp_path):
    """The callback is told what is done, and at the end that all is."""
    for call in (
        lambda tell: export_results(filled_service, tmp_path / "again", progress=tell),
        lambda tell: import_results(make_service(), exported, progress=tell),
    ):
        told: list[tuple[int, int, int]] = []
        call(lambda *numbers, told=told: told.append(numbers))
        assert told[-1][:2] == (13, 13)
        assert told == sorted(told)
        assert told[-1][2] > 9 * 160_000


def test_an_export_replaces_nothing(filled_service, exported, tmp_path):
    """A folder that holds something is refused and stays as it is; an empty one not."""
    before = files(exported)
    with pytest.raises(ConflictError, match="not empty"):
        export_results(filled_service, exported)
    assert files(exported) == before
    (tmp_path / "empty").mkdir()
    export_results(filled_service, tmp_path / "empty")
    assert files(tmp_path / "empty") == before
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="not a folder"):
        export_results(filled_service, tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInputError, match="not a folder"):
        export_results(filled_service, tmp_path / "link")


def test_a_failed_export_leaves_nothing(filled_service, tmp_path):
    """Where a blob is missing in the database the export says so, and no folder is."""
    store = filled_service.db_service
    document = next(store.find("project 0", {"inputs.n": {"$eq": 4}}))
    missing = document["outputs"]["array"]["blob"]
    read = store.read_blob

    def read_blob(sha256):
        if sha256 == missing:
            raise NotFoundError("blob", sha256)
        return read(sha256)

    store.read_blob = read_blob
    try:
        with pytest.raises(IntegrityError, match=missing):
            export_results(filled_service, tmp_path / "new")
    finally:
        del store.read_blob
    assert list(tmp_path.glob("*new*")) == []


def test_what_is_removed_meanwhile_is_left_out(filled_service, tmp_path):
    """A result deleted while the export runs is not exported, nor a blob of it."""
    store = filled_service.db_service
    fetch, removed = store.read_blob, []

    def read_blob(sha256):
        if not removed:
            removed.append(sha256)
            keep = {"outputs.array.blob": {"$ne": sha256}}
            held = next(store.find("project 0", {"$nor": [keep]}))
            store.delete("project 0", {"_id": {"$eq": held["_id"]}})
            store.delete_unused_blobs(timedelta(seconds=-60))
        return fetch(sha256)

    store.read_blob = read_blob
    try:
        report = export_results(filled_service, tmp_path / "new")
    finally:
        del store.read_blob
    assert removed
    assert report.documents == 12
    assert len(blob_files(tmp_path / "new")) == report.blobs == 8


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"projects": ["nowhere"]}, NotFoundError),
        ({"query": {"$where": "1"}}, QueryError),
    ],
)
def test_wrong_choices_are_refused(filled_service, tmp_path, arguments, error):
    """An unknown project and an operator outside the language end it at once."""
    with pytest.raises(error):
        export_results(filled_service, tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_a_storage_error(filled_service, tmp_path):
    """A file in the way is reported as what it is."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be exported"):
        export_results(filled_service, tmp_path / "file" / "exported")


# --- importing ------------------------------------------------------------------


def test_duplicates(filled_service, make_service, exported):
    """What is there is kept, stops everything, or is replaced: as one asks."""
    other = make_service()
    first = json.loads(read_lines(exported)[0])["document"]["_id"]
    import_results(other, exported)
    other.delete("project 1", {})
    with pytest.raises(ConflictError, match=first):
        import_results(other, exported, "raise")
    assert other.projects() == ["project 0"]
    report = import_results(other, exported)
    assert (report.stored, report.present) == (6, 7)
    report = import_results(other, exported, "replace")
    assert (report.stored, report.present) == (13, 0)
    assert count(other) == 13
    with pytest.raises(InvalidInputError, match="on_duplicate"):
        import_results(other, exported, "maybe")


def test_empty_export_round_trips(make_service, tmp_path):
    """A database without results can be exported and imported."""
    assert export_results(make_service(), tmp_path / "a").documents == 0
    assert import_results(make_service(), tmp_path / "a").documents == 0


def test_a_refused_document_keeps_no_other(filled_service, make_service, exported):
    """Where a unique index stands in the way, the others are stored, and it is said."""

    class Numbered(Result):
        indices: ClassVar[tuple[Index, ...]] = (Index(("inputs.n",), unique=True),)
        result_type: ClassVar[str] = "Generic"

    other = make_service()
    strict = ResultsService(other.db_service, model_docs={"Generic": Numbered})
    strict.store(Numbered(project_name="project 0", inputs={"n": 4}))
    with pytest.raises(ConflictError, match="refused 1 of 13 documents"):
        import_results(strict, exported)
    assert count(other) == 13
