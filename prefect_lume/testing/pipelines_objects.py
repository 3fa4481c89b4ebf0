"""Part of the contract of a pipelines storage: the four kinds of objects."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final

import pytest

from prefect_lume.errors import ConflictError, InvalidInputError, NotFoundError
from prefect_lume.pipelines import (
    Batch,
    Pipeline,
    PipelineExecution,
    PipelineResult,
    PipelineStorage,
    PipelineTask,
    PipelineTaskStatus,
    TaskExecution,
    TaskResult,
    helpers,
)
from prefect_lume.pipelines.base import PipelineStorageObject
from prefect_lume.pipelines.filters import FILTERS
from prefect_lume.pipelines.rows import Kind
from prefect_lume.testing.pipelines_told import at, flow_run, tell

_S = PipelineTaskStatus

#: Two objects, a task that runs once and one that is mapped: a run of it has
#: 1 execution, 2 results, 4 task executions and 8 task results.
SCAN: Final = Pipeline(
    "scan",
    [
        PipelineTask("read", config={"file": "a.h5"}),
        PipelineTask("track", "track-1a", objects=[1, {"n": 2}, "three"]),
    ],
    objects=[{"shot": 1}, {"shot": 2}],
)


def one_of_each(storage: PipelineStorage, run_id: str) -> list[PipelineStorageObject]:
    """Return the first object of each kind of a run, from the top down."""
    execution = storage.get_pipeline_execution_or_raise(run_id)
    result = execution.get_pipeline_results()[0]
    task = result.get_task_executions()[0]
    return [execution, result, task, task.get_task_results()[0]]


class ObjectsContract:
    """What every pipelines storage promises of the objects that it returns."""

    def test_nothing_is_in_an_empty_storage(self, storage: PipelineStorage) -> None:
        """Lists are empty, an unknown id is nothing, and there is no digest."""
        assert storage.get_pipeline_executions() == []
        assert storage.get_pipeline_results() == []
        assert storage.get_task_executions() == []
        assert storage.get_task_results() == []
        assert storage.get_pipeline_execution("unknown") is None
        assert storage.get_pipeline_result("unknown") is None
        assert storage.get_task_execution("unknown") is None
        assert storage.get_task_result("unknown") is None
        assert storage.get_pipeline_digest() == {}
        assert storage.count_states() == 0
        assert storage.cleanup() == []

    def test_building_makes_all_that_a_run_has(self, storage: PipelineStorage) -> None:
        """One execution, a result for each object, a task, a task's object."""
        execution = storage.build_pipeline_execution(
            SCAN, "run-1", "my.Runner", "my.Reporter", {"speed": 1.5}
        )
        assert execution.get_id() == execution.get_run_id() == "run-1"
        assert execution.get_pipeline_id() == "scan"
        assert execution.get_input_data() == {"speed": 1.5}
        results = storage.get_pipeline_results(run_id="run-1")
        assert [result.get_index() for result in results] == [0, 1]
        objects = [result.get_pipeline_object() for result in results]
        assert objects == [{"shot": 1}, {"shot": 2}]
        assert {r.get_runner() for r in results} == {"my.Runner"}
        assert {r.get_reporter() for r in results} == {"my.Reporter"}
        for result in results:
            tasks = {t.get_pipeline_task(): t for t in result.get_task_executions()}
            assert tasks.keys() == {"read", "track"}
            assert tasks["read"].get_config() == {"file": "a.h5"}
            assert tasks["track"].get_task_id() == "track-1a"
            runs = tasks["track"].get_task_results()
            assert [run.get_task_object() for run in runs] == [1, {"n": 2}, "three"]
            (only,) = tasks["read"].get_task_results()
            assert only.get_task_object() is None
            assert only.get_pipeline_task() == "read"
        every = [
            *storage.get_pipeline_executions(),
            *storage.get_pipeline_results(),
            *storage.get_task_executions(),
            *storage.get_task_results(),
        ]
        assert len(every) == 1 + 2 + 4 + 8
        assert len({each.get_id() for each in every}) == len(every)
        for each in every:
            assert each.get_status() is _S.PENDING
            assert each.get_message()
            assert each.get_created() is not None
            assert each.get_started() is each.get_completed() is None

    def test_a_pipeline_without_objects_has_one_result(
        self, storage: PipelineStorage
    ) -> None:
        """What runs over nothing has one result, whose object is nothing."""
        storage.build_pipeline_execution(Pipeline("once", [PipelineTask("a")]), "run-1")
        (result,) = storage.get_pipeline_results("run-1")
        assert result.get_pipeline_object() is None
        assert len(storage.get_task_results("run-1")) == 1

    def test_only_the_execution_is_built_if_so_asked(
        self, storage: PipelineStorage
    ) -> None:
        """A run whose configuration is wrong is kept with the reason, and no tasks."""
        execution = storage.build_pipeline_execution(SCAN, "run-1", build_all=False)
        assert storage.get_pipeline_results("run-1") == []
        assert storage.get_task_executions("run-1") == []
        assert storage.get_task_results("run-1") == []
        assert execution.report_status_change("CONFIG_ERROR", "no such task: 'trakc'")
        found = storage.get_pipeline_execution_or_raise("run-1")
        assert found.get_status() is _S.CONFIG_ERROR
        assert found.get_message() == "no such task: 'trakc'"
        assert found.get_completed() is not None

    def test_a_run_is_built_once(self, storage: PipelineStorage) -> None:
        """Of many that build a run of one id, one does; the others are refused."""

        def build(number: int) -> bool:
            try:
                storage.build_pipeline_execution(
                    SCAN, "run-1", input_data={"number": number}
                )
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(build, range(4))) == [False] * 3 + [True]
        assert len(storage.get_task_results("run-1")) == 8
        with pytest.raises(ConflictError, match="run-1"):
            storage.build_pipeline_execution(SCAN, "run-1")

    def test_objects_are_of_the_storages_own_classes(
        self, storage: PipelineStorage
    ) -> None:
        """A storage returns extensions of the four base classes, its own."""
        storage.build_pipeline_execution(SCAN, "run-1")
        bases = [PipelineExecution, PipelineResult, TaskExecution, TaskResult]
        for found, base in zip(one_of_each(storage, "run-1"), bases, strict=True):
            assert isinstance(found, base)
            assert type(found) is not base
            assert found.content_type_name == base.__name__
            assert found.storage is storage

    def test_properties_are_read_and_set_by_the_three_rules(
        self, storage: PipelineStorage
    ) -> None:
        """``get_x`` is the method, else the attribute, else an ``AttributeError``."""
        storage.build_pipeline_execution(SCAN, "run-1")
        for found in one_of_each(storage, "run-1"):
            plain: Any = found
            extended: Any = _shouting(type(found))(found.row, storage)
            assert extended.get_message() == plain.get_message().upper()
            assert plain.get_run_id() == plain.run_id == "run-1"
            plain.colour = "red"
            assert plain.get_colour() == "red"
            with pytest.raises(AttributeError, match="get_nothing"):
                plain.get_nothing()
            with pytest.raises(AttributeError, match="nothing"):
                plain.nothing  # noqa: B018 - that reading it raises is the point.
            plain.set_colour("blue")
            assert plain.colour == "blue"
            extended.set_colour("blue")
            assert extended.get_colour() == "BLUE"

    def test_what_was_set_is_kept_by_saving(self, storage: PipelineStorage) -> None:
        """A set value is there for others after ``save``, and nothing else is lost."""
        storage.build_pipeline_execution(SCAN, "run-1", input_data={"a": 1})
        _, _, _, mine = one_of_each(storage, "run-1")
        _, _, _, theirs = one_of_each(storage, "run-1")
        theirs.report_status_change("RUNNING", "on its way")
        mine.set_name("renamed")
        mine.save()
        found = storage.get_task_result(mine.get_id())
        assert found is not None
        assert found.get_name() == "renamed"
        assert found.get_status() is _S.RUNNING
        assert found.get_message() == "on its way"
        found.set_status("DONE")
        found.set_message("all is well")
        found.save()
        found = storage.get_task_result(mine.get_id())
        assert found is not None
        assert (found.get_status(), found.get_message()) == (_S.DONE, "all is well")
        assert found.get_completed() is not None
        found.set_status("RUNNING")
        found.save()
        assert found.get_status() is _S.DONE

    def test_each_object_is_found_by_its_id_and_leads_up_and_down(
        self, storage: PipelineStorage
    ) -> None:
        """One object of an id; parents and children know each other."""
        storage.build_pipeline_execution(SCAN, "run-1")
        execution, result, task, run = one_of_each(storage, "run-1")
        assert storage.get_pipeline_execution("run-1") == execution
        assert storage.get_pipeline_result(result.get_id()) == result
        assert storage.get_task_execution(task.get_id()) == task
        assert storage.get_task_result(run.get_id()) == run
        assert isinstance(run, TaskResult)
        assert run.get_pipeline_result_id() == result.get_id()
        assert run.get_task_execution() == task
        above = run.get_task_execution().get_pipeline_result()
        assert above == result
        assert above.get_pipeline_execution() == execution

    def test_many_are_found_by_what_they_belong_to(
        self, storage: PipelineStorage
    ) -> None:
        """Every filter of the helpers leaves what it says."""
        for run_id, pipeline in (("run-1", SCAN), ("run-2", Pipeline("other"))):
            storage.build_pipeline_execution(pipeline, run_id)
        execution, result, task, _ = one_of_each(storage, "run-1")
        found: list[Any] = helpers.get_pipeline_executions(storage=storage)
        assert [each.get_id() for each in found] == ["run-1", "run-2"]
        assert helpers.get_pipeline_executions("scan", storage=storage) == [execution]
        assert helpers.get_pipeline_executions("none", storage=storage) == []
        assert helpers.get_pipeline_execution("run-1", storage=storage) == execution
        assert len(helpers.get_pipeline_results(storage=storage)) == 3
        assert len(helpers.get_pipeline_results("run-1", storage=storage)) == 2
        assert helpers.get_pipeline_result(result.get_id(), storage=storage) == result
        assert len(helpers.get_task_executions(storage=storage)) == 4
        assert len(helpers.get_task_executions("run-1", storage=storage)) == 4
        assert len(helpers.get_task_executions("run-2", storage=storage)) == 0
        of_result = result.get_id()
        assert len(helpers.get_task_executions(None, of_result, storage=storage)) == 2
        assert helpers.get_task_execution(task.get_id(), storage=storage) == task
        assert len(helpers.get_task_results(storage=storage)) == 8
        assert len(helpers.get_task_results("run-1", storage=storage)) == 8
        assert len(helpers.get_task_results(None, of_result, storage=storage)) == 4
        for other in result.get_task_executions():
            runs = helpers.get_task_results(
                "run-1", of_result, other.get_id(), storage=storage
            )
            assert len(runs) == (1 if other.get_pipeline_task() == "read" else 3)
        assert helpers.get_task_result("unknown", storage=storage) is None

    def test_every_condition_finds_what_it_says(self, storage: PipelineStorage) -> None:
        """Each filter of each kind works with a value, and with a list of values."""
        runs = [flow_run("run-0"), flow_run("run-1", "run-0")]
        storage.record(Batch(flow_runs=runs))
        storage.build_pipeline_execution(SCAN, "run-2")
        one_of_each(storage, "run-2")[3].report_status_change("RUNNING")
        for kind, names in FILTERS.items():
            rows = storage.find(kind)
            for name in names:
                values = {getattr(row, name) for row in rows} - {None}
                for value in values:
                    expected = {row.id for row in rows if getattr(row, name) == value}
                    for given in (value, [value], (value, value)):
                        found = storage.find(kind, {name: given})
                        assert {row.id for row in found} == expected, (kind, name)
                several = storage.find(kind, {name: list(values)})
                known = [row for row in rows if getattr(row, name) is not None]
                assert len(several) == len(known)
            assert storage.find(kind, {"status": []}) == []
            both = storage.find(kind, {"status": "PENDING", "id": rows[0].id})
            assert [row.id for row in both] in ([], [rows[0].id])

    def test_an_unknown_condition_is_refused(self, storage: PipelineStorage) -> None:
        """A filter that does not exist is refused with the names of those that do."""
        for kind in Kind:
            with pytest.raises(InvalidInputError, match=r"statsu.*'status'"):
                storage.find(kind, {"statsu": "DONE"})
        with pytest.raises(InvalidInputError, match="colour"):
            storage.get_pipeline_executions(colour="red")
        naive = datetime(2026, 1, 1)  # noqa: DTZ001 - what is refused.
        with pytest.raises(InvalidInputError, match="zone"):
            storage.find(Kind.EXECUTION, since=naive)
        with pytest.raises(InvalidInputError, match="zone"):
            storage.find(Kind.EXECUTION, before=naive)
        with pytest.raises(InvalidInputError, match="zone"):
            storage.cleanup(naive)

    def test_runs_are_found_by_when_they_started(
        self, storage: PipelineStorage
    ) -> None:
        """Between two times, the first or last so many, in either order."""
        for day in range(5):
            run = flow_run(f"run-{day}", created=at(day))
            storage.record(tell(run, "Running", at(day)))
        waiting = flow_run("run-9", created=at(2))
        storage.record(tell(waiting, "Pending", at(2)))

        def ids(**how: Any) -> list[str]:
            return [each.get_id() for each in storage.get_pipeline_executions(**how)]

        third, fourth = at(2), at(3)
        everything = ["run-0", "run-1", "run-2", "run-9", "run-3", "run-4"]
        assert ids() == everything
        assert ids(since=third) == everything[2:]
        assert ids(before=third) == everything[:2]
        assert ids(since=third, before=fourth) == ["run-2", "run-9"]
        assert ids(limit=2) == everything[:2]
        assert ids(limit=0) == []
        newest = ["run-4", "run-3", "run-2", "run-9", "run-1", "run-0"]
        assert ids(newest_first=True) == newest
        assert ids(newest_first=True, limit=2, before=fourth) == ["run-2", "run-9"]
        for skip in range(7):
            rows = storage.find(Kind.EXECUTION, limit=2, skip=skip)
            assert [row.id for row in rows] == everything[skip : skip + 2]
        rows = storage.find(Kind.EXECUTION, skip=4)
        assert [row.id for row in rows] == everything[4:]
        assert [row.id for row in storage.iterate(Kind.EXECUTION)] == everything

    def test_parents_and_children_of_runs_are_found(
        self, storage: PipelineStorage
    ) -> None:
        """A run as a subflow leads to its parent, and the parent to it."""
        runs = [flow_run("parent"), flow_run("child", "parent")]
        storage.record(Batch(flow_runs=runs))
        parent = storage.get_pipeline_execution_or_raise("parent")
        child = storage.get_pipeline_execution_or_raise("child")
        assert parent.get_children() == [child]
        assert child.get_parent() == parent
        assert parent.get_parent() is None
        assert child.get_children() == []

    def test_what_was_removed_is_gone_for_its_objects_too(
        self, storage: PipelineStorage
    ) -> None:
        """An object of a run that was removed says so when it is used."""
        storage.build_pipeline_execution(SCAN, "run-1")
        objects = one_of_each(storage, "run-1")
        storage.remove(["run-1"])
        for found in objects:
            with pytest.raises(NotFoundError, match=found.get_id()):
                found.report_status_change("RUNNING")
            with pytest.raises(NotFoundError, match=found.get_id()):
                found.refresh()
            with pytest.raises(NotFoundError, match=found.get_id()):
                found.save()
        assert storage.find(Kind.EXECUTION) == []


def _shouting(base: type[PipelineStorageObject]) -> type[PipelineStorageObject]:
    """Return an extension of a class with properties of its own."""

    class Shouting(base):  # type: ignore[misc, valid-type]
        def get_message(self) -> str:
            return str(self.message).upper()

        def set_colour(self, colour: str) -> None:
            self.colour = colour.upper()

    return Shouting
