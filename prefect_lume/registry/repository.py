"""Reading the registry: one statement a question, however many rows it answers.

Statements are joined along the tables' relationships, and are made once for each set of
columns that is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, select
from sqlalchemy.orm import aliased

from prefect_lume.errors import InvalidInputError, NotFoundError
from prefect_lume.registry import criteria as by
from prefect_lume.registry import reading
from prefect_lume.registry.criteria import MOST_ROWS, Criteria, T
from prefect_lume.registry.records import (
    DeploymentRecord,
    FlowOfFlowsRecord,
    FlowRecord,
    FlowUse,
    ModelRecord,
    ProjectRecord,
    SubflowRecord,
)
from prefect_lume.registry.tables import (
    AliasRow,
    Base,
    DeploymentRow,
    FlowRow,
    ModelRow,
    ProjectRow,
    SubflowRow,
)

#: Kind of row → what reads many of them, what reads one, their order, their record.
_READ: Final[dict[type[Base], tuple[Any, Any, Any, Callable[[Any], Any]]]] = {
    ModelRow: (
        reading.models(),
        reading.models(),
        ModelRow.model_id,
        reading.model_record,
    ),
    DeploymentRow: (
        reading.deployments(),
        reading.deployments(lock=True),
        DeploymentRow.deployment_id,
        reading.deployment_record,
    ),
    ProjectRow: (
        reading.projects(),
        reading.projects(),
        ProjectRow.project_name,
        reading.project_record,
    ),
    FlowRow: (reading.flows(), reading.flows(), FlowRow.flow_id, reading.flow_record),
}


@functools.lru_cache(maxsize=256)
def _statement(
    row: type[Base], asked: tuple[tuple[str, bool], ...], one: bool
) -> Select[Any]:
    """Return the statement for criteria, given as names and whether they are NULL."""
    many, single, order, _ = _READ[row]
    statement: Select[Any] = single if one else many
    names = {name: None if is_null else "" for name, is_null in asked}
    statement = statement.where(*by.conditions(row, names)).order_by(order)
    return statement.limit(MOST_ROWS + 1) if one else statement


def _find(
    connection: Connection, row: type[Base], criteria: Criteria, *, one: bool
) -> list[Any]:
    values = by.parameters(row, criteria)
    asked = tuple((name, value is None) for name, value in criteria.items())
    rows = connection.execute(_statement(row, asked, one), values).all()
    return [*map(_READ[row][3], rows)]


def _find_one(connection: Connection, row: type[Base], criteria: Criteria) -> Any:
    # Nothing would be found by no criteria but everything.
    found: list[Any] = _find(connection, row, criteria, one=True) if criteria else []
    return by.one(connection, row, criteria, found)


def find_models(connection: Connection, criteria: Criteria) -> list[ModelRecord]:
    """Return all models that fit, oldest first."""
    return _find(connection, ModelRow, criteria, one=False)


def find_model(connection: Connection, criteria: Criteria) -> ModelRecord:
    """Return the one model that fits."""
    found: ModelRecord = _find_one(connection, ModelRow, criteria)
    return found


def find_deployments(
    connection: Connection, criteria: Criteria
) -> list[DeploymentRecord]:
    """Return all deployments that fit, oldest first."""
    return _find(connection, DeploymentRow, criteria, one=False)


def find_deployment(connection: Connection, criteria: Criteria) -> DeploymentRecord:
    """Return the one deployment that fits, with its lock."""
    found: DeploymentRecord = _find_one(connection, DeploymentRow, criteria)
    return found


_ONE_DEPLOYMENT: Final = reading.deployments(lock=True)
_LATEST: Final = (
    _ONE_DEPLOYMENT.where(DeploymentRow.model_id == bindparam("model_id"))
    .order_by(DeploymentRow.deployment_id.desc())
    .limit(1)
)
_LIVE: Final = _ONE_DEPLOYMENT.where(
    DeploymentRow.live_model_id == bindparam("model_id")
)
_BY_ALIAS: Final = _ONE_DEPLOYMENT.join(DeploymentRow.aliases).where(
    AliasRow.model_id == bindparam("model_id"), AliasRow.alias == bindparam("alias")
)
_BY_IDS: Final = reading.deployments().where(
    DeploymentRow.deployment_id.in_(bindparam("ids", expanding=True))
)
_MODELS_BY_IDS: Final = reading.models().where(
    ModelRow.model_id.in_(bindparam("ids", expanding=True))
)


def latest_deployment(connection: Connection, model_id: int) -> DeploymentRecord:
    """Return the deployment of a model that was stored last."""
    row = connection.execute(_LATEST, {"model_id": model_id}).first()
    if row is None:
        find_model(connection, {"model_id": model_id})
        raise NotFoundError(
            "deployment of model", model_id, hint="Store one with store_deployment."
        )
    return reading.deployment_record(row)


def live_deployment(connection: Connection, model_id: int) -> DeploymentRecord:
    """Return the live deployment of a model."""
    row = connection.execute(_LIVE, {"model_id": model_id}).first()
    if row is None:
        find_model(connection, {"model_id": model_id})
        raise NotFoundError(
            "live deployment of model",
            model_id,
            hint="Make one live: promote(deployment_id).",
        )
    return reading.deployment_record(row)


def deployment_by_alias(
    connection: Connection, model_id: int, alias: str
) -> DeploymentRecord:
    """Return the deployment of a model that an alias points at."""
    asked = {"model_id": model_id, "alias": alias}
    row = connection.execute(_BY_ALIAS, asked).first()
    if row is None:
        find_model(connection, {"model_id": model_id})
        known = connection.scalars(
            select(AliasRow.alias)
            .where(AliasRow.model_id == model_id)
            .limit(by.MOST_KNOWN)
        )
        raise NotFoundError(
            f"alias of model {model_id}", alias, [*known, "live", "latest"]
        )
    return reading.deployment_record(row)


def deployments_by_ids(
    connection: Connection, ids: Sequence[int]
) -> tuple[DeploymentRecord, ...]:
    """Return deployments in the order of their numbers; those that are gone not."""
    rows = map(
        reading.deployment_record, connection.execute(_BY_IDS, {"ids": list(ids)}).all()
    )
    return _in_order({record.deployment_id: record for record in rows}, ids)


def models_by_ids(
    connection: Connection, ids: Sequence[int]
) -> tuple[ModelRecord, ...]:
    """Return models in the order of their numbers; those that are gone not."""
    rows = map(
        reading.model_record,
        connection.execute(_MODELS_BY_IDS, {"ids": list(ids)}).all(),
    )
    return _in_order({record.model_id: record for record in rows}, ids)


def _in_order(records: dict[int, T], ids: Sequence[int]) -> tuple[T, ...]:
    return tuple(records[number] for number in ids if number in records)


def find_projects(connection: Connection) -> list[ProjectRecord]:
    """Return all projects, by name."""
    found: list[ProjectRecord] = _find(connection, ProjectRow, {}, one=False)
    # Sorted here, by code point: each database has an order of its own.
    return sorted(found, key=lambda record: record.project_name)


def find_project(connection: Connection, project_name: str) -> ProjectRecord:
    """Return a project by its name."""
    criteria = {"project_name": project_name}
    found: ProjectRecord = _find_one(connection, ProjectRow, criteria)
    return found


def find_flows(connection: Connection, criteria: Criteria) -> list[FlowRecord]:
    """Return all flows that fit, by project and name."""
    found: list[FlowRecord] = _find(connection, FlowRow, criteria, one=False)
    return sorted(found, key=lambda flow: (flow.project_name, flow.flow_name))


def find_flow(connection: Connection, criteria: Criteria) -> FlowRecord:
    """Return the one flow that fits."""
    found: FlowRecord = _find_one(connection, FlowRow, criteria)
    return found


_Parent = aliased(FlowRow)
_ParentProject = aliased(ProjectRow)
_PARENT: Final = (
    _Parent.flow_id.label("parent_id"),
    _Parent.flow_name.label("parent_name"),
    _Parent.created.label("parent_created"),
    _Parent.composition.label("parent_composition"),
    _ParentProject.project_name.label("parent_project"),
    _ParentProject.description.label("parent_project_description"),
    _ParentProject.created.label("parent_project_created"),
)
_SUBFLOW: Final = (
    SubflowRow.name,
    SubflowRow.position,
    SubflowRow.mapped_parameters,
    SubflowRow.parameters,
    SubflowRow.options,
)
_FLOWS_OF_FLOWS: Final = (
    select(*_PARENT, *_SUBFLOW, *reading.FLOW)
    .select_from(_Parent)
    .join(_Parent.project.of_type(_ParentProject))
    .outerjoin(_Parent.subflows)
    .outerjoin(SubflowRow.flow)
    .outerjoin(FlowRow.project)
    .outerjoin(FlowRow.deployment)
    .outerjoin(DeploymentRow.model)
    .where(_Parent.composition.is_not(None))
    .order_by(_Parent.flow_id, SubflowRow.position, SubflowRow.id)
)


@functools.lru_cache(maxsize=16)
def _parents(names: tuple[str, ...]) -> Select[Any]:
    conditions = [getattr(_Parent, name) == bindparam(name) for name in names]
    return _FLOWS_OF_FLOWS.where(*conditions)


def find_flows_of_flows(
    connection: Connection, criteria: Criteria
) -> list[FlowOfFlowsRecord]:
    """Return all flow-of-flows that fit, by project and name."""
    values = by.parameters(FlowRow, criteria)
    rows = connection.execute(_parents(tuple(values)), values).all()
    found: dict[str, tuple[FlowRecord, list[SubflowRecord]]] = {}
    for row in rows:
        if row[0] not in found:
            found[row[0]] = _parent_record(row), []
        if row[7] is not None:
            found[row[0]][1].append(_subflow_record(row))
    records = [
        FlowOfFlowsRecord(parent, tuple(subflows))
        for parent, subflows in found.values()
    ]
    key = lambda item: (item.parent.project_name, item.parent.flow_name)  # noqa: E731
    return sorted(records, key=key)


def _parent_record(row: Any) -> FlowRecord:
    return FlowRecord(
        flow_id=row[0],
        flow_name=row[1],
        project=ProjectRecord(*row[4:7]),
        deployment=None,
        created=row[2],
        composition=row[3],
    )


def _subflow_record(row: Any) -> SubflowRecord:
    name, position, mapped_parameters, parameters, options = row[7:12]
    return SubflowRecord(
        name=name,
        position=position,
        flow=reading.flow_record(row[12:]),
        mapped_parameters=mapped_parameters,
        parameters=parameters,
        options=options,
    )


def find_flow_of_flows(
    connection: Connection,
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
    found = find_flows_of_flows(connection, criteria)
    if len(found) == 1:
        return found[0]
    if not found:
        _explain_no_parent(connection, criteria)
    by.one(connection, FlowRow, criteria, [item.parent for item in found])
    raise AssertionError("unreachable: none, or several, is an error")


def _explain_no_parent(connection: Connection, criteria: Criteria) -> None:
    flows = _find(connection, FlowRow, criteria, one=True)
    if not flows:
        raise by.not_found(connection, FlowRow, criteria)
    names = connection.scalars(
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


_USES: Final = (
    select(
        FlowRow.flow_id,
        FlowRow.flow_name,
        FlowRow.project_name,
        SubflowRow.name,
        SubflowRow.position,
    )
    .select_from(SubflowRow)
    .join(SubflowRow.parent)
    .where(SubflowRow.flow_id == bindparam("flow_id"))
)


def flow_uses(connection: Connection, flow_id: str) -> tuple[FlowUse, ...]:
    """Return where a flow takes part in a flow-of-flows."""
    rows = connection.execute(_USES, {"flow_id": flow_id})
    uses = [FlowUse(*row) for row in rows]
    if not uses:
        find_flow(connection, {"flow_id": flow_id})
    return tuple(
        sorted(
            uses,
            key=lambda use: (
                use.project_name,
                use.parent_flow_name,
                use.position,
                use.name,
            ),
        )
    )
