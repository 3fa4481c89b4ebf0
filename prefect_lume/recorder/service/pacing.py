"""When to do what again: what is due now and then, and what failed."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from prefect_lume.errors import clip

logger = logging.getLogger(__name__)


class Every:
    """Something that is due again some seconds after it was last done.

    Args:
        seconds: How long after; never, if there are none.
        clock: Returns seconds that only go forward.
    """

    def __init__(
        self, seconds: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = clock() + (seconds or 0)

    def is_due(self) -> bool:
        """Tell whether it is due."""
        return self._seconds is not None and self._clock() >= self._next

    def done(self) -> None:
        """Count the time anew."""
        self._next = self._clock() + (self._seconds or 0)


class Outage:
    """A time in which something cannot be done that will be possible again.

    It is logged once, however often it is tried, and once more when it is over.

    Args:
        shortest: The first pause, in seconds.
        longest: The longest pause, in seconds.
        clock: Returns seconds that only go forward.
    """

    def __init__(
        self,
        shortest: float = 0.5,
        longest: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shortest, self._longest = shortest, longest
        self._clock = clock
        self._what: str | None = None
        self._since = 0.0
        self._failures = 0

    @property
    def is_on(self) -> bool:
        """Whether the last attempt failed."""
        return self._what is not None

    def failed(self, what: str, error: Exception) -> float:
        """Note a failure.

        Args:
            what: What cannot be used, the subject of the logged sentence.
            error: Why.

        Returns:
            How many seconds to wait before the next attempt.
        """
        if self._what is None:
            self._since = self._clock()
            self._failures = 0
        if self._what != what:
            self._what = what
            logger.warning(
                "%s cannot be used: %s. It is tried again until it can.",
                what,
                clip(str(error).rstrip(".") or type(error).__name__),
            )
        pause = min(self._longest, self._shortest * 2.0 ** min(self._failures, 30))
        self._failures += 1
        # Random, so that many that wait do not come back at once. No secret here.
        return pause * random.uniform(0.75, 1.25)  # noqa: S311

    def over(self) -> None:
        """Note a success."""
        if self._what is None:
            return
        logger.warning(
            "%s can be used again, after %.0f s.",
            self._what,
            self._clock() - self._since,
        )
        self._what = None
