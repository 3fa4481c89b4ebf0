"""Writing what was heard into a storage, in a thread of its own.

The flow's threads only put things into a queue. The writer takes them out about once a
second; when much happens, every few seconds and many at a time, as each time costs the
flow a little of the interpreter, and a task that ended by then is written once. While
the storage cannot be used, what was heard is kept and tried again.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import httpx

from prefect_lume.errors import LumeError, clip
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import Batch

logger = logging.getLogger(__name__)

#: Seconds between two writes, at least; and at most, if writing takes long.
INTERVAL: Final = 1.0
LONGEST_INTERVAL: Final = 15.0
#: Seconds after the start at which the first things are written.
FIRST: Final = 0.05
#: If more than so many things are queued by then, more are waited for: these seconds.
FEW: Final = 100
BURST: Final = 5.0
#: Seconds without anything new after which more are not waited for.
QUIET: Final = 0.25
#: A write that took this long of the processor is followed by a pause of this many
#: times that; waiting for a server or a database costs the flow nothing.
PAUSE: Final = 20.0
#: Seconds before what failed is tried again: at first, and at most.
FIRST_RETRY: Final = 0.5
LAST_RETRY: Final = 5.0
#: So many things are kept while they cannot be written.
MOST_KEPT: Final = 200_000
#: Changes that are written in one transaction.
TOGETHER: Final = 5_000

#: Makes a batch of what was queued; called in the writer's thread, also with nothing.
Prepare = Callable[[list[Any], PipelineStorage], Batch]


class Writer:
    """Writes what is put into it to a storage.

    Args:
        name: The name of the thread.
        prepare: Makes a batch of what was queued.
        open_storage: Returns the storage; called in the writer's thread.
        warn: Told once, in words, that the storage cannot be used.
        after: Called after each time that everything was written.
        close: Called at the end, in the writer's thread.
    """

    def __init__(
        self,
        name: str,
        prepare: Prepare,
        open_storage: Callable[[], PipelineStorage],
        warn: Callable[[str], None],
        after: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        self._name = name
        self._prepare = prepare
        self._open_storage = open_storage
        self._warn = warn
        self._after = after
        self._close = close
        self._storage: PipelineStorage | None = None
        self._queue: deque[Any] = deque()
        self._batch = Batch()
        self._condition = threading.Condition()
        self._asked = self._answered = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._warned = False
        self.error: str | None = None

    @property
    def unwritten(self) -> int:
        """How many things were heard and not written."""
        return self._dropped + len(self._queue) + len(self._batch)

    @property
    def waiting(self) -> bool:
        """Whether there is anything that was not written yet."""
        return bool(self._queue or self._batch)

    def put(self, item: Any) -> None:
        """Queue something; quick, from any thread."""
        if len(self._queue) + len(self._batch) < MOST_KEPT:
            self._queue.append(item)
        else:
            self._dropped += 1

    def start(self) -> None:
        """Begin to write, with the settings of the calling context."""
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=self._name, daemon=True
        )
        self._thread.start()

    def ask(self) -> int:
        """Have everything that is queued by now written soon, and return a ticket."""
        with self._condition:
            self._asked += 1
            self._condition.notify_all()
            return self._asked

    def is_written(self, ticket: int) -> bool:
        """Tell whether what a ticket was given for is written."""
        return self._answered >= ticket

    def wait(self, ticket: int, timeout: float) -> bool:
        """Wait until what a ticket was given for is written, and tell whether it is."""
        if threading.current_thread() is self._thread:
            return False
        with self._condition:
            return self._condition.wait_for(
                lambda: self._answered >= ticket or not self.is_alive, max(timeout, 0.0)
            ) and self.is_written(ticket)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Let the thread end after what it does now."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    # The writer's thread --------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._write_until_stopped()
        finally:
            self._close()

    def _write_until_stopped(self) -> None:
        pause, retry = FIRST, FIRST_RETRY
        while not self._stopping:
            with self._condition:
                self._await(pause)
                ticket = self._asked
            began = time.thread_time()
            if self._step():
                retry = FIRST_RETRY
                took = time.thread_time() - began
                pause = min(max(INTERVAL, PAUSE * took), LONGEST_INTERVAL)
                with self._condition:
                    self._answered = ticket
                    self._condition.notify_all()
                self._tell_after()
            else:
                with self._condition:
                    self._condition.wait_for(lambda: self._stopping, retry)
                pause, retry = 0.0, min(2 * retry, LAST_RETRY)

    def _await(self, pause: float) -> None:
        """Wait until it is time to write: at once if somebody asks for it."""
        self._condition.wait_for(self._is_asked, pause)
        until = time.monotonic() + BURST - pause
        before = 0
        # When nothing more comes, this is the time to write: the flow waits as well,
        # often for Prefect at its end.
        while pause >= INTERVAL and FEW < len(self._queue) < TOGETHER:
            rest = min(until - time.monotonic(), QUIET)
            is_quiet, before = len(self._queue) == before, len(self._queue)
            if is_quiet or rest <= 0 or self._condition.wait_for(self._is_asked, rest):
                return

    def _is_asked(self) -> bool:
        return self._stopping or self._asked > self._answered

    def _tell_after(self) -> None:
        try:
            self._after()
        except Exception:
            logger.exception("A recording could not be looked after")

    def _step(self) -> bool:
        items = [self._queue.popleft() for _ in range(len(self._queue))]
        try:
            if self._storage is None:
                self._storage = self._open_storage()
            self._batch.add(self._prepare(items, self._storage))
            items = []
            self._write(self._storage)
        except Exception as error:  # noqa: BLE001 - of any storage; told below.
            self._queue.extendleft(reversed(items))
            self._failed(error)
            return False
        self.error = None
        return True

    def _write(self, storage: PipelineStorage) -> None:
        while self._batch:
            part = self._batch
            if len(part.changes) > TOGETHER:
                # The facts go first, so that each part has those that it needs.
                part = Batch(part.changes[:TOGETHER], part.flow_runs, part.task_runs)
            storage.record(part)
            self._batch = Batch(self._batch.changes[len(part.changes) :])

    def _failed(self, error: Exception) -> None:
        self.error = describe(error)
        logger.debug("State changes could not be written", exc_info=error)
        if not self._warned:
            self._warned = True
            self._warn(self.error)


def describe(error: BaseException) -> str:
    """Say what went wrong, without what a foreign error may tell of secrets."""
    name = type(error).__name__
    if isinstance(error, LumeError | httpx.HTTPError):
        return f"{name}: {clip(error)}"
    return f"{name} (see the debug log)"
