"""The seven statuses and their order."""

from __future__ import annotations

from prefect_lume.pipelines import PipelineTaskStatus

S = PipelineTaskStatus


def test_there_are_seven_statuses():
    """Their values are their names, as they are stored."""
    assert len(S) == 7
    assert all(status.value == status.name for status in S)


def test_final_and_failed_statuses_are_told_apart():
    """Five are final, and four of these are failures."""
    assert S.final_statuses() == set(S) - {S.PENDING, S.RUNNING}
    assert S.failed_statuses() == S.final_statuses() - {S.DONE}
    for status in S:
        assert status.is_final is (status in S.final_statuses())
        assert status.is_failed is (status in S.failed_statuses())


def test_a_status_advances_and_never_goes_back():
    """Of all 49 pairs, eleven are advances."""
    advances = {(old, new) for old in S for new in S if old.has_advanced(new)}
    assert advances == {
        (S.PENDING, S.RUNNING),
        *((S.PENDING, new) for new in S.final_statuses()),
        *((S.RUNNING, new) for new in S.final_statuses()),
    }
