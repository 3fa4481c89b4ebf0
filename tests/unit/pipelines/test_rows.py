"""Rows, their kinds and the ids that are derived."""

from __future__ import annotations

from prefect_lume.pipelines.rows import (
    ROW_TYPES,
    Kind,
    derived_id,
    result_id,
    task_execution_id,
    task_result_id,
)


def test_kinds_lie_above_each_other():
    """Execution, result, task execution, task result."""
    assert [kind.below for kind in Kind] == [*list(Kind)[1:], None]
    assert [kind.above for kind in Kind] == [None, *list(Kind)[:-1]]
    assert ROW_TYPES.keys() == set(Kind)


def test_derived_ids_stay_what_they_are():
    """Stored rows are found again by every later version."""
    assert result_id("run") == result_id("run", 0)
    assert result_id("run") == "5333973a-7b72-523a-a2b4-6c038abbe1e8"
    assert task_execution_id("a", "b") != task_execution_id("a", "c")
    assert task_result_id("a", 0) != task_result_id("a", 1)


def test_parts_of_an_id_are_not_mixed_up():
    """Where one part ends and the next begins makes a difference."""
    assert derived_id("ab", "c") != derived_id("a", "bc") != derived_id("abc")
