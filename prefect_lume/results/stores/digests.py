"""A SHA-256 that is computed beside the work whose bytes it is of."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Self

Data = bytes | bytearray | memoryview

#: Smaller pieces are hashed faster than they are handed to a thread.
_WORTH_A_THREAD: Final = 256 << 10


class BesideDigest:
    """Hashes pieces in a thread while the caller writes them, or reads the next.

    ``hashlib`` lets other threads run while it works. A piece must not change until
    the next call of :meth:`update` or :meth:`hexdigest`. Use it in a ``with`` block.

    Example:
        >>> with BesideDigest() as digest:
        ...     digest.update(b"ab")
        ...     digest.update(b"c")
        ...     digest.size, digest.hexdigest()[:8]
        (3, 'ba7816bf')
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None
        #: The bytes so far.
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def update(self, piece: Data) -> None:
        """Take a piece in; it may still be being hashed when this returns."""
        self._wait()
        size = memoryview(piece).nbytes
        self.size += size
        if size < _WORTH_A_THREAD:
            self._digest.update(piece)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "prefect-lume-hash")
        self._pending = self._thread.submit(self._digest.update, piece)

    def hexdigest(self) -> str:
        """Return the hash of all pieces: 64 hexadecimal digits."""
        self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None
