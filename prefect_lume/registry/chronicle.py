"""Reading the history, and the lineage of deployments."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, bindparam, literal, or_, select

from prefect_lume.registry import criteria as by
from prefect_lume.registry import reading, repository
from prefect_lume.registry.records import Lineage, RegistryEvent
from prefect_lume.registry.tables import DeploymentRow, EventRow, ProjectRow

#: Generations that a lineage is followed, at most.
_GENERATIONS: Final = 1_000


def history(
    connection: Connection,
    *,
    model_id: int | None,
    deployment_id: int | None,
    project_name: str | None,
    flow_id: str | None,
    kind: str | None,
    limit: int | None,
) -> tuple[RegistryEvent, ...]:
    """Return events, newest first; of everything, or of what is named."""
    statement = reading.events().order_by(EventRow.event_id.desc())
    if model_id is not None:
        statement = statement.where(
            EventRow.subject == "model", EventRow.subject_id == str(model_id)
        ).order_by(None)
        statement = statement.order_by(EventRow.number.desc())
    if project_name is not None:
        named = select(ProjectRow.history_id).where(
            ProjectRow.project_name == project_name
        )
        history_id = connection.scalar(named)
        if history_id is None:
            raise by.not_found(connection, ProjectRow, {"project_name": project_name})
        statement = statement.where(
            EventRow.subject == "project", EventRow.subject_id == history_id
        ).order_by(None)
        statement = statement.order_by(EventRow.number.desc())
    if deployment_id is not None:
        statement = statement.where(
            or_(
                EventRow.deployment_id == deployment_id,
                EventRow.previous_deployment_id == deployment_id,
            )
        )
    if flow_id is not None:
        statement = statement.where(EventRow.flow_id == flow_id)
    if kind is not None:
        statement = statement.where(EventRow.kind == kind)
    if limit is not None:
        statement = statement.limit(limit)
    return tuple(map(reading.event_record, connection.execute(statement)))


_BECAME_LIVE: Final = (
    reading.events()
    .join(
        DeploymentRow,
        (DeploymentRow.deployment_id == EventRow.deployment_id) & DeploymentRow.is_live,
    )
    .where(EventRow.kind.in_(["deployment.promoted", "deployment.rolled-back"]))
    .order_by(EventRow.event_id)
)


def live_events(connection: Connection) -> dict[int, RegistryEvent]:
    """Return the event by which each live deployment became so, by model."""
    events = map(reading.event_record, connection.execute(_BECAME_LIVE))
    # The latest one counts: it may have been live before.
    return {int(event.subject_id): event for event in events}


def _ancestors() -> Any:
    own = (
        select(DeploymentRow.parent_deployment_id.label("id"), literal(1).label("n"))
        .where(DeploymentRow.deployment_id == bindparam("deployment_id"))
        .cte("ancestor", recursive=True)
    )
    above = (
        select(DeploymentRow.parent_deployment_id, own.c.n + 1)
        .join(own, DeploymentRow.deployment_id == own.c.id)
        .where(own.c.n < _GENERATIONS)
    )
    return own.union_all(above)


def _descendants() -> Any:
    own = (
        select(DeploymentRow.deployment_id.label("id"), literal(-1).label("n"))
        .where(DeploymentRow.parent_deployment_id == bindparam("deployment_id"))
        .cte("descendant", recursive=True)
    )
    below = (
        select(DeploymentRow.deployment_id, own.c.n - 1)
        .join(own, DeploymentRow.parent_deployment_id == own.c.id)
        .where(own.c.n > -_GENERATIONS)
    )
    return own.union_all(below)


_above, _below = _ancestors(), _descendants()
_RELATED: Final = select(_above.c.id, _above.c.n).union_all(
    select(_below.c.id, _below.c.n)
)


def lineage(connection: Connection, deployment_id: int) -> Lineage:
    """Return what a deployment was made from, and what was made from it.

    A parent is older than its child, so that there is no circle.
    """
    asked = {"deployment_id": deployment_id}
    related = [
        (number, generation)
        for number, generation in connection.execute(_RELATED, asked)
        if number is not None
    ]
    above = [number for number, n in sorted(related, key=lambda r: r[1]) if n > 0]
    below = sorted({number for number, n in related if n < 0})
    records = {
        record.deployment_id: record
        for record in repository.deployments_by_ids(
            connection, [deployment_id, *above, *below]
        )
    }
    if deployment_id not in records:
        raise by.not_found(connection, DeploymentRow, asked)
    return Lineage(
        deployment=records[deployment_id],
        ancestors=tuple(records[number] for number in above if number in records),
        descendants=tuple(records[number] for number in below if number in records),
    )
