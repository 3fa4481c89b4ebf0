"""Which columns make a record, and how: one statement gives it whole.

What a row has many of (tags, aliases, flows) comes as one JSON object in a column of
its own, so that a deployment is one row whatever belongs to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

from sqlalchemy import JSON, ColumnElement, Select, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from prefect_lume.registry.records import (
    DeploymentRecord,
    FlowRecord,
    ModelRecord,
    ProjectRecord,
    RegistryEvent,
    ServedFlow,
)
from prefect_lume.registry.tables import (
    AliasRow,
    DeploymentRow,
    DeploymentTagRow,
    EventRow,
    FlowRow,
    LockRow,
    ModelRow,
    ModelTagRow,
    ProjectRow,
)

Values = Sequence[Any]
_T = TypeVar("_T")
#: A column that may be read.
Column = InstrumentedAttribute[Any] | ColumnElement[Any]


class _ObjectOf(FunctionElement[Any]):
    """An aggregate of keys and values: one JSON object."""

    name = "object_of"
    inherit_cache = True
    type = JSON()


class _ListOf(FunctionElement[Any]):
    """Some values as one JSON array."""

    name = "list_of"
    inherit_cache = True
    type = JSON()


def _function(element: type[FunctionElement[Any]], **names: str) -> None:
    """Say how a function of SQL's JSON is called on each kind of database."""
    for dialect, name in names.items():

        def compile_it(
            item: FunctionElement[Any],
            compiler: SQLCompiler,
            name: str = name,
            **options: Any,
        ) -> str:
            return f"{name}({compiler.process(item.clauses, **options)})"

        compiles(element, dialect)(compile_it)


_function(
    _ObjectOf,
    sqlite="json_group_object",
    mysql="JSON_OBJECTAGG",
    mariadb="JSON_OBJECTAGG",
    postgresql="json_object_agg",
)
_function(
    _ListOf,
    sqlite="json_array",
    mysql="JSON_ARRAY",
    mariadb="JSON_ARRAY",
    postgresql="json_build_array",
)


def _plain(value: Any) -> Any:
    # Not every driver reads JSON; no rows make an object here and NULL there.
    if value is None:
        return {}
    return json.loads(value) if isinstance(value, str) else value


_MODEL_TAGS: Final = (
    select(_ObjectOf(ModelTagRow.key, ModelTagRow.value))
    .where(ModelTagRow.model_id == ModelRow.model_id)
    .correlate(ModelRow)
    .scalar_subquery()
)
_TAGS: Final = (
    select(_ObjectOf(DeploymentTagRow.key, DeploymentTagRow.value))
    .where(DeploymentTagRow.deployment_id == DeploymentRow.deployment_id)
    .correlate(DeploymentRow)
    .scalar_subquery()
)
_HAS_LOCK: Final = (
    select(LockRow.deployment_id)
    .where(LockRow.deployment_id == DeploymentRow.deployment_id)
    .correlate(DeploymentRow)
    .exists()
)
_ALIASES: Final = (
    select(_ObjectOf(AliasRow.alias, AliasRow.deployment_id))
    .where(AliasRow.deployment_id == DeploymentRow.deployment_id)
    .correlate(DeploymentRow)
    .scalar_subquery()
)


def _served_flows() -> ColumnElement[Any]:
    flow, project = FlowRow.__table__.alias(), ProjectRow.__table__.alias()
    about = _ListOf(flow.c.flow_name, flow.c.project_name, project.c.description)
    return (
        select(_ObjectOf(flow.c.flow_id, about))
        .where(
            flow.c.deployment_id == DeploymentRow.deployment_id,
            project.c.project_name == flow.c.project_name,
        )
        .correlate(DeploymentRow)
        .scalar_subquery()
    )


MODEL: Final[tuple[Column, ...]] = (
    ModelRow.model_id,
    ModelRow.author,
    ModelRow.laboratory,
    ModelRow.facility,
    ModelRow.beampath,
    ModelRow.description.label("model_description"),
    ModelRow.created.label("model_created"),
    _MODEL_TAGS.label("model_tags"),
)
DEPLOYMENT: Final[tuple[Column, ...]] = (
    DeploymentRow.deployment_id,
    DeploymentRow.version,
    DeploymentRow.deploy_date,
    DeploymentRow.package_import_name,
    DeploymentRow.asset_dir,
    DeploymentRow.source,
    DeploymentRow.sha256,
    DeploymentRow.image,
    DeploymentRow.is_live,
    DeploymentRow.entrypoints,
    DeploymentRow.description,
    DeploymentRow.retired,
    DeploymentRow.parent_deployment_id,
    _HAS_LOCK.label("has_lock"),
    _ALIASES.label("aliases"),
    _TAGS.label("tags"),
    _served_flows().label("flows"),
    *MODEL,
)
PROJECT: Final[tuple[Column, ...]] = (
    ProjectRow.project_name,
    ProjectRow.description.label("project_description"),
    ProjectRow.created.label("project_created"),
)
FLOW: Final[tuple[Column, ...]] = (
    FlowRow.flow_id,
    FlowRow.flow_name,
    FlowRow.created.label("flow_created"),
    FlowRow.composition,
    *PROJECT,
    *DEPLOYMENT,
)
EVENT: Final[tuple[Column, ...]] = (
    EventRow.subject,
    EventRow.subject_id,
    EventRow.number,
    EventRow.kind,
    EventRow.happened,
    EventRow.actor,
    EventRow.reason,
    EventRow.deployment_id,
    EventRow.previous_deployment_id,
    EventRow.flow_id,
    EventRow.value_before,
    EventRow.value_after,
)
_EVENT_FIELDS: Final = tuple(field.name for field in fields(RegistryEvent))
_N_MODEL, _N_DEPLOYMENT, _N_PROJECT = len(MODEL), len(DEPLOYMENT), len(PROJECT)


def models() -> Select[Any]:
    """Return the statement that reads models."""
    return select(*MODEL)


def deployments(*, lock: bool = False) -> Select[Any]:
    """Return the statement that reads deployments with their models.

    Args:
        lock: Whether to read the locks, too.
    """
    if not lock:
        return select(*DEPLOYMENT).join(DeploymentRow.model)
    return (
        select(*DEPLOYMENT, LockRow.lock)
        .join(DeploymentRow.model)
        .outerjoin(DeploymentRow.lock)
    )


def projects() -> Select[Any]:
    """Return the statement that reads projects."""
    return select(*PROJECT)


def flows() -> Select[Any]:
    """Return the statement that reads flows with all that belongs to them."""
    return (
        select(*FLOW)
        .join(FlowRow.project)
        .outerjoin(FlowRow.deployment)
        .outerjoin(DeploymentRow.model)
    )


def events() -> Select[Any]:
    """Return the statement that reads events."""
    return select(*EVENT)


def _made(kind: type[_T], values: dict[str, Any]) -> _T:
    """Return a record with these values of all its fields.

    A frozen dataclass's own ``__init__`` calls a function for each field: for many rows
    that takes longer than to read them.
    """
    record = object.__new__(kind)
    record.__dict__.update(values)
    return record


def model_record(row: Values, at: int = 0) -> ModelRecord:
    """Return the model whose columns begin at ``at``."""
    model_id, author, laboratory, facility, beampath, about, created, tags = row[
        at : at + _N_MODEL
    ]
    return _made(
        ModelRecord,
        {
            "model_id": model_id,
            "author": author,
            "laboratory": laboratory,
            "facility": facility,
            "beampath": beampath,
            "description": about,
            "created": created,
            "tags": _plain(tags),
        },
    )


def deployment_record(row: Values, at: int = 0) -> DeploymentRecord:
    """Return the deployment whose columns begin at ``at``; its lock follows them."""
    end = at + _N_DEPLOYMENT
    (
        deployment_id,
        version,
        deploy_date,
        package_import_name,
        asset_dir,
        source,
        sha256,
        image,
        is_live,
        entrypoints,
        description,
        retired,
        parent_deployment_id,
        has_lock,
        aliases,
        tags,
        flows,
        *model,
    ) = row[at:end]
    return _made(
        DeploymentRecord,
        {
            "deployment_id": deployment_id,
            "model": model_record(model),
            "version": version,
            "deploy_date": deploy_date,
            "package_import_name": package_import_name,
            "asset_dir": asset_dir,
            "source": source,
            "sha256": sha256,
            "image": image,
            "is_live": is_live,
            "entrypoints": entrypoints or {},
            "description": description,
            "retired": retired,
            "parent_deployment_id": parent_deployment_id,
            "has_lock": bool(has_lock),
            "aliases": tuple(sorted(_plain(aliases))) if aliases else (),
            "tags": _plain(tags),
            "flows": _flows_of(_plain(flows)) if flows else (),
            "lock": row[end] if len(row) > end else None,
        },
    )


def _flows_of(found: dict[str, Any]) -> tuple[ServedFlow, ...]:
    served = [ServedFlow(flow_id, *_plain(about)) for flow_id, about in found.items()]
    if len(served) > 1:
        served.sort(key=lambda flow: (flow.project_name, flow.flow_name))
    return tuple(served)


def project_record(row: Values, at: int = 0) -> ProjectRecord:
    """Return the project whose columns begin at ``at``."""
    return ProjectRecord(*row[at : at + _N_PROJECT])


def flow_record(row: Values, at: int = 0) -> FlowRecord:
    """Return the flow whose columns begin at ``at``, with project and deployment."""
    flow_id, flow_name, created, composition = row[at : at + 4]
    served = at + 4 + _N_PROJECT
    deployment = None
    if row[served] is not None:
        deployment = deployment_record(row[served : served + _N_DEPLOYMENT])
    return _made(
        FlowRecord,
        {
            "flow_id": flow_id,
            "flow_name": flow_name,
            "project": project_record(row, at + 4),
            "deployment": deployment,
            "created": created,
            "composition": composition,
        },
    )


def event_record(row: Values) -> RegistryEvent:
    """Return the event of a row."""
    *values, before, after = row
    made = dict(zip(_EVENT_FIELDS, values, strict=False))
    made["before"], made["after"] = before or {}, after or {}
    return _made(RegistryEvent, made)


def total(statement: Select[Any]) -> Select[Any]:
    """Return the statement that counts the rows of another one."""
    return select(func.count()).select_from(statement.subquery())
