"""How far a recorded flow run is, as its own threads and the recording's see it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

#: Seconds after which a flow that ended without saying so is looked for.
LOOK: Final = 0.5
LOOK_AGAIN: Final = 2.0
#: Seconds for which what a flow left behind is listened to.
LINGER: Final = 60.0


@dataclass
class Course:
    """How far a flow run is.

    Attributes:
        limit: Seconds for which its end waits for what could not be written.
        in_body: Its task runner has not been closed yet.
        look_at: When to look how it is, as it may have ended without a word.
        ended: It has ended, by what it said or by what Prefect says.
        end_at: When it ended, by the monotonic clock.
        puts_off: What only Prefect knows of it is asked a moment after its end.
        completed: That was asked.
        last_state: Prefect's type of its state when it was last looked at.
    """

    limit: float
    in_body: bool = False
    look_at: float | None = None
    ended: bool = False
    end_at: float | None = None
    puts_off: bool = False
    completed: bool = False
    last_state: str | None = None

    def begin(self) -> None:
        """Take note that it begins, or begins again."""
        self.ended = self.completed = self.puts_off = False
        self.in_body, self.look_at, self.end_at = True, None, None

    def end(self, state: State[Any], *, is_alone: bool) -> None:
        """Take note that it ends with a state.

        Args:
            state: Prefect's state of it.
            is_alone: No flow run was begun below it.
        """
        self.end_at = self.end_at or time.monotonic()
        if state.is_final():
            self.puts_off = is_alone and state.is_completed()
            self.ended = True
        else:
            # Prefect says that it is cancelled only after this.
            self.look_soon(LOOK)

    def rest(self, state: str | None) -> None:
        """Take note that Prefect says it has come to rest."""
        self.last_state, self.look_at = state, None
        self.end_at = self.end_at or time.monotonic()
        self.ended = True

    def look_soon(self, seconds: float = 0.0) -> None:
        """Look how it is in so many seconds."""
        self.look_at = time.monotonic() + seconds

    @property
    def is_to_look_at(self) -> bool:
        """Whether it is time to look how it is."""
        return self.look_at is not None and time.monotonic() >= self.look_at

    @property
    def is_to_complete(self) -> bool:
        """Whether it is time to ask what only Prefect knows of it."""
        return self.ended and not self.puts_off

    @property
    def is_over(self) -> bool:
        """Whether it ended, and nothing of its own is to come."""
        return self.ended and self.completed and not self.in_body

    @property
    def is_late(self) -> bool:
        """Whether what it left behind is waited for no longer."""
        return time.monotonic() > (self.end_at or 0.0) + LINGER

    @property
    def time_left(self) -> float:
        """Seconds for which its end may still wait."""
        return (self.end_at or time.monotonic()) + self.limit - time.monotonic()
