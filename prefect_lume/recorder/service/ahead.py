"""Fetching the next pages while the last ones are worked on."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

_END: Final = object()
_LOOK: Final = 0.1


def read_ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Yield items which another thread takes from an iterable in advance.

    What the iterable raises is raised here. When this generator is closed, the thread
    ends after the item that it is waiting for.

    Args:
        items: The iterable; used in the other thread only.
        depth: How many items are held at most.
    """
    waiting: queue.Queue[T | object] = queue.Queue(depth)
    closed = threading.Event()
    failure: list[BaseException] = []

    def put(item: T | object) -> bool:
        while not closed.is_set():
            try:
                waiting.put(item, timeout=_LOOK)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised in the reader.
            failure.append(error)
        put(_END)

    thread = threading.Thread(
        target=contextvars.copy_context().run,
        args=(work,),
        name="lume-read-ahead",
        daemon=True,
    )
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            yield item  # type: ignore[misc]  # the end is the only stranger
        if failure:
            raise failure[0]
    finally:
        closed.set()


def in_batches(pages: Iterable[list[T]], size: int) -> Iterator[list[T]]:
    """Yield pages put together until they hold ``size`` items or more.

    Example:
        >>> list(in_batches([[1, 2], [3], [4]], 3))
        [[1, 2, 3], [4]]
    """
    batch: list[T] = []
    for page in pages:
        batch.extend(page)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
