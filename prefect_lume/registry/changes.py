"""Changing models, deployments, projects and flows, inside a caller's transaction.

Whatever changes a model's deployments, or what points at them, locks the model's row
first: changes of one model come one after the other, those of different models do not
wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, and_, delete, or_, select, update
from sqlalchemy.orm import Session

from prefect_lume._fingerprint import sha256_tree
from prefect_lume.errors import ConflictError, NotFoundError, clip, name_list
from prefect_lume.registry import criteria as by
from prefect_lume.registry.tables import (
    DeploymentRow,
    FlowRow,
    ModelRow,
    ProjectRow,
    SubflowRow,
)


@dataclass(frozen=True)
class NewDeployment:
    """The checked values of a deployment that is to be stored."""

    model_id: int
    version: str
    source: str
    sha256: str
    package_import_name: str
    asset_dir: str | None = None
    image: str | None = None
    is_live: bool = True
    entrypoints: Mapping[str, str] = field(default_factory=dict)
    lock: str | None = None


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def store_model(session: Session, values: Mapping[str, str]) -> int:
    """Return the id of the model with these five fields, stored if it is new."""
    fingerprint = sha256_tree(dict(values))
    found = session.scalar(
        select(ModelRow.model_id).where(ModelRow.fingerprint == fingerprint)
    )
    if found is not None:
        return found
    row = ModelRow(**values, created=now(), fingerprint=fingerprint)
    session.add(row)
    session.flush()
    return row.model_id


def _lock_model(session: Session, model_id: int) -> ModelRow:
    statement = select(ModelRow).where(ModelRow.model_id == model_id).with_for_update()
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise by.not_found(session, ModelRow, {"model_id": model_id})
    return row


def _locked_deployment(session: Session, deployment_id: int) -> DeploymentRow:
    # The model's row is locked first and the deployment read after that, so that what
    # is read still holds when this transaction writes.
    model_id = session.scalar(
        select(DeploymentRow.model_id).where(
            DeploymentRow.deployment_id == deployment_id
        )
    )
    if model_id is not None:
        _lock_model(session, model_id)
        row = session.scalars(
            select(DeploymentRow)
            .where(DeploymentRow.deployment_id == deployment_id)
            .with_for_update()
        ).one_or_none()
        if row is not None:
            return row
    raise by.not_found(session, DeploymentRow, {"deployment_id": deployment_id})


def store_deployment(session: Session, new: NewDeployment) -> int:
    """Return the id of a model's version, stored if it is new."""
    _lock_model(session, new.model_id)
    existing = session.scalars(
        select(DeploymentRow)
        .where(
            DeploymentRow.model_id == new.model_id, DeploymentRow.version == new.version
        )
        .with_for_update()
    ).one_or_none()
    if existing is not None:
        _refuse_other_source(existing, new)
        if new.is_live and not existing.is_live:
            make_live(session, existing)
        return existing.deployment_id
    row = DeploymentRow(
        model_id=new.model_id,
        version=new.version,
        deploy_date=now(),
        package_import_name=new.package_import_name,
        asset_dir=new.asset_dir,
        source=new.source,
        sha256=new.sha256,
        image=new.image,
        is_live=False,
        entrypoints=dict(new.entrypoints),
        lock=new.lock,
    )
    session.add(row)
    session.flush()
    if new.is_live:
        make_live(session, row)
    return row.deployment_id


def _refuse_other_source(existing: DeploymentRow, new: NewDeployment) -> None:
    if existing.sha256 == new.sha256:
        return
    raise ConflictError(
        f"Version {clip(new.version, 60)!r} of model {new.model_id} is stored already "
        f"(deployment {existing.deployment_id}), with sha256 {existing.sha256}; the "
        f"new source has sha256 {new.sha256}. A stored version never changes: give the "
        f"changed package a new version."
    )


def set_live(session: Session, deployment_id: int) -> None:
    """Make a deployment the live one of its model, and point its flows at it."""
    make_live(session, _locked_deployment(session, deployment_id))


def make_live(session: Session, row: DeploymentRow) -> None:
    """Move "live" to a deployment whose model is locked, and the flows it offers."""
    deployments = update(DeploymentRow).execution_options(synchronize_session=False)
    session.execute(
        deployments.where(
            DeploymentRow.model_id == row.model_id,
            DeploymentRow.is_live,
            DeploymentRow.deployment_id != row.deployment_id,
        ).values(is_live=False)
    )
    session.execute(
        deployments.where(DeploymentRow.deployment_id == row.deployment_id).values(
            is_live=True
        )
    )
    if row.entrypoints:
        of_model = select(DeploymentRow.deployment_id).where(
            DeploymentRow.model_id == row.model_id
        )
        session.execute(
            update(FlowRow)
            .where(
                FlowRow.flow_name.in_(list(row.entrypoints)),
                FlowRow.deployment_id.in_(of_model),
            )
            .values(deployment_id=row.deployment_id)
            .execution_options(synchronize_session=False)
        )


def store_project(session: Session, project_name: str, description: str) -> str:
    """Store a project, or give a known one a new description that is not empty."""
    row = session.get(ProjectRow, project_name)
    if row is None:
        session.add(
            ProjectRow(
                project_name=project_name, description=description, created=now()
            )
        )
    elif description and description != row.description:
        row.description = description
    return project_name


def require_project(session: Session, project_name: str) -> None:
    """Raise unless there is a project of that name."""
    if session.get(ProjectRow, project_name) is None:
        error = by.not_found(session, ProjectRow, {"project_name": project_name})
        raise NotFoundError(
            "project",
            project_name,
            error.known,
            hint="Store it first: store_project(project_name).",
        )


def flow_for_update(
    session: Session, flow_id: str, flow_name: str, project_name: str
) -> FlowRow | None:
    """Return a flow's row, locked, or ``None`` if it is new.

    Raises:
        ConflictError: The id belongs to a flow of another name or project, or the
            name in that project to a flow of another id.
    """
    # One statement: between two, another writer could store this very flow, which
    # would then be found by its name and not by its id.
    named = and_(FlowRow.project_name == project_name, FlowRow.flow_name == flow_name)
    rows = session.scalars(
        select(FlowRow)
        .where(or_(FlowRow.flow_id == flow_id, named))
        .order_by(FlowRow.flow_id)
        .with_for_update()
    ).all()
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


def store_flow(
    session: Session,
    flow_id: str,
    flow_name: str,
    project_name: str,
    deployment_id: int | None,
) -> str:
    """Store a flow, or point a known one at another deployment of its model."""
    require_project(session, project_name)
    target = (
        _locked_deployment(session, deployment_id)
        if deployment_id is not None
        else None
    )
    row = flow_for_update(session, flow_id, flow_name, project_name)
    if row is None:
        session.add(
            FlowRow(
                flow_id=flow_id,
                flow_name=flow_name,
                project_name=project_name,
                deployment_id=deployment_id,
                created=now(),
            )
        )
    elif target is not None and row.deployment_id != target.deployment_id:
        _refuse_other_model(session, row, target)
        row.deployment_id = target.deployment_id
    return flow_id


def _refuse_other_model(session: Session, row: FlowRow, target: DeploymentRow) -> None:
    if row.composition is not None:
        raise ConflictError(
            f"The flow {clip(row.flow_name, 60)!r} of project "
            f"{clip(row.project_name, 60)!r} is the parent of a flow-of-flows; no "
            f"deployment serves such a flow."
        )
    if row.deployment_id is None:
        return
    current = session.get_one(DeploymentRow, row.deployment_id)
    if current.model_id != target.model_id:
        raise ConflictError(
            f"The flow {clip(row.flow_name, 60)!r} of project "
            f"{clip(row.project_name, 60)!r} belongs to model {current.model_id} "
            f"(deployment {current.deployment_id}); deployment {target.deployment_id} "
            f"is one of model {target.model_id}. Give that model's flow another name."
        )


def delete_deployment(session: Session, deployment_id: int, force: bool) -> None:
    """Remove a deployment and the flows that point at it."""
    row = _locked_deployment(session, deployment_id)
    what = f"Deployment {deployment_id}"
    if row.is_live and not force:
        raise ConflictError(
            f"{what} (version {clip(row.version, 60)!r}) is the live one of model "
            f"{row.model_id}. Make another one live first, or say force=True."
        )
    served = FlowRow.deployment_id == deployment_id
    _refuse_used(session, served, what)
    session.execute(delete(FlowRow).where(served))
    session.execute(
        delete(DeploymentRow).where(DeploymentRow.deployment_id == deployment_id)
    )


def delete_model(session: Session, model_id: int, force: bool) -> None:
    """Remove a model, its deployments and the flows that point at them."""
    _lock_model(session, model_id)
    own = DeploymentRow.model_id == model_id
    live = session.scalar(
        select(DeploymentRow.deployment_id).where(own, DeploymentRow.is_live)
    )
    what = f"Model {model_id}"
    if live is not None and not force:
        raise ConflictError(
            f"{what} has a live deployment ({live}). To remove it all the same, say "
            f"force=True."
        )
    ids = session.scalars(select(DeploymentRow.deployment_id).where(own)).all()
    served = FlowRow.deployment_id.in_(ids)
    _refuse_used(session, served, what)
    session.execute(delete(FlowRow).where(served))
    session.execute(delete(DeploymentRow).where(own))
    session.execute(delete(ModelRow).where(ModelRow.model_id == model_id))


def delete_flow(session: Session, flow_id: str) -> None:
    """Remove a flow, and the subflows that it is the parent of."""
    one = FlowRow.flow_id == flow_id
    if session.scalars(select(FlowRow.flow_id).where(one)).one_or_none() is None:
        raise by.not_found(session, FlowRow, {"flow_id": flow_id})
    _refuse_used(session, one, f"Flow {flow_id!r}")
    session.execute(delete(FlowRow).where(one))


def _refuse_used(session: Session, flows: ColumnElement[bool], what: str) -> None:
    used = session.execute(
        select(SubflowRow.name, SubflowRow.parent_flow_id)
        .join(FlowRow, FlowRow.flow_id == SubflowRow.flow_id)
        .where(flows)
        .limit(by.MOST_KNOWN)
    ).all()
    if not used:
        return
    parents = session.scalars(
        select(FlowRow.flow_name).where(
            FlowRow.flow_id.in_({parent for _, parent in used})
        )
    )
    raise ConflictError(
        f"{what} cannot be removed: its flows take part in {name_list(parents)} as "
        f"{name_list(name for name, _ in used)}. Change or remove those flow-of-flows "
        f"first."
    )
