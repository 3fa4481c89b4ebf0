"""Databases that the tests of export, import, copy and prune start from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stores import SQLDBService
from prefect_lume.results.transfer import export_results
from prefect_lume.storage.sql import get_engine

Make = Callable[[], ResultsService]


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Make]:
    """Makes results services, each with a database of its own."""
    made: list[SQLDBService] = []

    def make() -> ResultsService:
        store = SQLDBService(get_engine(f"sqlite:///{tmp_path / f'{len(made)}.db'}"))
        store.create_tables()
        made.append(store)
        return ResultsService(store)

    yield make
    for store in made:
        store.engine.dispose()


def fill(service: ResultsService) -> None:
    """Store twelve results in two projects, half of them with one and the same blob."""
    shared = np.zeros(20_000)
    for n in range(12):
        outputs = {"array": shared if n % 2 else np.full(20_000, n + 1.0), "n": n}
        service.store(
            Result(
                project_name=f"project {n % 2}",
                inputs={"n": n, "text": "é🌌", "small": 5e-324},
                outputs=outputs,
            )
        )
    # A list so long that it leaves the document, with an array's blob inside it.
    far = [*range(300_000), np.zeros(20_001)]
    service.store(Result(project_name="project 0", outputs={"far": far}))


@pytest.fixture(scope="session")
def filled_and_exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a filled database, and an export of it."""
    place = tmp_path_factory.mktemp("original")
    store = SQLDBService(get_engine(f"sqlite:///{place / 'results.db'}"))
    store.create_tables()
    service = ResultsService(store)
    fill(service)
    export_results(service, place / "exported")
    store.engine.dispose()
    return place


@pytest.fixture
def filled_service(
    make_service: Make, filled_and_exported: Path, tmp_path: Path
) -> ResultsService:
    """The filled database."""
    shutil.copy(filled_and_exported / "results.db", tmp_path / "0.db")
    return make_service()


@pytest.fixture
def exported(filled_and_exported: Path, tmp_path: Path) -> Path:
    """The results, exported."""
    return shutil.copytree(filled_and_exported / "exported", tmp_path / "exported")
