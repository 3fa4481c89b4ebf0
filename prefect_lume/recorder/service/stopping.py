"""Requests that do not hold up whoever is told to stop."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from prefect_lume.recorder.api.lookups import ask

if TYPE_CHECKING:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient

#: How often a request that is under way looks whether it is still wanted, in seconds.
_LOOK: Final = 0.1


class StoppedError(Exception):
    """It was told to stop, with more to do."""


class StoppableClient:
    """A Prefect client whose requests end when a recorder is told to stop.

    No request is begun after that, and none is waited for, even if the server hangs or
    the client would try again: the caller gets :class:`StoppedError`. It may be shared
    between threads. It is for requests that only read.

    Args:
        client: A client of the server.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self.begin(threading.Event())

    def begin(self, stop: threading.Event) -> None:
        """Obey this event from now on, under the Prefect settings of the caller."""
        self._stop = stop
        # Threads that ask would have the settings of the process, not these.
        self._context = contextvars.copy_context()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request, as the client does.

        Raises:
            StoppedError: The answer is no longer wanted.
            httpx.HTTPError: The server could not be asked, or refused.
        """
        self.check()
        answer: Future[httpx.Response] = Future()
        arguments = (answer, method, path, options)
        threading.Thread(
            target=self._context.copy().run,
            args=(self._ask, *arguments),
            name="lume-recorder-request",
            daemon=True,
        ).start()
        while True:
            try:
                return answer.result(_LOOK)
            except TimeoutError as error:
                if answer.done() and answer.exception() is error:
                    raise
                self.check()

    def check(self) -> None:
        """Go on only if it was not told to stop.

        Raises:
            StoppedError: It was.
        """
        if self._stop.is_set():
            raise StoppedError

    def _ask(
        self,
        answer: Future[httpx.Response],
        method: str,
        path: str,
        options: dict[str, Any],
    ) -> None:
        try:
            answer.set_result(ask(self._client, method, path, **options))
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller.
            answer.set_exception(error)
