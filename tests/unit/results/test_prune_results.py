"""Old results are removed, and nothing else."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from prefect_lume.errors import InvalidInputError, NotFoundError
from prefect_lume.results import ImpactResult, Index, Result, ResultsService
from prefect_lume.results.pruning import prune_results
from prefect_lume.results.stores import SQLDBService
from prefect_lume.storage.sql import get_engine

NOW = datetime.now(UTC)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ResultsService]:
    """Ten results, one for each of the last ten days, in each of two projects."""
    store = SQLDBService(get_engine(f"sqlite:///{tmp_path / 'results.db'}"))
    store.create_tables()
    service = ResultsService(store)
    for project in ("injector", "linac"):
        for day in range(10):
            service.store(made(project, day))
    yield service
    store.engine.dispose()


def made(project: str, day: int, **fields: Any) -> Result:
    """Return a result of so many days ago, with a blob of its own."""
    return Result(
        project_name=project,
        inputs={"day": day, "line": "ab"[day % 2], **fields},
        outputs={"array": np.full(20_000, float(day))},
        date_modified=NOW - timedelta(days=day, minutes=1),
    )


def days(service: ResultsService, project: str = "injector") -> list[int]:
    if project not in service.projects():
        return []
    return sorted(result.inputs["day"] for result in service.find(project))


def state(service: ResultsService) -> Any:
    """Return everything that the database holds."""
    store = service.db_service
    later = store.now() + timedelta(days=1)
    return {name: list(store.find(name)) for name in store.collections()}, sorted(
        store.blobs_before(later)
    )


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ({"older_than": timedelta(days=5)}, range(5)),
        ({"keep_last": 3}, range(3)),
        ({"older_than": timedelta(days=5), "keep_last": 3}, range(5)),
        ({"older_than": timedelta(days=5), "keep_last": 8}, range(8)),
        ({"older_than": timedelta(days=5), "keep_last": 10}, range(10)),
        ({"keep_last": 99}, range(10)),
        ({"older_than": timedelta(0)}, []),
        ({"keep_last": 2, "query": {"inputs.line": "a"}}, [0, 1, 2, 3, 5, 7, 9]),
        ({"keep_last": 1, "result_type": "Impact"}, range(10)),
        ({"keep_last": 1, "projects": ["linac"]}, range(10)),
        ({}, range(10)),
    ],
)
def test_what_goes_is_older_and_not_among_the_last(service, arguments, kept):
    """Age and number both have to be passed; a dry run says the same beforehand."""
    before = state(service)
    outlook = prune_results(service, **arguments, dry_run=True)
    assert outlook.dry_run
    assert state(service) == before
    report = prune_results(service, **arguments)
    assert days(service) == list(kept)
    assert report.types == outlook.types
    assert report.documents == outlook.documents
    assert report.documents == 20 - sum(map(service.count, service.projects()))


def test_report_says_what_went_and_what_stays(service):
    """There is a row for each project and type."""
    service.store(ImpactResult(project_name="linac", date_modified=NOW))
    report = prune_results(service, keep_last=4, projects=["linac"])
    rows = [(row.result_type, row.removed, row.kept) for row in report.types]
    assert rows == [("Generic", 6, 4), ("Impact", 0, 1)]
    assert report.projects == {"linac": 6}


def test_results_of_one_moment_are_told_apart(service):
    """Of results with the same time exactly as many stay as were asked for."""
    for n in range(7):
        result = made("equal", 3, n=n)
        service.store(result.model_copy(update={"date_modified": NOW}))
    prune_results(service, keep_last=4, projects="equal")
    assert service.count("equal") == 4


@pytest.mark.parametrize("share", [None, "linac"])
def test_blobs_go_with_the_last_result_that_holds_them(service, share):
    """A dry run counts exactly the blobs that go: those that no one else holds."""
    chosen = {
        "keep_last": 4,
        "projects": None if share is None else ["injector"],
        "blobs_older_than": timedelta(0),
    }
    outlook = prune_results(service, **chosen, dry_run=True)
    report = prune_results(service, **chosen)
    assert (report.blobs, report.blob_bytes) == (outlook.blobs, outlook.blob_bytes)
    assert report.blobs == (6 if share is None else 0)
    assert service.db_service.unused_blobs(timedelta(0)) == []
    for project in service.projects():
        for result in service.find(project):
            assert result.outputs["array"][0] == result.inputs["day"]


def test_young_blobs_stay(service):
    """A blob that was stored lately may wait for its document: it stays."""
    data = b"x" * 100_000
    digest = hashlib.sha256(data).hexdigest()
    service.db_service.put_blob(digest, data)
    assert prune_results(service).blobs == 0
    outlook = prune_results(service, blobs_older_than=timedelta(0), dry_run=True)
    assert (outlook.blobs, outlook.blob_bytes) == (1, 100_000)
    report = prune_results(service, blobs_older_than=timedelta(0))
    assert (report.blobs, report.blob_bytes) == (1, 100_000)


def test_what_is_stored_or_replaced_meanwhile_stays(service):
    """A result that becomes newer after it was found is not removed."""
    store = service.db_service
    find, done = store.find, []

    def changing(*places, **arguments):
        found = list(find(*places, **arguments))
        if arguments.get("projection") == [] and not done:
            done.append(True)
            old = service.find_one("injector", {"inputs.day": 9})
            fresh = old.model_copy(update={"date_modified": datetime.now(UTC)})
            service.store(fresh, "replace")
            service.store(made("injector", 8, n="stored meanwhile, with an old date"))
        return iter(found)

    store.find = changing
    try:
        report = prune_results(
            service, projects=["injector"], older_than=timedelta(days=5)
        )
    finally:
        del store.find
    assert done
    assert 9 in days(service)
    assert report.documents == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"keep_last": 0}, "keep_last is 1 or more"),
        ({"older_than": timedelta(days=-1)}, "older_than"),
        ({"blobs_older_than": timedelta(seconds=-1)}, "blobs_older_than"),
        ({"query": {"inputs.day": 1}}, "older_than, keep_last"),
    ],
)
def test_wrong_arguments_are_refused(service, arguments, words):
    """The message says what is allowed, and nothing is removed."""
    before = state(service)
    with pytest.raises(InvalidInputError, match=words):
        prune_results(service, **arguments)
    assert state(service) == before


def test_unknown_project_is_refused(service):
    """The message names the projects that there are."""
    with pytest.raises(NotFoundError, match="Did you mean 'linac'"):
        prune_results(service, projects=["linak"], keep_last=1)


def test_progress_is_told(service):
    """The callback gets the numbers that were removed; together they are all."""
    told: list[int] = []
    report = prune_results(service, keep_last=1, progress=told.append)
    assert sum(told) == report.documents == 18


def test_dry_run_is_exact_whatever_is_shared(service):
    """Over random projects, ages and shared blobs the dry run says what happens."""
    chance = random.Random(7)
    for n in range(60):
        service.store(
            Result(
                project_name=chance.choice(["injector", "x", "y"]),
                inputs={"day": n},
                outputs={"array": np.full(20_000, float(chance.randrange(12)))},
                date_modified=NOW - timedelta(hours=chance.randrange(200)),
            )
        )
    for _ in range(6):
        chosen = {
            "older_than": timedelta(hours=chance.randrange(50, 300)),
            "keep_last": chance.choice([None, 1, 5, 12]),
            "projects": chance.choice([None, ["x"], ["injector"]]),
            "blobs_older_than": timedelta(0),
        }
        if chosen["projects"] and chosen["projects"][0] not in service.projects():
            continue
        outlook = prune_results(service, **chosen, dry_run=True)
        report = prune_results(service, **chosen)
        assert report.types == outlook.types
        assert (report.blobs, report.blob_bytes) == (
            outlook.blobs,
            outlook.blob_bytes,
        )


class Fleeting(Result):
    """A result that is to go after two days."""

    result_type: ClassVar[str] = "Fleeting"
    indices: ClassVar[tuple[Index, ...]] = (
        Index(("date_modified",), expire_after=timedelta(days=2)),
    )


@pytest.mark.parametrize("age", [None, timedelta(days=5), timedelta(days=1)])
def test_expired_results_go_in_any_case(service, age):
    """What an index lets expire goes, is counted once, and so are its blobs."""
    for day in range(6):
        service.store(
            Fleeting(
                project_name="linac",
                inputs={"day": day},
                outputs={"array": np.full(20_000, 0.5 + day)},
                date_modified=NOW - timedelta(days=day, minutes=1),
            )
        )
    chosen = {"older_than": age, "blobs_older_than": timedelta(0)}
    outlook = prune_results(service, **chosen, dry_run=True)
    report = prune_results(service, **chosen)
    assert service.count("linac", result_type="Fleeting") == 2 - (age == timedelta(1))
    assert (report.types, report.expired) == (outlook.types, outlook.expired)
    assert report.expired == {None: 4, timedelta(5): 3, timedelta(1): 0}[age]
    assert (report.blobs, report.blob_bytes) == (outlook.blobs, outlook.blob_bytes)
    assert service.db_service.unused_blobs(timedelta(0)) == []
