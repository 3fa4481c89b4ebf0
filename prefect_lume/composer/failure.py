"""In one line, why a child run did not complete."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_PREFACE = re.compile(r"^(Flow|Task) run encountered an exception:?\s*")


def cause(state: State[Any] | None) -> str:
    """Return the cause that a final state gives.

    Example:
        >>> from prefect.states import Failed
        >>> cause(Failed(message="Flow run encountered an exception: ValueError: no"))
        'ValueError: no'
    """
    if state is None:
        return "it has no state"
    message = _PREFACE.sub("", state.message or "").strip()
    if state.is_failed() and message:
        return message
    return f"{state.name}: {message}" if message else f"it ended as {state.name}"
