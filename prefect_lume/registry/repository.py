"""Reading the registry: one statement a question, however many rows it answers."""

from __future__ import annotations

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload
from sqlalchemy.orm.interfaces import ORMOption

from prefect_lume.errors import InvalidInputError, NotFoundError
from prefect_lume.registry import criteria as by
from prefect_lume.registry.criteria import MOST_ROWS, Criteria
from prefect_lume.registry.records import (
    DeploymentRecord,
    FlowOfFlowsRecord,
    FlowRecord,
    ModelRecord,
    ProjectRecord,
    SubflowRecord,
)
from prefect_lume.registry.tables import (
    DeploymentRow,
    FlowRow,
    ModelRow,
    ProjectRow,
    SubflowRow,
)

_WITH_MODEL = joinedload(DeploymentRow.model, innerjoin=True)
_WITH_ALL: tuple[ORMOption, ...] = (
    joinedload(FlowRow.project, innerjoin=True),
    joinedload(FlowRow.deployment).joinedload(DeploymentRow.model, innerjoin=True),
)
_SUBFLOW_FLOW = joinedload(FlowRow.subflows).joinedload(
    SubflowRow.flow, innerjoin=False
)
_WITH_SUBFLOWS: tuple[ORMOption, ...] = (
    *_WITH_ALL,
    _SUBFLOW_FLOW.joinedload(FlowRow.project),
    _SUBFLOW_FLOW.joinedload(FlowRow.deployment).joinedload(DeploymentRow.model),
)


def model_record(row: ModelRow) -> ModelRecord:
    """Return the record of a row."""
    return ModelRecord(
        model_id=row.model_id,
        author=row.author,
        laboratory=row.laboratory,
        facility=row.facility,
        beampath=row.beampath,
        description=row.description,
        created=row.created,
    )


def deployment_record(row: DeploymentRow) -> DeploymentRecord:
    """Return the record of a row and of its model."""
    return DeploymentRecord(
        deployment_id=row.deployment_id,
        model=model_record(row.model),
        version=row.version,
        deploy_date=row.deploy_date,
        package_import_name=row.package_import_name,
        asset_dir=row.asset_dir,
        source=row.source,
        sha256=row.sha256,
        image=row.image,
        is_live=row.is_live,
        entrypoints=dict(row.entrypoints or {}),
        lock=row.lock,
    )


def project_record(row: ProjectRow) -> ProjectRecord:
    """Return the record of a row."""
    return ProjectRecord(
        project_name=row.project_name,
        description=row.description,
        created=row.created,
    )


def flow_record(row: FlowRow) -> FlowRecord:
    """Return the record of a row, its project and its deployment."""
    return FlowRecord(
        flow_id=row.flow_id,
        flow_name=row.flow_name,
        project=project_record(row.project),
        deployment=deployment_record(row.deployment) if row.deployment else None,
        created=row.created,
        composition=row.composition,
    )


def flow_of_flows_record(row: FlowRow) -> FlowOfFlowsRecord:
    """Return the record of a parent and of all its subflows."""
    return FlowOfFlowsRecord(
        parent=flow_record(row),
        subflows=tuple(
            SubflowRecord(
                name=part.name,
                position=part.position,
                flow=flow_record(part.flow),
                mapped_parameters=part.mapped_parameters,
                parameters=part.parameters,
                options=part.options,
            )
            for part in row.subflows
        ),
    )


def _models(criteria: Criteria) -> Select[ModelRow]:
    conditions = by.conditions(ModelRow, criteria)
    return select(ModelRow).where(*conditions).order_by(ModelRow.model_id)


def _deployments(criteria: Criteria) -> Select[DeploymentRow]:
    return (
        select(DeploymentRow)
        .where(*by.conditions(DeploymentRow, criteria))
        .options(_WITH_MODEL)
        .order_by(DeploymentRow.deployment_id)
    )


def _flows(criteria: Criteria) -> Select[FlowRow]:
    return select(FlowRow).where(*by.conditions(FlowRow, criteria)).options(*_WITH_ALL)


def find_models(session: Session, criteria: Criteria) -> list[ModelRecord]:
    """Return all models that fit, oldest first."""
    return [model_record(row) for row in session.scalars(_models(criteria))]


def find_model(session: Session, criteria: Criteria) -> ModelRecord:
    """Return the one model that fits."""
    rows = session.scalars(_models(criteria).limit(MOST_ROWS + 1)).all()
    return model_record(by.one(session, ModelRow, criteria, rows))


def find_deployments(session: Session, criteria: Criteria) -> list[DeploymentRecord]:
    """Return all deployments that fit, oldest first."""
    return [deployment_record(row) for row in session.scalars(_deployments(criteria))]


def find_deployment(session: Session, criteria: Criteria) -> DeploymentRecord:
    """Return the one deployment that fits."""
    rows = session.scalars(_deployments(criteria).limit(MOST_ROWS + 1)).all()
    return deployment_record(by.one(session, DeploymentRow, criteria, rows))


def latest_deployment(session: Session, model_id: int) -> DeploymentRecord:
    """Return the deployment of a model that was stored last."""
    statement = _deployments({"model_id": model_id}).order_by(None)
    latest = statement.order_by(DeploymentRow.deployment_id.desc()).limit(1)
    row = session.scalars(latest).first()
    if row is None:
        find_model(session, {"model_id": model_id})
        raise NotFoundError(
            "deployment of model", model_id, hint="Store one with store_deployment."
        )
    return deployment_record(row)


def live_deployment(session: Session, model_id: int) -> DeploymentRecord:
    """Return the live deployment of a model."""
    statement = _deployments({"model_id": model_id}).where(DeploymentRow.is_live)
    row = session.scalars(statement).first()
    if row is None:
        model = find_model(session, {"model_id": model_id})
        raise NotFoundError(
            "live deployment of model",
            model.model_id,
            hint="Make one live: set_live(deployment_id).",
        )
    return deployment_record(row)


def find_projects(session: Session) -> list[ProjectRecord]:
    """Return all projects, by name."""
    rows = session.scalars(select(ProjectRow))
    # Sorted here, by code point: each database has an order of its own.
    return sorted(map(project_record, rows), key=lambda record: record.project_name)


def find_project(session: Session, project_name: str) -> ProjectRecord:
    """Return a project by its name."""
    criteria = {"project_name": project_name}
    conditions = by.conditions(ProjectRow, criteria)
    rows = session.scalars(select(ProjectRow).where(*conditions)).all()
    return project_record(by.one(session, ProjectRow, criteria, rows))


def find_flows(session: Session, criteria: Criteria) -> list[FlowRecord]:
    """Return all flows that fit, by project and name."""
    rows = session.scalars(_flows(criteria))
    return sorted(
        map(flow_record, rows), key=lambda flow: (flow.project_name, flow.flow_name)
    )


def find_flow(session: Session, criteria: Criteria) -> FlowRecord:
    """Return the one flow that fits."""
    rows = session.scalars(_flows(criteria).limit(MOST_ROWS + 1)).all()
    return flow_record(by.one(session, FlowRow, criteria, rows))


def find_flow_of_flows(
    session: Session,
    parent_flow_id: str | None,
    flow_name: str | None,
    project_name: str | None,
) -> FlowOfFlowsRecord:
    """Return the one flow-of-flows that fits, with all its subflows."""
    given = {
        "flow_id": parent_flow_id,
        "flow_name": flow_name,
        "project_name": project_name,
    }
    criteria = {name: value for name, value in given.items() if value is not None}
    if not criteria:
        raise InvalidInputError(
            "Say which flow-of-flows: give parent_flow_id, or flow_name and, where "
            "several projects use the name, project_name."
        )
    parents = (
        select(FlowRow)
        .where(*by.conditions(FlowRow, criteria), FlowRow.composition.is_not(None))
        .options(*_WITH_SUBFLOWS)
    )
    rows = session.scalars(parents).unique().all()
    if not rows:
        _explain_no_parent(session, criteria)
    return flow_of_flows_record(by.one(session, FlowRow, criteria, rows))


def _explain_no_parent(session: Session, criteria: Criteria) -> None:
    flows = session.scalars(_flows(criteria).limit(1)).all()
    if not flows:
        raise by.not_found(session, FlowRow, criteria)
    names = session.scalars(
        select(FlowRow.flow_name)
        .where(FlowRow.composition.is_not(None))
        .limit(by.MOST_KNOWN)
    )
    raise NotFoundError(
        "flow-of-flows",
        flows[0].flow_name,
        names,
        hint="There is a flow of that name, but it has no subflows.",
    )
