"""Pipeline results in SQL databases: the same rows as the storage in memory."""

from __future__ import annotations

import copy
import dataclasses
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, func, select

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
from prefect_lume.pipelines.rows import ExecutionRow, Kind, ResultRow, result_id
from prefect_lume.testing.pipelines_generated import History
from prefect_lume.testing.pipelines_told import joined

SERVERS = [
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
]
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


DATABASES = ["sqlite", *SERVERS]
Emptied = Callable[[str, Callable[[Engine], None]], Engine]


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, emptied_database: Emptied) -> Engine:
    return emptied_database(request.param, upgrade)


@pytest.fixture
def storage(engine: Engine) -> OrmPipelineResultsStorage:
    return OrmPipelineResultsStorage(engine)


@pytest.fixture
def memory() -> MemoryPipelineResultsStorage:
    return MemoryPipelineResultsStorage()


def told(seeds: range, order: int) -> list[Batch]:
    """Return what some runs tell: in any order, some of it twice, runs mixed."""
    batches = [b for seed in seeds for b in History(seed).rearranged(order)]
    chance = random.Random(order)
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
    engine: Engine, memory: MemoryPipelineResultsStorage, prepared: bool
) -> None:
    """Recorders that tell the same at once write it once, on anybody's engine."""
    own = engine if prepared else create_engine(engine.url)
    storage = OrmPipelineResultsStorage(own)
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
    if own is not engine:
        own.dispose()


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


@pytest.mark.parametrize("id_", ["x" * 65, "a\0b"])
def test_ids_that_cannot_be_ids(storage: OrmPipelineResultsStorage, id_: str) -> None:
    """An id that does not fit is refused when stored, and not found when read."""
    with pytest.raises(InvalidInputError, match="cannot be an id here"):
        storage.build_pipeline_execution(Pipeline("scan"), id_)
    assert storage.get_pipeline_execution(id_) is None
    assert storage.get_history([id_]) == {}
    assert storage.count_states(id_) == 0
    assert storage.find_run_ids(id_) == []
    storage.remove([id_])


def test_ids_by_their_beginning(storage: OrmPipelineResultsStorage) -> None:
    """Runs are found by the beginning of their ids, exactly."""
    for id_ in ("ab", "abc", "aBd", "b", "%"):
        storage.build_pipeline_execution(Pipeline("scan"), id_)
    assert storage.find_run_ids("ab") == ["ab", "abc"]
    assert storage.find_run_ids("ab", limit=1) == ["ab"]
    assert storage.find_run_ids("abcd") == []
    assert storage.find_run_ids("%") == ["%"]
    assert len(storage.find_run_ids("", limit=10)) == 5


def some_runs(storage: PipelineStorage) -> None:
    """Build runs of which some were made at the same time, and some never began."""
    for number in range(12):
        pipeline = Pipeline(
            f"pipeline {number % 3}",
            [PipelineTask("track", objects=["a", "b"])],
            objects=[1, 2] if number % 2 else None,
        )
        storage.build_pipeline_execution(pipeline, f"run-{number:02}")

    def date(session: PipelineSession) -> None:
        rows = session.get(Kind.EXECUTION, [f"run-{n:02}" for n in range(12)])
        for number, row in enumerate(rows.values()):
            made = START + timedelta(minutes=number // 3)
            row.created = None if number == 7 else made
            row.started = made + timedelta(hours=number) if number % 2 else None
            assert isinstance(row, ExecutionRow)
            row.deployment_id = number % 4 or None
        session.put(Kind.EXECUTION, list(rows.values()))

    storage.transaction(date)


def copy_rows(memory: PipelineStorage, storage: PipelineStorage) -> None:
    """Put the rows of one storage into another one as they are."""

    def put(session: PipelineSession) -> None:
        session.lock([row.id for row in memory.find(Kind.EXECUTION)])
        for kind in Kind:
            session.put(kind, memory.find(kind))

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
    storage: OrmPipelineResultsStorage, kind: Kind, asked: dict[str, Any]
) -> None:
    """Filters, times, order and pages give what they give in memory."""
    memory = MemoryPipelineResultsStorage()
    some_runs(memory)
    copy_rows(memory, storage)
    assert storage.find(kind, **asked) == memory.find(kind, **asked)
    if not {"limit", "skip"} & asked.keys():
        assert list(storage.iterate(kind, **asked)) == memory.find(kind, **asked)
        asked = {name: asked[name] for name in asked if name != "newest_first"}

        def tallies(storage: PipelineStorage) -> list[str]:
            return sorted(map(str, storage.tally(kind, **asked)))

        assert tallies(storage) == tallies(memory)


def test_too_many_values(storage: OrmPipelineResultsStorage) -> None:
    """A condition of more values than a database takes is refused in words."""
    with pytest.raises(InvalidInputError, match="'id' has 10001 values"):
        storage.find(Kind.EXECUTION, {"id": [str(n) for n in range(10_001)]})
    assert storage.find(Kind.EXECUTION, {"id": [str(n) for n in range(10_000)]}) == []


def test_rows_are_streamed(storage: OrmPipelineResultsStorage) -> None:
    """More rows than are in memory at a time come in order, also if not all are read.

    The connection is free again afterwards.
    """
    pipeline = Pipeline("scan", objects=list(range(2500)))
    storage.build_pipeline_execution(pipeline, "run")
    where = {"run_id": "run"}
    rows = list(storage.iterate(Kind.RESULT, where))
    assert rows == storage.find(Kind.RESULT, where)
    assert [row.index for row in rows if isinstance(row, ResultRow)] == [*range(2500)]
    some = storage.iterate(Kind.RESULT, where)
    assert next(some) == rows[0]
    del some
    storage.remove(["run"])
    assert storage.find(Kind.RESULT) == []


def rows_left(engine: Engine) -> dict[str, int]:
    """Return how many rows each table with rows of runs has."""
    with engine.connect() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (*OF_RUNS, metadata.tables["pipeline_digest"])
        }


def test_removed_runs_leave_nothing(
    storage: OrmPipelineResultsStorage, memory: MemoryPipelineResultsStorage
) -> None:
    """After removing, rows and digest are those of the runs that stay, then none."""
    for batch in told(range(300, 312), 1):
        memory.record(copy.deepcopy(batch))
        storage.record(batch)
    runs = [row.id for row in storage.find(Kind.EXECUTION)]
    for some in (runs[:5], ["nobody", runs[5]]):
        memory.remove(some)
        storage.remove(some)
        assert everything(storage) == everything(memory)
    assert storage.cleanup() == runs[6:]
    assert set(rows_left(storage.engine).values()) == {0}


def test_digest_keeps_up(storage: OrmPipelineResultsStorage) -> None:
    """Counters, the last run and the average follow what changes, ends and goes."""
    for number in range(3):
        run, at = f"run-{number}", number * 10
        facts = FlowRunFacts(run_id=run, flow_run_id=run, pipeline_id="scan")
        storage.record(Batch([change(run, Kind.EXECUTION, run, at)], [facts]))
    item = storage.get_pipeline_digest()["scan"]
    assert (item.total_runs, item.total_open) == (0, 3)
    assert item.last_ran == START + timedelta(seconds=20)
    ends = {
        "run-0": (PipelineTaskStatus.DONE, 1.5),
        "run-2": (PipelineTaskStatus.RUNTIME_ERROR, 20.25),
    }
    for run, (status, at) in ends.items():
        ended = change(run, Kind.EXECUTION, run, at, status=status, state_type="X")
        storage.record(Batch([ended]))
    item = storage.get_pipeline_digest()["scan"]
    assert (item.total_success, item.total_failure, item.total_open) == (1, 1, 1)
    assert item.average_runtime == (1.5 + 0.25) / 2
    storage.remove(["run-2"])
    item = storage.get_pipeline_digest()["scan"]
    assert (item.total_success, item.total_failure, item.total_open) == (1, 0, 1)
    assert item.last_ran == START + timedelta(seconds=10)
    assert item.average_runtime == 1.5
    named = storage.get_pipeline_results("run-0")[0]
    named.set_completed(START + timedelta(seconds=4))
    named.save()
    assert storage.get_pipeline_digest()["scan"].average_runtime == 4
    storage.remove(["run-0", "run-1"])
    assert storage.get_pipeline_digest() == {}


def test_removing_while_it_is_recorded(storage: OrmPipelineResultsStorage) -> None:
    """Recorders of runs that are removed all the while do not fail."""
    stop = threading.Event()

    def remove() -> int:
        turns = 0
        while not stop.is_set():
            storage.cleanup()
            turns += 1
        return turns

    def tell(order: int) -> None:
        for batch in told(range(400, 402), order):
            # What was told of a run before it was removed has to be told again.
            storage.record(batch.__class__([], batch.flow_runs, batch.task_runs))

    with ThreadPoolExecutor(3) as pool:
        removing = pool.submit(remove)
        list(pool.map(tell, range(2)))
        stop.set()
        assert removing.result() > 0
    storage.cleanup()
    left = rows_left(storage.engine)
    storage.remove([History(seed).run_id for seed in (400, 401)])
    assert set(rows_left(storage.engine).values()) == {0}, left


def test_deadlocks_are_repeated(request: pytest.FixtureRequest, storage: Any) -> None:
    """Two writers that lock the same runs crosswise both get through."""
    if storage.engine.dialect.name == "sqlite":
        storage.build_pipeline_execution(Pipeline("scan"), "only-one-writer")
        return
    both = threading.Barrier(2)
    tries: list[str] = []

    def write(first: str, second: str) -> None:
        def work(session: PipelineSession) -> None:
            tries.append(first)
            session.lock([first])
            if len(tries) <= 2:
                both.wait(30)
            session.lock([second])

        storage.transaction(work)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab", "ba"))
    assert len(tries) > 2


def test_positions_only_move_forward(storage: OrmPipelineResultsStorage) -> None:
    """Whoever sets a source's position last, the furthest one is kept."""
    assert storage.get_position("events") is None
    moments = [START + timedelta(microseconds=n) for n in range(40)]
    random.Random(1).shuffle(moments)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda at: storage.set_position("events", at), moments))
    assert storage.get_position("events") == max(moments)
    assert storage.get_position("Events") is None
    with pytest.raises(InvalidInputError, match="without a zone"):
        storage.set_position("events", datetime(2030, 1, 1))  # noqa: DTZ001 - the point.


def test_a_run_is_built_once(storage: OrmPipelineResultsStorage) -> None:
    """Of two that build the same run at once one does, and the digest counts one."""
    ready = threading.Barrier(2)

    def build(_: int) -> bool:
        ready.wait()
        try:
            storage.build_pipeline_execution(Pipeline("scan"), "run")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(build, range(2))) == [False, True]
    assert storage.get_pipeline_digest()["scan"].total_open == 1


def test_broken_off_work_leaves_nothing(storage: OrmPipelineResultsStorage) -> None:
    """What was done before work failed is taken back, the digest included."""
    batch = told(range(500, 501), 1)[0]
    strange = change("run", Kind.TASK_RESULT, "nobody", 1)
    with pytest.raises(InvalidInputError, match="of which nothing is known"):
        storage.record(Batch([*batch.changes, strange], batch.flow_runs))
    assert set(rows_left(storage.engine).values()) == {0}


def test_statements_do_not_grow_with_the_batch(
    storage: OrmPipelineResultsStorage,
) -> None:
    """A batch of 200 runs that end takes about as many statements as one of 20."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    def told(count: int) -> int:
        batch = Batch()
        for number in range(count):
            run, task = f"run-{count}-{number}", f"task-{count}-{number}"
            batch.flow_runs.append(FlowRunFacts(run_id=run, flow_run_id=run))
            batch.task_runs.append(
                TaskRunFacts(
                    task_run_id=task,
                    run_id=run,
                    pipeline_result_id=result_id(run),
                    task_id="key",
                )
            )
            done = {"status": PipelineTaskStatus.DONE, "state_type": "COMPLETED"}
            batch.changes += [
                change(run, Kind.TASK_RESULT, task, 2, **done),
                change(run, Kind.EXECUTION, run, 3, **done),
            ]
        sent.clear()
        storage.record(batch)
        return len(sent)

    event.listen(storage.engine, "before_cursor_execute", note)
    few, many = told(20), told(200)
    event.remove(storage.engine, "before_cursor_execute", note)
    assert many <= few + 10


def test_missing_tables_are_named(tmp_path: Path) -> None:
    """On a database without the tables the error says what to run."""
    storage = OrmPipelineResultsStorage(url=f"sqlite:///{tmp_path / 'empty.db'}")
    for ask in (storage.get_pipeline_digest, storage.get_pipeline_executions):
        with pytest.raises(SchemaError, match="prefect-lume db upgrade"):
            ask()
    with pytest.raises(SchemaError, match="prefect-lume db upgrade"):
        storage.build_pipeline_execution(Pipeline("scan"), "run")
    storage.engine.dispose()


def test_missing_server_is_named_without_the_password() -> None:
    """A server that does not answer is told by its address, and nothing secret."""
    storage = OrmPipelineResultsStorage(
        url="mysql+pymysql://lume:hidden-word@127.0.0.1:9/lume"
    )
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:9") as caught:
        storage.get_pipeline_digest()
    assert "hidden-word" not in f"{caught.value!r} {storage!r}"
