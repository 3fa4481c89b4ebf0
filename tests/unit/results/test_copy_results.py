"""Results copied from one database to another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from prefect_lume.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores.sql.tables import result as result_table
from prefect_lume.results.transfer import copy_results


@pytest.fixture
def source(make_service: Callable[[], ResultsService]) -> ResultsService:
    """Ten results in two projects, of which five hold blobs."""
    service = make_service()
    for n in range(10):
        array = np.full(20_000, float(n)) if n < 5 else np.zeros(2)
        service.store(
            Result(
                project_name="injector" if n < 6 else "linac",
                inputs={"n": n},
                outputs={"array": array},
            )
        )
    return service


def everything(service: ResultsService) -> dict[str, list[dict[str, Any]]]:
    store = service.db_service
    return {
        name: list(store.find(name, sort=[("_id", 1)])) for name in store.collections()
    }


def test_documents_are_copied_as_they_are_stored(source, make_service):
    """The target has the same documents, and every blob that they hold."""
    target = make_service()
    report = copy_results(source.db_service, target.db_service)
    assert (report.documents, report.stored, report.present) == (10, 10, 0)
    assert (report.blobs, report.blob_bytes) == (5, 800_000)
    assert everything(target) == everything(source)
    assert target.find_one("injector", {"inputs.n": 3}).outputs["array"][7] == 3.0
    assert target.db_service.unused_blobs(timedelta(0)) == []


def test_a_second_copy_brings_what_is_new(source, make_service):
    """What is there is kept; blobs that are there are not read."""
    target = make_service()
    copy_results(source.db_service, target.db_service)
    source.store(Result(project_name="linac", inputs={"n": "new"}))
    source.db_service.read_blob = None  # It would fail if it were called.
    try:
        report = copy_results(source.db_service, target.db_service)
    finally:
        del source.db_service.read_blob
    assert (report.stored, report.present, report.blobs) == (1, 10, 0)
    assert everything(target) == everything(source)


def test_a_part_is_copied(source, make_service):
    """Projects, query and type select what is copied, and only its blobs."""
    target = make_service()
    report = copy_results(
        source.db_service, target.db_service, "injector", {"inputs.n": {"$gte": 4}}
    )
    assert (report.projects, report.blobs) == ({"injector": 2}, 1)
    assert target.projects() == ["injector"]
    with pytest.raises(NotFoundError, match="Did you mean 'linac'"):
        copy_results(source.db_service, target.db_service, ["linak"])


def test_a_dry_run_changes_nothing(source, make_service):
    """It says what would be copied and what is there."""
    target = make_service()
    copy_results(source.db_service, target.db_service, ["linac"])
    before = everything(target)
    report = copy_results(source.db_service, target.db_service, dry_run=True)
    assert (report.documents, report.stored, report.present) == (10, 6, 4)
    report = copy_results(
        source.db_service, target.db_service, dry_run=True, on_duplicate="replace"
    )
    assert (report.stored, report.present) == (10, 0)
    assert everything(target) == before


def test_duplicates_can_stop_the_copy_or_be_replaced(source, make_service):
    """With "raise" nothing is copied if one is there; "replace" replaces it."""
    target = make_service()
    copy_results(source.db_service, target.db_service, ["linac"])
    with pytest.raises(ConflictError, match="'linac'"):
        copy_results(source.db_service, target.db_service, on_duplicate="raise")
    assert target.projects() == ["linac"]
    old = source.find_one("linac", {"inputs.n": 7})
    later = old.model_copy(update={"date_modified": old.date_modified + timedelta(1)})
    source.store(later, "replace")
    copy_results(source.db_service, target.db_service)
    assert target.load(old.reference()).date_modified == old.date_modified
    copy_results(source.db_service, target.db_service, on_duplicate="replace")
    assert everything(target) == everything(source)


def test_progress_is_told(source, make_service):
    """The callback is told what is done, and at the end that all is."""
    told: list[tuple[int, int, int]] = []
    copy_results(
        source.db_service, make_service().db_service, progress=lambda *n: told.append(n)
    )
    assert told == sorted(told)
    assert told[-1][:2] == (10, 10)
    assert told[-1][2] > 800_000


def test_a_damaged_document_is_not_copied(source, make_service):
    """A document that was changed in the source ends the copy and is named."""
    tree = next(source.db_service.find("linac"))
    with source.db_service.engine.begin() as connection:
        text = connection.exec_driver_sql(
            f"SELECT document FROM result WHERE unique_hash = '{tree['_id']}'"
        ).scalar_one()
        connection.execute(
            result_table.update()
            .where(result_table.c.unique_hash == tree["_id"])
            .values(document=text.replace('"n":', '"m":'))
        )
    target = make_service()
    with pytest.raises(IntegrityError, match=tree["_id"]):
        copy_results(source.db_service, target.db_service)
    assert tree["_id"] not in str(everything(target))


def test_a_blob_that_is_missing_ends_the_copy(source, make_service):
    """It is said which result lacks which blob, and that one is not copied."""
    tree = next(source.db_service.find("injector", {"inputs.n": {"$eq": 2}}))
    lacking = tree["outputs"]["array"]["blob"]
    read = source.db_service.read_blob

    def read_blob(sha256):
        if sha256 == lacking:
            raise NotFoundError("blob", sha256)
        return read(sha256)

    source.db_service.read_blob = read_blob
    target = make_service()
    try:
        with pytest.raises(IntegrityError, match=lacking):
            copy_results(source.db_service, target.db_service)
    finally:
        del source.db_service.read_blob
    assert tree["_id"] not in str(everything(target))


def test_a_database_is_not_copied_onto_itself(source):
    """Source and target must be two."""
    with pytest.raises(InvalidInputError, match="one results database"):
        copy_results(source.db_service, source.db_service)
