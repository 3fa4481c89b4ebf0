"""What every part of the service has: a database, an actor, and who is told."""

from __future__ import annotations

import copy
import getpass
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

from sqlalchemy import Connection, Engine

from prefect_lume.registry import fields
from prefect_lume.registry.ledger import Transaction
from prefect_lume.registry.records import RegistryEvent
from prefect_lume.registry.tables import metadata
from prefect_lume.registry.transactions import read, write
from prefect_lume.storage.sql import read_only, safe_url, translated

_T = TypeVar("_T")

#: Is told of the events of a change when it is committed; must not raise.
Listener = Callable[[Sequence[RegistryEvent]], None]


def login_name() -> str:
    """Return the name that this process's user logged in by."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # No entry for the user id, as in many containers.
        return "unknown"


class ServiceBase:
    """The registry's database, and how it is read and changed.

    Args:
        engine: The database, from :func:`prefect_lume.storage.sql.get_engine`.
        migrate: What :meth:`apply_schema` calls; by default the registry's tables are
            created where they are missing.
        actor: Who changes something, for the history: a name, or what returns it at
            each change. By default the user of this process.
        on_change: Is told of the events of each change, after it is committed.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        migrate: Callable[[Engine], None] | None = None,
        actor: str | Callable[[], str] = login_name,
        on_change: Listener | None = None,
    ) -> None:
        self._engine = engine
        self._reader = read_only(engine)
        self._migrate = migrate
        self._actor = actor
        self._on_change = on_change
        self._previews = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({safe_url(self._engine)!r})"

    def apply_schema(self) -> None:
        """Create the tables, or bring them to the revision of this code."""
        with translated(self._engine):
            (self._migrate or metadata.create_all)(self._engine)

    def close(self) -> None:
        """Close the pooled connections. The service may be used again."""
        self._engine.dispose()

    def preview(self, on_change: Listener | None = None) -> Self:
        """Return a service whose changes are tried, told and taken back.

        Each call locks, checks and writes as if in earnest, so that it raises what the
        change itself would raise. Then nothing is committed.

        Args:
            on_change: Is told of the events that the change would write.

        Example:
            >>> from prefect_lume.registry import ModelDBService
            >>> from prefect_lume.storage.sql import get_engine
            >>> registry = ModelDBService(get_engine("sqlite://"))
            >>> registry.apply_schema()
            >>> registry.preview().store_project("test")
            'test'
            >>> registry.get_projects()
            []
            >>> registry.close()
        """
        service = copy.copy(self)
        service._previews, service._on_change = True, on_change
        return service

    @property
    def is_preview(self) -> bool:
        """Whether changes are taken back (see :meth:`preview`)."""
        return self._previews

    def heard_by(self, listener: Listener) -> Self:
        """Return the same service, whose changes are told to one more listener.

        Args:
            listener: Is told of the events of each change, after it is committed.
        """
        service, other = copy.copy(self), self._on_change

        def both(events: Sequence[RegistryEvent]) -> None:
            if other is not None:
                other(events)
            listener(events)

        service._on_change = both
        return service

    def _read(self, work: Callable[[Connection], _T]) -> _T:
        return read(self._reader, work)

    def _change(self, work: Callable[[Transaction], _T], reason: str = "") -> _T:
        result, _ = self._changed(work, reason)
        return result

    def _event(
        self, work: Callable[[Transaction], None], reason: str
    ) -> RegistryEvent | None:
        """Do a change that writes one event at most, and return that event."""
        _, events = self._changed(work, reason)
        return events[0] if events else None

    def _changed(
        self, work: Callable[[Transaction], _T], reason: str
    ) -> tuple[_T, tuple[RegistryEvent, ...]]:
        why = fields.text("reason", reason, fields.DESCRIPTION_LENGTH, empty=True)
        name = self._actor if isinstance(self._actor, str) else self._actor()
        who = fields.text("actor", name)
        result, events = write(
            self._engine, work, actor=who, reason=why, preview=self._previews
        )
        if events and self._on_change is not None:
            self._on_change(events)
        return result, events
