"""Each of Prefect's states means one of the seven statuses."""

from __future__ import annotations

import pytest
from prefect.client.schemas.objects import StateType

from prefect_lume.pipelines.status import PipelineTaskStatus as S
from prefect_lume.recorder.translation.statuses import (
    BEGINNINGS,
    CONFIG_ERRORS,
    TYPES,
    VALIDATION_ERRORS,
    status_of,
)

FLOW = "Flow run encountered an exception: "
TASK = "Task run encountered an exception "
EXIT = "Process exited with status code: "
INFRASTRUCTURE = "Flow run infrastructure exited with non-zero status code "


def test_every_type_that_prefect_has_means_something() -> None:
    """No type of this version of Prefect is unknown, and none is made up."""
    assert set(TYPES) == {item.value for item in StateType}


@pytest.mark.parametrize(
    ("state_type", "name", "status"),
    [
        ("SCHEDULED", "Scheduled", S.PENDING),
        ("SCHEDULED", "Late", S.PENDING),
        ("SCHEDULED", "AwaitingRetry", S.PENDING),
        ("SCHEDULED", "AwaitingConcurrencySlot", S.PENDING),
        ("SCHEDULED", "Resuming", S.PENDING),
        ("PENDING", "Pending", S.PENDING),
        ("PENDING", "Submitting", S.PENDING),
        ("PENDING", "NotReady", S.CANCELLED),
        ("RUNNING", "Running", S.RUNNING),
        ("RUNNING", "Retrying", S.RUNNING),
        ("PAUSED", "Paused", S.RUNNING),
        ("PAUSED", "Suspended", S.RUNNING),
        ("CANCELLING", "Cancelling", S.RUNNING),
        ("COMPLETED", "Completed", S.DONE),
        ("COMPLETED", "Cached", S.DONE),
        ("COMPLETED", "RolledBack", S.DONE),
        ("COMPLETED", "NotReady", S.DONE),
        ("CANCELLED", "Cancelled", S.CANCELLED),
        ("FAILED", "Failed", S.RUNTIME_ERROR),
        ("FAILED", "TimedOut", S.RUNTIME_ERROR),
        ("CRASHED", "Crashed", S.RUNTIME_ERROR),
        ("RUNNING", None, S.RUNNING),
        ("PENDING", None, S.PENDING),
    ],
)
def test_types_and_names(state_type: str, name: str | None, status: S) -> None:
    """Without a message that says more, type and name decide."""
    assert status_of(state_type, name, None) is status
    assert status_of(state_type, name, "") is status


@pytest.mark.parametrize(("beginning", "status"), BEGINNINGS)
def test_texts_that_say_what_was_wrong_from_the_start(
    beginning: str, status: S
) -> None:
    """What Prefect says first decides, for a failed and for a crashed run."""
    for state_type in ("FAILED", "CRASHED"):
        assert status_of(state_type, "Failed", f"{beginning} why") is status
        elsewhere = f"{FLOW}ValueError: {beginning}"
        assert status_of(state_type, "Failed", elsewhere) is S.RUNTIME_ERROR
    assert status_of("COMPLETED", "Completed", beginning) is S.DONE


@pytest.mark.parametrize(
    ("names", "status"),
    [(VALIDATION_ERRORS, S.VALIDATION_ERROR), (CONFIG_ERRORS, S.CONFIG_ERROR)],
    ids=["validation", "configuration"],
)
def test_exceptions_that_say_what_was_wrong_from_the_start(
    names: frozenset[str], status: S
) -> None:
    """The class of the exception decides, with and without text and module."""
    for name in names:
        for begin in (FLOW, TASK):
            for text in (f"{name}: why\nmore", name, f"a_module.{name}: why"):
                assert status_of("FAILED", "Failed", begin + text) is status
            for other in (f"My{name}: why", f"ValueError: {name}: why", f"{name}s: x"):
                assert status_of("FAILED", "Failed", begin + other) is S.RUNTIME_ERROR


@pytest.mark.parametrize(
    ("message", "run_count", "status"),
    [
        (f"{EXIT}1. Process exited with a general error.", 0, S.CONFIG_ERROR),
        (f"{EXIT}127. Command not found.", 0, S.CONFIG_ERROR),
        (f"{INFRASTRUCTURE}125. Container failed", 0, S.CONFIG_ERROR),
        (f"{EXIT}1. Process exited with a general error.", 1, S.RUNTIME_ERROR),
        (f"{EXIT}1. Process exited with a general error.", None, S.RUNTIME_ERROR),
        (f"{EXIT}-9. Process exited due to a SIGKILL", 0, S.RUNTIME_ERROR),
        (f"{INFRASTRUCTURE}137. Process was killed", 0, S.RUNTIME_ERROR),
        ("Execution was aborted by a termination signal.", 0, S.RUNTIME_ERROR),
    ],
)
def test_a_process_that_ends_before_its_run_begins(
    message: str, run_count: int | None, status: S
) -> None:
    """An error before the run began is one of configuration; a signal is not."""
    assert status_of("CRASHED", "Crashed", message, run_count) is status


def test_an_unknown_type_is_refused() -> None:
    """A type that this version does not know is no status at all."""
    with pytest.raises(KeyError):
        status_of("DREAMING", "Dreaming", None)
