"""The digest of rows."""

from __future__ import annotations

from prefect_lume.pipelines import PipelineTaskStatus
from prefect_lume.pipelines.digest import PipelineDigestItem, digest_of, runtime
from prefect_lume.pipelines.rows import ResultRow
from prefect_lume.testing.pipelines_told import at

S = PipelineTaskStatus


def row(number, status, started=None, completed=None, pipeline="p"):
    """Return a pipeline result."""
    return ResultRow(
        id=str(number),
        run_id="r",
        pipeline_id=pipeline,
        status=status,
        started=None if started is None else at(started),
        completed=None if completed is None else at(completed),
    )


def test_each_pipeline_is_counted_by_itself():
    """In the order of names; what has not ended is open and has no runtime."""
    digest = digest_of(
        [
            row(1, S.DONE, 1, 3),
            row(2, S.CANCELLED, None, 4),
            row(3, S.RUNNING, 5),
            row(4, S.RUNTIME_ERROR, 2, 6),
            row(5, S.PENDING, pipeline="a"),
        ]
    )
    assert list(digest) == ["a", "p"]
    assert digest["a"] == PipelineDigestItem(total_open=1)
    assert digest["p"] == PipelineDigestItem(3, 1, 2, 1, at(5), 3.0)


def test_an_item_is_json():
    """Times are ISO 8601, and nothing stays nothing."""
    assert PipelineDigestItem(last_ran=at(0)).as_json()["last_ran"] == (
        "2026-03-04T05:06:07.891011+00:00"
    )
    assert PipelineDigestItem().as_json()["last_ran"] is None


def test_a_runtime_needs_start_and_end():
    """Seconds, to the microsecond."""
    assert runtime(row(1, S.DONE, 1, 1.000001)) == 0.000001
    assert runtime(row(1, S.CANCELLED, None, 1)) is None
