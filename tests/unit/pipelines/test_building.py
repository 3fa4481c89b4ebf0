"""The rows that a run starts with."""

from __future__ import annotations

from types import SimpleNamespace

from prefect_lume.pipelines import Pipeline, PipelineTask
from prefect_lume.pipelines.building import path_of, plan
from prefect_lume.pipelines.rows import Kind


class Runner:
    """Something that runs pipelines."""


def test_a_plan_holds_every_row_once():
    """Two objects, a plain task and one over three: 1 + 2 + 4 + 8 rows."""
    tasks = [PipelineTask("a"), PipelineTask("b", objects=[1, 2, 3])]
    rows = plan(Pipeline("p", tasks, [1, 2]), "r", None, None, None, build_all=True)
    assert [len(made) for made in rows.values()] == [1, 2, 4, 8]
    again = plan(Pipeline("p", tasks, [1, 2]), "r", None, None, None, build_all=True)
    for kind in Kind:
        assert [row.id for row in rows[kind]] == [row.id for row in again[kind]]


def test_anything_with_the_attributes_of_a_pipeline_will_do():
    """Tasks may be a mapping; iterators may be used up by reading."""
    task = SimpleNamespace(
        pipeline_task="a",
        task_id="",
        config=None,
        get_iterator=lambda: iter("xy"),
        get_serializable_task_object=str.upper,
    )
    pipeline = SimpleNamespace(
        id="p",
        tasks={"a": task},
        get_iterator=lambda: iter([1]),
        get_serializable_pipeline_object=str,
    )
    rows = plan(pipeline, "r", None, None, None, build_all=True)
    assert [row.pipeline_object for row in rows[Kind.RESULT]] == ["1"]
    assert [row.task_object for row in rows[Kind.TASK_RESULT]] == ["X", "Y"]
    assert [row.task_id for row in rows[Kind.TASK_EXECUTION]] == ["a"]


def test_runners_are_kept_by_their_python_path():
    """An object, its class and the text say the same."""
    expected = f"{Runner.__module__}.Runner"
    assert path_of(Runner()) == path_of(Runner) == path_of(expected) == expected
