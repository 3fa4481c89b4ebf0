"""The recordings of this process that are open, by the flow runs they are of."""

from __future__ import annotations

import atexit
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prefect_lume.recorder.inprocess.recording import Recording

#: Seconds for which the end of the process waits for what could not be written.
LIMIT: Final = 10.0

_open: dict[str, Recording] = {}
_lock = threading.Lock()


def find(flow_run_id: object) -> Recording | None:
    """Return the recording that a flow run of this process belongs to, if any."""
    return _open.get(str(flow_run_id))


def open_recordings() -> list[Recording]:
    """Return the recordings that have not been closed yet."""
    with _lock:
        return list(dict.fromkeys(_open.values()))


def add(flow_run_id: str, recording: Recording) -> None:
    """Let a flow run belong to a recording."""
    with _lock:
        if not _open:
            # Again and again, so that it comes before what Prefect ends by then.
            atexit.unregister(_finish_all)
            atexit.register(_finish_all)
        _open[flow_run_id] = recording


def remove(recording: Recording) -> None:
    """Let no flow run belong to a recording any more."""
    with _lock:
        for id_ in [id_ for id_, known in _open.items() if known is recording]:
            del _open[id_]


def _finish_all() -> None:
    deadline = time.monotonic() + LIMIT
    for recording in open_recordings():
        recording.finish(deadline)
