"""Writing a flow-of-flows: the parent and all its subflows, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from prefect_lume._fingerprint import canonical_json
from prefect_lume.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    clip,
    name_list,
)
from prefect_lume.registry import fields
from prefect_lume.registry.changes import flow_for_update, now, require_project
from prefect_lume.registry.records import SubflowEntry
from prefect_lume.registry.tables import FlowRow, SubflowRow


def checked(subflows: Sequence[SubflowEntry]) -> tuple[SubflowEntry, ...]:
    """Return the subflows with all values checked and plain.

    Raises:
        InvalidInputError: There are none, a name occurs twice, or a value is not what
            the database can hold.
    """
    if not subflows:
        raise InvalidInputError("A flow-of-flows needs at least one subflow.")
    entries = tuple(
        SubflowEntry(
            flow_id=fields.text(
                f"subflows[{i}].flow_id", entry.flow_id, fields.FLOW_ID_LENGTH
            ),
            name=fields.text(f"subflows[{i}].name", entry.name),
            position=fields.integer(f"subflows[{i}].position", entry.position),
            mapped_parameters=fields.json_object(
                f"subflows[{i}].mapped_parameters", entry.mapped_parameters
            ),
            parameters=fields.json_object(
                f"subflows[{i}].parameters", entry.parameters
            ),
            options=fields.json_object(f"subflows[{i}].options", entry.options),
        )
        for i, entry in enumerate(subflows)
    )
    names = [entry.name for entry in entries]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InvalidInputError(
            f"Subflows of one parent need different names; these occur more than "
            f"once: {name_list(twice)}."
        )
    return entries


def store_flow_of_flows(
    session: Session,
    parent_flow_id: str,
    parent_flow_name: str,
    project_name: str,
    entries: Sequence[SubflowEntry],
    composition: Mapping[str, Any],
) -> str:
    """Store a parent with its subflows. An equal one stays exactly as it is."""
    require_project(session, project_name)
    ids = {entry.flow_id for entry in entries}
    _require_flows(session, ids)
    row = flow_for_update(session, parent_flow_id, parent_flow_name, project_name)
    if row is None:
        row = FlowRow(
            flow_id=parent_flow_id,
            flow_name=parent_flow_name,
            project_name=project_name,
            deployment_id=None,
            created=now(),
        )
        session.add(row)
    elif row.deployment_id is not None:
        raise ConflictError(
            f"The flow {clip(parent_flow_name, 60)!r} of project "
            f"{clip(project_name, 60)!r} is served by deployment {row.deployment_id}; "
            f"the parent of a flow-of-flows is not. Give the parent another name."
        )
    _refuse_circle(session, parent_flow_id, ids)
    stored = _stored(session, parent_flow_id)
    unchanged = (
        row.composition is not None
        and canonical_json(row.composition) == canonical_json(dict(composition))
        and _comparable(stored) == _comparable(entries)
    )
    if unchanged:
        return parent_flow_id
    row.composition = dict(composition)
    session.flush()
    session.execute(
        delete(SubflowRow).where(SubflowRow.parent_flow_id == parent_flow_id)
    )
    session.add_all(
        SubflowRow(
            parent_flow_id=parent_flow_id,
            flow_id=entry.flow_id,
            position=entry.position,
            name=entry.name,
            mapped_parameters=entry.mapped_parameters,
            parameters=entry.parameters,
            options=entry.options,
        )
        for entry in entries
    )
    return parent_flow_id


def _stored(session: Session, parent_flow_id: str) -> list[SubflowEntry]:
    # Columns, not rows: rows would stay in the session after they are replaced.
    found = session.execute(
        select(
            SubflowRow.flow_id,
            SubflowRow.name,
            SubflowRow.position,
            SubflowRow.mapped_parameters,
            SubflowRow.parameters,
            SubflowRow.options,
        ).where(SubflowRow.parent_flow_id == parent_flow_id)
    )
    return [SubflowEntry(*columns) for columns in found]


def _comparable(entries: Iterable[SubflowEntry]) -> list[bytes]:
    # As canonical JSON, because to Python 1, 1.0 and True are equal. Names differ, and
    # the order among equal positions means nothing.
    ordered = sorted(entries, key=lambda entry: entry.name)
    return [canonical_json(vars(entry)) for entry in ordered]


def _require_flows(session: Session, ids: set[str]) -> None:
    known = set(
        session.scalars(select(FlowRow.flow_id).where(FlowRow.flow_id.in_(ids)))
    )
    missing = sorted(ids - known)
    if not missing:
        return
    more = f" Missing as well: {name_list(missing[1:])}." if missing[1:] else ""
    raise NotFoundError(
        "flow with flow_id",
        missing[0],
        hint=f"Store it first: store_flow(...).{more}",
    )


def _refuse_circle(session: Session, parent_flow_id: str, ids: set[str]) -> None:
    seen: set[str] = set()
    level = set(ids)
    while level:
        if parent_flow_id in level:
            raise InvalidInputError(
                f"The flow {parent_flow_id!r} would contain itself, directly or "
                f"through one of its subflows."
            )
        seen |= level
        below = session.scalars(
            select(SubflowRow.flow_id)
            .where(SubflowRow.parent_flow_id.in_(level))
            .distinct()
        )
        level = set(below) - seen
