"""The storage in SQL databases: how it is made, and SQLite in memory."""

import copy
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from sqlalchemy import StaticPool, create_engine

from prefect_lume.errors import ConfigurationError
from prefect_lume.pipelines import Pipeline
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.orm import (
    OrmPipelineExecution,
    OrmPipelineResult,
    OrmPipelineResultsStorage,
)
from prefect_lume.pipelines.rows import Kind
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing.pipelines_generated import History, differences, rows_of


@pytest.fixture
def storage():
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    storage = OrmPipelineResultsStorage(engine)
    storage.create_tables()
    yield storage
    engine.dispose()


@pytest.mark.parametrize("given", [{}, {"engine": 1, "url": "sqlite://"}])
def test_one_of_engine_and_url(given):
    """Neither an engine nor a URL, or both, is refused."""
    with pytest.raises(ConfigurationError, match="either an engine or a url"):
        OrmPipelineResultsStorage(**given)


def test_made_for_a_context(tmp_path):
    """A context gives its engine, unless the settings name another database."""
    engine = get_engine(f"sqlite:///{tmp_path / 'context.db'}")
    context = SimpleNamespace(pipelines_engine=lambda: engine)
    assert OrmPipelineResultsStorage.for_context(context).engine is engine
    url = f"sqlite:///{tmp_path / 'other.db'}"
    other = OrmPipelineResultsStorage.for_context(context, url=url)
    assert other.engine is get_engine(url)


def test_shown_without_the_password():
    """The storage shows where it is, and no secret."""
    storage = OrmPipelineResultsStorage(url="mysql+pymysql://lume:hidden@db:3306/lume")
    assert repr(storage) == (
        "<OrmPipelineResultsStorage mysql+pymysql://lume@db:3306/lume>"
    )


def test_objects_are_its_own(storage):
    """What it returns are its extensions of the four classes."""
    execution = storage.build_pipeline_execution(Pipeline("scan"), "run")
    assert type(execution) is OrmPipelineExecution
    assert type(execution.get_pipeline_results()[0]) is OrmPipelineResult


def test_threads_share_one_database_in_memory(storage):
    """Threads take turns on the only connection, also while one streams."""
    pipeline = Pipeline("scan", objects=list(range(1500)))
    storage.build_pipeline_execution(pipeline, "long")

    def work(number):
        storage.build_pipeline_execution(Pipeline("scan"), f"run-{number}")
        return sum(1 for _ in storage.iterate(Kind.RESULT, {"run_id": "long"}))

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(12))) == {1500}
    assert storage.get_pipeline_digest()["scan"].total_open == 1512


@pytest.mark.parametrize("seed", range(1000, 1025))
def test_order_of_telling_does_not_matter(storage, seed):
    """However a history is told, the rows are those of the storage in memory."""
    history = History(seed)
    memory = MemoryPipelineResultsStorage()
    memory.record(copy.deepcopy(history.whole()))
    for batch in history.rearranged(seed):
        storage.record(copy.deepcopy(batch))
    expected = rows_of(memory, history.run_id)
    assert list(differences(expected, rows_of(storage, history.run_id))) == []
    for kind in Kind:
        ids = [row.id for row in memory.find(kind)]
        assert storage.get_history(ids) == memory.get_history(ids)
