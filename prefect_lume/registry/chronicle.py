"""Reading the history, and the lineage of deployments."""

from __future__ import annotations

import functools
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    literal,
    or_,
    select,
)

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
    asked: dict[str, Any] = {
        "deployment_id": deployment_id,
        "flow_id": flow_id,
        "kind": kind,
        "limit": limit,
    }
    if model_id is not None:
        asked["model"] = str(model_id)
    if project_name is not None:
        named = {"project_name": project_name}
        asked["project"] = connection.execute(_NAMED, named).scalar_one_or_none()
        if asked["project"] is None:
            raise by.not_found(connection, ProjectRow, named)
    given = {name: value for name, value in asked.items() if value is not None}
    rows = connection.execute(_events(frozenset(given)), given).all()
    return tuple(map(reading.event_record, rows))


_NAMED: Final = select(ProjectRow.history_id).where(
    ProjectRow.project_name == bindparam("project_name")
)


@functools.lru_cache(maxsize=64)
def _events(given: frozenset[str]) -> Select[Any]:
    """Return the statement for the events that all that is given fits."""
    number: BindParameter[int] = bindparam("deployment_id")
    conditions: dict[str, ColumnElement[bool]] = {
        "model": and_(
            EventRow.subject == "model", EventRow.subject_id == bindparam("model")
        ),
        "project": and_(
            EventRow.subject == "project", EventRow.subject_id == bindparam("project")
        ),
        "deployment_id": or_(
            EventRow.deployment_id == number, EventRow.previous_deployment_id == number
        ),
        "flow_id": EventRow.flow_id == bindparam("flow_id"),
        "kind": EventRow.kind == bindparam("kind"),
    }
    statement = reading.events().where(
        *(conditions[n] for n in conditions if n in given)
    )
    of_one = given & {"model", "project"}
    column = EventRow.number if of_one else EventRow.event_id
    statement = statement.order_by(column.desc())
    return statement.limit(bindparam("limit")) if "limit" in given else statement


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
