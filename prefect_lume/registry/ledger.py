"""A transaction that keeps the history: no change without its event, and no gap.

The events of a model, or of a project, are numbered by its row's ``revision``. Whoever
changes something of it locks that row first, so numbers follow each other and changes
of one model come one after the other, while those of different models do not wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, bindparam, insert, select, update

from prefect_lume.errors import NotFoundError
from prefect_lume.registry import criteria as by
from prefect_lume.registry.records import RegistryEvent
from prefect_lume.registry.tables import (
    EVENTS,
    MODELS,
    PROJECTS,
    EventRow,
    ModelRow,
    ProjectRow,
)

MODEL: Final = "model"
PROJECT: Final = "project"

_LOCK_MODEL: Final = (
    select(ModelRow.revision)
    .where(ModelRow.model_id == bindparam("model_id"))
    .with_for_update()
)
_LOCK_PROJECT: Final = (
    select(ProjectRow.history_id, ProjectRow.revision, ProjectRow.description)
    .where(ProjectRow.project_name == bindparam("name"))
    .with_for_update()
)
_COUNT_MODEL: Final = (
    update(MODELS)
    .where(MODELS.c.model_id == bindparam("id"))
    .values(revision=bindparam("number"))
)
_COUNT_PROJECT: Final = (
    update(PROJECTS)
    .where(PROJECTS.c.history_id == bindparam("id"))
    .values(revision=bindparam("number"))
)
_WRITE: Final = insert(EVENTS)
_FIND_CHANGE: Final = (
    select(EventRow.event_id)
    .where(EventRow.change_id == bindparam("change_id"))
    .limit(1)
)


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def has_happened(connection: Connection, change_id: str) -> bool:
    """Tell whether a change whose connection was lost has been committed."""
    found = connection.execute(_FIND_CHANGE, {"change_id": change_id})
    return found.first() is not None


class Transaction:
    """A transaction of the registry, and the events that it writes.

    Attributes:
        connection: Where statements are executed.
        change_id: An id of this attempt, which its events carry.
        events: The events so far.
    """

    def __init__(self, connection: Connection, actor: str, reason: str = "") -> None:
        self.connection = connection
        self.change_id = uuid4().hex
        self.events: list[RegistryEvent] = []
        self._actor = actor
        self._reason = reason
        self._revisions: dict[tuple[str, str], int] = {}
        self._stored: dict[tuple[str, str], int] = {}

    def lock_model(self, model_id: int) -> None:
        """Lock a model's row; what is read of the model after that still holds.

        Raises:
            NotFoundError: There is no such model.
        """
        key = MODEL, str(model_id)
        if key in self._revisions:
            return
        revision = self.connection.execute(
            _LOCK_MODEL, {"model_id": model_id}
        ).scalar_one_or_none()
        if revision is None:
            raise by.not_found(self.connection, ModelRow, {"model_id": model_id})
        self._revisions[key] = self._stored[key] = revision

    def lock_project(self, project_name: str) -> tuple[str, str]:
        """Lock a project's row, and return its history's id and its description.

        Raises:
            NotFoundError: There is no such project.
        """
        row = self.connection.execute(_LOCK_PROJECT, {"name": project_name}).first()
        if row is None:
            error = by.not_found(
                self.connection, ProjectRow, {"project_name": project_name}
            )
            raise NotFoundError(
                "project",
                project_name,
                error.known,
                hint="Store it first: store_project(project_name).",
            )
        history_id, revision, description = str(row[0]), row[1], row[2]
        key = PROJECT, history_id
        self._revisions.setdefault(key, revision)
        self._stored.setdefault(key, revision)
        return history_id, description

    def begin(self, subject: str, subject_id: object) -> None:
        """Begin the history of a row that was inserted with revision 1."""
        key = subject, str(subject_id)
        self._revisions[key], self._stored[key] = 0, 1

    def end(self, subject: str, subject_id: object) -> None:
        """Note, after its last event, that a row goes, and its revision with it."""
        key = subject, str(subject_id)
        self._stored[key] = self._revisions[key]

    def record(
        self,
        subject: str,
        subject_id: object,
        kind: str,
        *,
        deployment_id: int | None = None,
        previous_deployment_id: int | None = None,
        flow_id: str | None = None,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Note an event of a locked model or project; :meth:`flush` writes it."""
        key = subject, str(subject_id)
        self._revisions[key] += 1
        self.events.append(
            RegistryEvent(
                subject=subject,
                subject_id=key[1],
                number=self._revisions[key],
                kind=kind,
                happened=now(),
                actor=self._actor,
                reason=self._reason,
                deployment_id=deployment_id,
                previous_deployment_id=previous_deployment_id,
                flow_id=flow_id,
                before=dict(before or {}),
                after=dict(after or {}),
            )
        )

    def flush(self) -> None:
        """Write the events, and how many there are."""
        if not self.events:
            return
        self.connection.execute(_WRITE, [self._row(event) for event in self.events])
        for (subject, subject_id), number in self._revisions.items():
            if number == self._stored[subject, subject_id]:
                continue
            if subject == MODEL:
                self.connection.execute(
                    _COUNT_MODEL, {"id": int(subject_id), "number": number}
                )
            else:
                self.connection.execute(
                    _COUNT_PROJECT, {"id": subject_id, "number": number}
                )

    def _row(self, event: RegistryEvent) -> dict[str, Any]:
        return {
            "subject": event.subject,
            "subject_id": event.subject_id,
            "number": event.number,
            "kind": event.kind,
            "happened": event.happened,
            "actor": event.actor,
            "reason": event.reason,
            "deployment_id": event.deployment_id,
            "previous_deployment_id": event.previous_deployment_id,
            "flow_id": event.flow_id,
            "value_before": event.before or None,
            "value_after": event.after or None,
            "change_id": self.change_id,
        }
