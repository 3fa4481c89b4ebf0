"""Pipeline results in SQL databases: the same rows as the storage in memory."""

from __future__ import annotations

import copy
import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, func, make_url, select, text

from prefect_lume.errors import (
    ConflictError,
    ConnectionFailedError,
    InvalidInputError,
    SchemaError,
)
from prefect_lume.migrations import upgrade
from prefect_lume.pipelines import (
    Batch,
    FlowRunFacts,
    Pipeline,
    PipelineSession,
    PipelineStorage,
    PipelineTask,
    PipelineTaskStatus,
    StateChange,
    TaskRunFacts,
)
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.orm import OrmPipelineResultsStorage
from prefect_lume.pipelines.orm.tables import OF_RUNS, metadata
from prefect_lume.pipelines.rows import Kind, result_id
from prefect_lume.storage.sql import get_engine
from prefect_lume.testing.pipelines_generated import History
from prefect_lume.testing.pipelines_told import joined

SERVERS = [
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
]
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", *SERVERS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lume.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def storage(url: str) -> Iterator[OrmPipelineResultsStorage]:
    engine = get_engine(url)
    upgrade(engine)
    yield OrmPipelineResultsStorage(engine)
    engine.dispose()


@pytest.fixture
def memory() -> MemoryPipelineResultsStorage:
    return MemoryPipelineResultsStorage()


def told(seeds: range, order: int) -> list[Batch]:
    """Return what some runs tell: in any order, some of it twice, runs mixed."""
    batches = [b for seed in seeds for b in History(seed).rearranged(order)]
    chance = random.Random(order)  # noqa: S311 - a test's choice, repeatable.
    chance.shuffle(batches)
    mixed = []
    while batches:
        size = chance.randint(1, 6)
        mixed.append(copy.deepcopy(joined(batches[:size])))
        batches = batches[size:]
    return mixed


def everything(storage: PipelineStorage) -> dict[str, Any]:
    """Return all that a storage holds."""
    rows = {kind: storage.find(kind) for kind in Kind}
    targets = [row.id for found in rows.values() for row in found]
    return {
        **{kind.value: [dataclasses.asdict(r) for r in rows[kind]] for kind in Kind},
        "history": storage.get_history(targets),
        "states": storage.count_states(),
        "digest": digest(storage),
    }


def digest(storage: PipelineStorage) -> dict[str, Any]:
    """Return the digest, averages to the microsecond or so."""
    return {
        name: {**item.as_json(), "average_runtime": pytest.approx(item.average_runtime)}
        for name, item in storage.get_pipeline_digest().items()
    }


def change(run: str, kind: Kind, target: str, at: float, **more: Any) -> StateChange:
    """Return a change of an object to ``RUNNING``, so many seconds after the start."""
    given = {"status": PipelineTaskStatus.RUNNING, "id": f"{target}@{at}", **more}
    when = START + timedelta(seconds=at)
    return StateChange(run_id=run, kind=kind, target=target, timestamp=when, **given)


@pytest.mark.parametrize("seed", range(0, 40, 8))
def test_same_rows_as_in_memory(
    storage: OrmPipelineResultsStorage, memory: MemoryPipelineResultsStorage, seed: int
) -> None:
    """Told the same in another order and twice, it holds what the memory holds."""
    for batch in told(range(seed, seed + 8), 1):
        memory.record(batch)
    for batch in told(range(seed, seed + 8), 2):
        storage.record(batch)
    assert everything(storage) == everything(memory)


def test_same_new_changes_and_rows_at_every_step(
    storage: OrmPipelineResultsStorage, memory: MemoryPipelineResultsStorage
) -> None:
    """After every batch both storages hold the same, and say the same of it."""
    for batch in told(range(100, 102), 3):
        assert storage.record(copy.deepcopy(batch)) == memory.record(batch)
        assert everything(storage) == everything(memory)


@pytest.mark.parametrize("prepared", [True, False])
def test_writers_of_the_same_runs_take_turns(
    url: str, memory: MemoryPipelineResultsStorage, prepared: bool
) -> None:
    """Recorders that tell the same at once write it once, on anybody's engine."""
    engine = get_engine(url) if prepared else create_engine(url)
    upgrade(engine)
    storage = OrmPipelineResultsStorage(engine)
    for batch in told(range(200, 203), 0):
        memory.record(batch)
    ready = threading.Barrier(3)

    def tell(order: int) -> None:
        ready.wait()
        for batch in told(range(200, 203), order):
            storage.record(batch)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(tell, range(3)))
    assert everything(storage) == everything(memory)
    engine.dispose()


def test_many_runs_and_tasks_in_one_batch(
    storage: OrmPipelineResultsStorage, memory: MemoryPipelineResultsStorage
) -> None:
    """A batch of more runs and tasks than a statement takes is recorded as one."""
    batch = Batch()
    for number in range(620):
        run = f"run-{number:03}"
        batch.flow_runs.append(FlowRunFacts(run_id=run, flow_run_id=run))
        batch.task_runs.append(
            TaskRunFacts(
                task_run_id=f"task-{number}",
                run_id=run,
                pipeline_result_id=result_id(run),
                task_id=f"key-{number}",
            )
        )
        failed = PipelineTaskStatus.RUNTIME_ERROR
        batch.changes += [
            change(run, Kind.EXECUTION, run, 1),
            change(run, Kind.TASK_RESULT, f"task-{number}", 2),
            change(run, Kind.TASK_RESULT, f"task-{number}", 3, status=failed),
        ]
    assert storage.record(copy.deepcopy(batch)) == memory.record(batch) == 1860
    assert everything(storage) == everything(memory)
    assert storage.cleanup() == memory.cleanup()
    assert everything(storage) == everything(memory)


def test_first_failure_of_many_at_the_same_time(
    storage: OrmPipelineResultsStorage, memory: MemoryPipelineResultsStorage
) -> None:
    """Of failures at the same microsecond the one of the lowest id counts."""
    run = "run"
    failed = PipelineTaskStatus.RUNTIME_ERROR
    ids = [f"task-{number}" for number in (3, 1, 2)]
    batch = Batch(
        [
            change(run, Kind.TASK_RESULT, id_, 5, status=failed, message=f"by {id_}")
            for id_ in ids
        ],
        [FlowRunFacts(run_id=run, flow_run_id=run)],
        [
            TaskRunFacts(
                task_run_id=id_,
                run_id=run,
                pipeline_result_id=result_id(run),
                task_id="key",
            )
            for id_ in ids
        ],
    )
    storage.record(copy.deepcopy(batch))
    memory.record(batch)
    assert everything(storage) == everything(memory)
    execution = storage.get_pipeline_execution_or_raise(run)
    assert execution.get_message() == "by task-1"


def test_texts_that_are_long_or_odd_hold_nothing_up(
    storage: OrmPipelineResultsStorage,
) -> None:
    """Names are cut, and found by the whole name; messages of 100,000 are kept."""
    name, message = "ä" * 300, "🙂 \0 \ud800" * 20_000
    facts = FlowRunFacts(
        run_id="run",
        flow_run_id="run",
        pipeline_id=name,
        run_name="n" * 1000,
        input_data={"charge": 1.0, "zero": -0.0, "big": 2**70, "ключ": ["🙂"]},
    )
    told = [change("run", Kind.EXECUTION, "run", 0, message=message)]
    assert storage.record(Batch(told, [facts])) == 1
    assert storage.record(Batch(told, [facts])) == 0
    (execution,) = storage.get_pipeline_executions(name)
    assert execution.get_pipeline_id() == "ä" * 254 + "…"
    assert len(execution.get_message()) > 100_000
    assert str(execution.get_input_data()) == str(facts.input_data)
    assert list(storage.get_pipeline_digest()) == ["ä" * 254 + "…"]


@pytest.mark.parametrize("id_", ["x" * 65, "ä", "a\nb"])
def test_ids_that_cannot_be_ids(storage: OrmPipelineResultsStorage, id_: str) -> None:
    """An id that does not fit is refused when stored, and not found when read."""
    with pytest.raises(InvalidInputError, match="cannot be an id here"):
        storage.build_pipeline_execution(Pipeline("scan"), id_)
    assert storage.get_pipeline_execution(id_) is None
    assert storage.get_history([id_]) == {}
    assert storage.count_states(id_) == 0
    assert storage.find_run_ids(id_) == []
    storage.remove([id_])


def some_runs(storage: PipelineStorage) -> None:
    """Build runs of which some were made at the same time, and some never began."""
    for number in range(12):
        pipeline = Pipeline(
            f"pipeline {number % 3}",
            [PipelineTask("track", objects=["a", "b"])],
            objects=[1, 2] if number % 2 else None,
        )
        storage.build_pipeline_execution(pipeline, f"run-{number:02}")
        made = START + timedelta(minutes=number // 3)

        def put(session: PipelineSession, number: int = number) -> None:
            (row,) = session.get(Kind.EXECUTION, [f"run-{number:02}"]).values()
            row.created = None if number == 7 else made  # noqa: B023 - called at once.
            row.started = made + timedelta(hours=number) if number % 2 else None  # noqa: B023
            row.deployment_id = number % 4 or None  # type: ignore[attr-defined]
            session.put(Kind.EXECUTION, [row])

        storage.transaction(put)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (Kind.EXECUTION, {}),
        (Kind.EXECUTION, {"newest_first": True}),
        *(
            (Kind.EXECUTION, {"newest_first": newest, "limit": limit, "skip": skip})
            for newest in (False, True)
            for limit, skip in ((1, 0), (4, 0), (4, 5), (5, 9), (50, 1), (None, 8))
        ),
        (Kind.EXECUTION, {"limit": 0}),
        (Kind.EXECUTION, {"limit": 0, "newest_first": True}),
        (Kind.EXECUTION, {"since": START + timedelta(minutes=2)}),
        (Kind.EXECUTION, {"before": START + timedelta(hours=3), "limit": 3}),
        (
            Kind.EXECUTION,
            {
                "since": START + timedelta(minutes=1),
                "before": START + timedelta(hours=9),
                "newest_first": True,
                "limit": 3,
                "where": {"pipeline_id": "pipeline 1"},
            },
        ),
        (Kind.EXECUTION, {"where": {"pipeline_id": ["pipeline 0", "pipeline 2"]}}),
        (Kind.EXECUTION, {"where": {"deployment_id": [1, None]}}),
        (Kind.EXECUTION, {"where": {"deployment_id": ["1", 2**80, "' OR 1=1 --"]}}),
        (Kind.EXECUTION, {"where": {"pipeline_id": ["PIPELINE 0", "pipeline 0 ", 0]}}),
        (Kind.EXECUTION, {"where": {"status": ["PENDING", "nonsense"]}}),
        (Kind.EXECUTION, {"where": {"status": []}}),
        (Kind.RESULT, {"where": {"run_id": "run-03"}}),
        (Kind.RESULT, {"where": {"pipeline_id": "pipeline 1"}, "limit": 3, "skip": 1}),
        (Kind.TASK_EXECUTION, {"where": {"pipeline_task": "track"}}),
        (Kind.TASK_RESULT, {"where": {"pipeline_result_id": result_id("run-03", 1)}}),
    ],
)
def test_found_as_in_memory(
    sqlite_and_servers: Callable[[], OrmPipelineResultsStorage],
    kind: Kind,
    asked: dict[str, Any],
) -> None:
    """Filters, times, order and pages give what they give in memory."""
    storage = sqlite_and_servers()
    memory = MemoryPipelineResultsStorage()
    some_runs(memory)
    # The ids are the same; the times of building are not, so they are copied.
    for each in Kind:
        rows = memory.find(each)
        storage.transaction(lambda s, each=each, rows=rows: s.put(each, rows))
    assert storage.find(kind, **asked) == memory.find(kind, **asked)
    if not {"limit", "skip"} & asked.keys():
        assert list(storage.iterate(kind, **asked)) == memory.find(kind, **asked)
        asked = {name: asked[name] for name in asked if name != "newest_first"}

        def tallies(storage: PipelineStorage) -> list[str]:
            return sorted(map(str, storage.tally(kind, **asked)))

        assert tallies(storage) == tallies(memory)
