"""Writing a flow-of-flows: the parent and all its subflows, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, select, update

from prefect_lume._fingerprint import canonical_json
from prefect_lume.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    clip,
    name_list,
)
from prefect_lume.registry import fields
from prefect_lume.registry.changes.flows import flow_for_update, insert_flow
from prefect_lume.registry.ledger import PROJECT, Transaction
from prefect_lume.registry.records import SubflowEntry
from prefect_lume.registry.tables import FLOWS, SUBFLOWS, FlowRow, SubflowRow


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


_INSERT: Final = insert(SUBFLOWS)
_CHANGE: Final = (
    update(FLOWS)
    .where(FLOWS.c.flow_id == bindparam("id"))
    .values(composition=bindparam("kept"))
)
_DELETE: Final = delete(SUBFLOWS).where(SUBFLOWS.c.parent_flow_id == bindparam("id"))
_STORED: Final = select(
    SubflowRow.flow_id,
    SubflowRow.name,
    SubflowRow.position,
    SubflowRow.mapped_parameters,
    SubflowRow.parameters,
    SubflowRow.options,
).where(SubflowRow.parent_flow_id == bindparam("id"))
_KNOWN: Final = select(FlowRow.flow_id).where(
    FlowRow.flow_id.in_(bindparam("ids", expanding=True))
)
_BELOW: Final = (
    select(SubflowRow.flow_id)
    .where(SubflowRow.parent_flow_id.in_(bindparam("ids", expanding=True)))
    .distinct()
)


def store_flow_of_flows(
    tx: Transaction,
    parent_flow_id: str,
    parent_flow_name: str,
    project_name: str,
    entries: Sequence[SubflowEntry],
    composition: Mapping[str, Any],
) -> str:
    """Store a parent with its subflows. An equal one stays exactly as it is."""
    history_id, _ = tx.lock_project(project_name)
    ids = {entry.flow_id for entry in entries}
    _require_flows(tx, ids)
    row = flow_for_update(tx, parent_flow_id, parent_flow_name, project_name)
    if row is not None and row.deployment_id is not None:
        raise ConflictError(
            f"The flow {clip(parent_flow_name, 60)!r} of project "
            f"{clip(project_name, 60)!r} is served by deployment {row.deployment_id}; "
            f"the parent of a flow-of-flows is not. Give the parent another name."
        )
    _refuse_circle(tx, parent_flow_id, ids)
    stored = _stored(tx, parent_flow_id) if row is not None else []
    unchanged = (
        row is not None
        and row.composition is not None
        and canonical_json(row.composition) == canonical_json(dict(composition))
        and _comparable(stored) == _comparable(entries)
    )
    if unchanged:
        return parent_flow_id
    kept = dict(composition)
    if row is None:
        insert_flow(
            tx, parent_flow_id, parent_flow_name, project_name, composition=kept
        )
    else:
        values = {"id": parent_flow_id, "kept": kept}
        tx.connection.execute(_CHANGE, values)
    if stored:
        tx.connection.execute(_DELETE, {"id": parent_flow_id})
    tx.connection.execute(
        _INSERT,
        [{"parent_flow_id": parent_flow_id, **vars(entry)} for entry in entries],
    )
    tx.record(
        PROJECT,
        history_id,
        "flow-of-flows.stored",
        flow_id=parent_flow_id,
        before={"subflows": _places(stored)} if stored else None,
        after={
            "flow_name": parent_flow_name,
            "project_name": project_name,
            "subflows": _places(entries),
        },
    )
    return parent_flow_id


def _places(entries: Iterable[SubflowEntry]) -> dict[str, Any]:
    return {entry.name: [entry.position, entry.flow_id] for entry in entries}


def _stored(tx: Transaction, parent_flow_id: str) -> list[SubflowEntry]:
    found = tx.connection.execute(_STORED, {"id": parent_flow_id})
    return [SubflowEntry(*columns) for columns in found]


def _comparable(entries: Iterable[SubflowEntry]) -> list[bytes]:
    # As canonical JSON, because to Python 1, 1.0 and True are equal. Names differ, and
    # the order among equal positions means nothing.
    ordered = sorted(entries, key=lambda entry: entry.name)
    return [canonical_json(vars(entry)) for entry in ordered]


def _require_flows(tx: Transaction, ids: set[str]) -> None:
    known = set(tx.connection.scalars(_KNOWN, {"ids": list(ids)}))
    missing = sorted(ids - known)
    if not missing:
        return
    more = f" Missing as well: {name_list(missing[1:])}." if missing[1:] else ""
    raise NotFoundError(
        "flow with flow_id",
        missing[0],
        hint=f"Store it first: store_flow(...).{more}",
    )


def _refuse_circle(tx: Transaction, parent_flow_id: str, ids: set[str]) -> None:
    seen: set[str] = set()
    level = set(ids)
    while level:
        if parent_flow_id in level:
            raise InvalidInputError(
                f"The flow {parent_flow_id!r} would contain itself, directly or "
                f"through one of its subflows."
            )
        seen |= level
        below = tx.connection.scalars(_BELOW, {"ids": list(level)})
        level = set(below) - seen
