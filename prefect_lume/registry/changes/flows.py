"""Storing flows, pointing them at deployments, and removing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)

from prefect_lume.errors import ConflictError, clip, name_list
from prefect_lume.registry import criteria as by
from prefect_lume.registry.ledger import PROJECT, Transaction, now
from prefect_lume.registry.tables import (
    FLOWS,
    DeploymentRow,
    FlowRow,
    SubflowRow,
)

_FIND: Final = (
    select(
        FLOWS.c.flow_id,
        FLOWS.c.flow_name,
        FLOWS.c.project_name,
        FLOWS.c.deployment_id,
        FLOWS.c.composition,
    )
    .where(
        or_(
            FLOWS.c.flow_id == bindparam("id"),
            and_(
                FLOWS.c.project_name == bindparam("project"),
                FLOWS.c.flow_name == bindparam("name"),
            ),
        )
    )
    .order_by(FLOWS.c.flow_id)
    .with_for_update()
)
_MODEL_OF: Final = select(DeploymentRow.model_id).where(
    DeploymentRow.deployment_id == bindparam("deployment_id")
)

_INSERT: Final = insert(FLOWS)
_POINT: Final = (
    update(FLOWS)
    .where(FLOWS.c.flow_id == bindparam("id"))
    .values(deployment_id=bindparam("number"))
)
_DELETE: Final = delete(FLOWS).where(
    FLOWS.c.flow_id.in_(bindparam("ids", expanding=True))
)


@dataclass(frozen=True)
class Some:
    """Flows that are to be removed, and which of them take part in a flow-of-flows.

    Attributes:
        flows: The statement that finds the flows, and locks them.
        used: The statement that finds those that are subflows, with their parents.
    """

    flows: Any
    used: Any


def _some(which: ColumnElement[bool]) -> Some:
    flows = select(
        FlowRow.flow_id,
        FlowRow.flow_name,
        FlowRow.project_name,
        FlowRow.deployment_id,
    )
    used = select(SubflowRow.name, SubflowRow.parent_flow_id)
    return Some(
        flows.where(which)
        .order_by(FlowRow.project_name, FlowRow.flow_id)
        .with_for_update(),
        used.join(FlowRow, FlowRow.flow_id == SubflowRow.flow_id)
        .where(which)
        .limit(by.MOST_KNOWN),
    )


_ONE: Final = _some(FlowRow.flow_id == bindparam("flow_id"))
#: The flows that a deployment serves, by its ``deployment_id``.
OF_DEPLOYMENT: Final = _some(FlowRow.deployment_id == bindparam("deployment_id"))
#: The flows that a model's deployments serve, by its ``model_id``.
OF_MODEL: Final = _some(
    FlowRow.deployment_id.in_(
        select(DeploymentRow.deployment_id).where(
            DeploymentRow.model_id == bindparam("model_id")
        )
    )
)


def flow_for_update(
    tx: Transaction, flow_id: str, flow_name: str, project_name: str
) -> Any:
    """Return a flow's row, locked, or ``None`` if it is new.

    Raises:
        ConflictError: The id belongs to a flow of another name or project, or the
            name in that project to a flow of another id.
    """
    # One statement: between two, another writer could store this very flow, which
    # would then be found by its name and not by its id.
    asked = {"id": flow_id, "project": project_name, "name": flow_name}
    rows = tx.connection.execute(_FIND, asked).all()
    row = next((item for item in rows if item.flow_id == flow_id), None)
    if row is None and rows:
        taken = rows[0].flow_id
        raise ConflictError(
            f"Project {clip(project_name, 60)!r} has a flow named "
            f"{clip(flow_name, 60)!r} already, with flow_id {taken!r}; it cannot "
            f"have the flow_id {flow_id!r} too. Use another name or project, or "
            f"remove the old one: delete_flow({taken!r})."
        )
    if row is not None and (row.flow_name, row.project_name) != (
        flow_name,
        project_name,
    ):
        raise ConflictError(
            f"The flow_id {flow_id!r} belongs to the flow {clip(row.flow_name, 60)!r} "
            f"of project {clip(row.project_name, 60)!r} already; it cannot be "
            f"{clip(flow_name, 60)!r} of project {clip(project_name, 60)!r} too. One "
            f"Prefect flow has one name and belongs to one project."
        )
    return row


def insert_flow(
    tx: Transaction,
    flow_id: str,
    flow_name: str,
    project_name: str,
    *,
    deployment_id: int | None = None,
    composition: dict[str, Any] | None = None,
) -> None:
    """Insert a flow that is new."""
    row = {
        "flow_id": flow_id,
        "flow_name": flow_name,
        "project_name": project_name,
        "deployment_id": deployment_id,
        "composition": composition,
        "created": now(),
    }
    tx.connection.execute(_INSERT, row)


def store_flow(
    tx: Transaction,
    flow_id: str,
    flow_name: str,
    project_name: str,
    deployment_id: int | None,
) -> str:
    """Store a flow, or point a known one at another deployment of its model."""
    model_id = None
    if deployment_id is not None:
        asked = {"deployment_id": deployment_id}
        model_id = tx.connection.execute(_MODEL_OF, asked).scalar_one_or_none()
        if model_id is None:
            raise by.not_found(tx.connection, DeploymentRow, asked)
        # As a promotion does, which may move this very flow.
        tx.lock_model(model_id)
        if tx.connection.execute(_MODEL_OF, asked).first() is None:
            raise by.not_found(tx.connection, DeploymentRow, asked)
    history_id, _ = tx.lock_project(project_name)
    row = flow_for_update(tx, flow_id, flow_name, project_name)
    about = {"flow_name": flow_name, "project_name": project_name}
    if row is None:
        insert_flow(tx, flow_id, flow_name, project_name, deployment_id=deployment_id)
        tx.record(
            PROJECT,
            history_id,
            "flow.stored",
            flow_id=flow_id,
            deployment_id=deployment_id,
            after={**about, "deployment_id": deployment_id},
        )
    elif deployment_id is not None and row.deployment_id != deployment_id:
        _refuse_other_model(tx, row, deployment_id, model_id)
        tx.connection.execute(_POINT, {"id": flow_id, "number": deployment_id})
        tx.record(
            PROJECT,
            history_id,
            "flow.pointed",
            flow_id=flow_id,
            deployment_id=deployment_id,
            previous_deployment_id=row.deployment_id,
            before={**about, "deployment_id": row.deployment_id},
            after={**about, "deployment_id": deployment_id},
        )
    return flow_id


def _refuse_other_model(
    tx: Transaction, row: Any, deployment_id: int, model_id: int | None
) -> None:
    if row.composition is not None:
        raise ConflictError(
            f"The flow {clip(row.flow_name, 60)!r} of project "
            f"{clip(row.project_name, 60)!r} is the parent of a flow-of-flows; no "
            f"deployment serves such a flow."
        )
    if row.deployment_id is None:
        return
    asked = {"deployment_id": row.deployment_id}
    current = tx.connection.execute(_MODEL_OF, asked).scalar_one()
    if current != model_id:
        raise ConflictError(
            f"The flow {clip(row.flow_name, 60)!r} of project "
            f"{clip(row.project_name, 60)!r} belongs to model {current} "
            f"(deployment {row.deployment_id}); deployment {deployment_id} "
            f"is one of model {model_id}. Give that model's flow another name."
        )


def delete_flow(tx: Transaction, flow_id: str) -> None:
    """Remove a flow, and the subflows that it is the parent of."""
    asked = {"flow_id": flow_id}
    if not remove(tx, _ONE, asked, f"Flow {flow_id!r}"):
        raise by.not_found(tx.connection, FlowRow, asked)


def remove(tx: Transaction, some: Some, asked: Mapping[str, Any], what: str) -> int:
    """Remove flows: one, or those that point at something which is to be removed.

    Args:
        tx: The transaction.
        some: Which flows.
        asked: The parameter that says of what.
        what: What is to be removed, for the message.

    Returns:
        How many there were.

    Raises:
        ConflictError: One of them takes part in a flow-of-flows.
    """
    # Locked first: nobody else removes, renames or uses them from here on.
    rows = tx.connection.execute(some.flows, asked).all()
    if not rows:
        return 0
    _refuse_used(tx, some, asked, what)
    histories = {
        name: tx.lock_project(name)[0]
        for name in dict.fromkeys(row.project_name for row in rows)
    }
    for row in rows:
        tx.record(
            PROJECT,
            histories[row.project_name],
            "flow.deleted",
            flow_id=row.flow_id,
            deployment_id=row.deployment_id,
            before={
                "flow_name": row.flow_name,
                "project_name": row.project_name,
                "deployment_id": row.deployment_id,
            },
        )
    tx.connection.execute(_DELETE, {"ids": [row.flow_id for row in rows]})
    return len(rows)


def _refuse_used(
    tx: Transaction, some: Some, asked: Mapping[str, Any], what: str
) -> None:
    used = tx.connection.execute(some.used, asked).all()
    if not used:
        return
    parents = tx.connection.scalars(
        select(FlowRow.flow_name).where(
            FlowRow.flow_id.in_({parent for _, parent in used})
        )
    )
    raise ConflictError(
        f"{what} cannot be removed: its flows take part in {name_list(parents)} as "
        f"{name_list(name for name, _ in used)}. Change or remove those flow-of-flows "
        f"first."
    )
