"""The seven statuses of whatever a pipeline runs, and which may follow which."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class PipelineTaskStatus(StrEnum):
    """How a pipeline, a task, or one object of either is doing.

    A status only advances: from ``PENDING`` to ``RUNNING`` to one of the five final
    ones, and no further.

    Example:
        >>> PipelineTaskStatus.PENDING.has_advanced(PipelineTaskStatus.DONE)
        True
        >>> PipelineTaskStatus.DONE.has_advanced(PipelineTaskStatus.RUNNING)
        False
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    CONFIG_ERROR = "CONFIG_ERROR"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    RUNTIME_ERROR = "RUNTIME_ERROR"
    CANCELLED = "CANCELLED"

    @classmethod
    def final_statuses(cls) -> frozenset[PipelineTaskStatus]:
        """Return the statuses after which nothing comes."""
        return _FINAL

    @classmethod
    def failed_statuses(cls) -> frozenset[PipelineTaskStatus]:
        """Return the final statuses other than ``DONE``."""
        return _FAILED

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after this status."""
        return self in _FINAL

    @property
    def is_failed(self) -> bool:
        """Whether it is a final status other than ``DONE``."""
        return self in _FAILED

    def has_advanced(self, new: PipelineTaskStatus) -> bool:
        """Tell whether ``new`` may follow this status."""
        if self.is_final:
            return False
        return new.is_final or (self is _S.PENDING and new is _S.RUNNING)


_S = PipelineTaskStatus
_FAILED: Final = frozenset(
    {_S.CONFIG_ERROR, _S.VALIDATION_ERROR, _S.RUNTIME_ERROR, _S.CANCELLED}
)
_FINAL: Final = _FAILED | {_S.DONE}

#: What ends in one of these was wrong before it ran: nothing below it can run either.
CANCELS_BELOW: Final = frozenset({_S.CONFIG_ERROR, _S.VALIDATION_ERROR})
