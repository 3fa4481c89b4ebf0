"""From Prefect's states to the seven statuses, by tables that tests check on a server.

Prefect has one type for all that fails. What is told apart here is told by the texts
that Prefect puts in front of the exception: they are listed below, with what they mean.
"""

from __future__ import annotations

import re
from typing import Final

from prefect_lume.pipelines.changes import NOT_READY
from prefect_lume.pipelines.status import PipelineTaskStatus

_S = PipelineTaskStatus

#: Prefect's types of states, and what they mean where the table below says no more.
TYPES: Final[dict[str, PipelineTaskStatus]] = {
    "SCHEDULED": _S.PENDING,
    "PENDING": _S.PENDING,
    "RUNNING": _S.RUNNING,
    "PAUSED": _S.RUNNING,
    "CANCELLING": _S.RUNNING,
    "COMPLETED": _S.DONE,
    "CANCELLED": _S.CANCELLED,
    "FAILED": _S.RUNTIME_ERROR,
    "CRASHED": _S.RUNTIME_ERROR,
}

#: Names which mean something else than their type does.
NAMES: Final[dict[tuple[str, str], PipelineTaskStatus]] = {
    # What it needs failed: it never runs. A final state for everybody but Prefect.
    ("PENDING", NOT_READY): _S.CANCELLED,
}

#: How the message of a failed or crashed run begins where it was wrong from the start.
BEGINNINGS: Final[tuple[tuple[str, PipelineTaskStatus], ...]] = (
    ("Validation of flow parameters failed with error:", _S.VALIDATION_ERROR),
    ("Flow run could not start:", _S.CONFIG_ERROR),
    ("Flow run process could not be started:", _S.CONFIG_ERROR),
    ("Flow run bundle could not be created:", _S.CONFIG_ERROR),
    ("Failed to submit flow run to infrastructure:", _S.CONFIG_ERROR),
    ("Submission failed.", _S.CONFIG_ERROR),
)

#: Exceptions of a run which say that what was given to it is not allowed.
VALIDATION_ERRORS: Final = frozenset(
    {
        "ParameterTypeError",
        "ParameterBindError",
        "SignatureMismatchError",
        "InvalidInputError",
    }
)
#: Exceptions of a run which say that it could never have run as it is set up.
CONFIG_ERRORS: Final = frozenset(
    {
        "ScriptError",
        "MissingFlowError",
        "ConfigurationError",
        "SchemaError",
        "MissingDependencyError",
    }
)

#: The texts that Prefect puts in front of the exception that ended a run.
_RAISED: Final = re.compile(
    r"(?:Flow run encountered an exception:"
    r"|Task run encountered an exception"
    r"|Execution was interrupted by an unexpected exception:)"
    r" (?:[\w.]+\.)?(\w+)(?::|$)"
)

#: The texts with which Prefect reports that a process ended by itself.
_EXITED: Final = re.compile(
    r"(?:Process exited with status code:"
    r"|Flow run infrastructure exited with non-zero status code)"
    r" (-?\d+)"
)
#: A shell adds this to the number of the signal that ended a process.
_SIGNALS: Final = 128


def status_of(
    state_type: str,
    state_name: str | None,
    message: str | None,
    run_count: int | None = None,
) -> PipelineTaskStatus:
    """Return the status that a state of Prefect's means.

    Args:
        state_type: Prefect's type, such as ``"FAILED"``.
        state_name: Prefect's name, such as ``"TimedOut"``.
        message: The state's message.
        run_count: How often the run had been started by then. A process that ends with
            an error before that could not load its flow: Prefect says no more of it.

    Raises:
        KeyError: Prefect has no such type.

    Example:
        >>> status_of("COMPLETED", "Cached", None).value
        'DONE'
        >>> status_of("FAILED", "Failed", "Flow run encountered an exception: "
        ...           "SchemaError: The tables are missing.").value
        'CONFIG_ERROR'
    """
    status = TYPES[state_type]
    if status is _S.RUNTIME_ERROR:
        return _failure(message, run_count) if message else status
    if state_name is not None and status is _S.PENDING:
        return NAMES.get((state_type, state_name), status)
    return status


def _failure(message: str, run_count: int | None) -> PipelineTaskStatus:
    for beginning, status in BEGINNINGS:
        if message.startswith(beginning):
            return status
    raised = _RAISED.match(message)
    if raised is not None:
        if raised[1] in VALIDATION_ERRORS:
            return _S.VALIDATION_ERROR
        if raised[1] in CONFIG_ERRORS:
            return _S.CONFIG_ERROR
    exited = _EXITED.match(message) if run_count == 0 else None
    if exited is not None and 0 < int(exited[1]) < _SIGNALS:
        return _S.CONFIG_ERROR
    return _S.RUNTIME_ERROR
