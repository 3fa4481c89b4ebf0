"""Storing, renaming and removing projects."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from sqlalchemy import bindparam, delete, func, insert, select, update

from prefect_lume.errors import ConflictError, clip, name_list
from prefect_lume.registry.ledger import PROJECT, Transaction, now
from prefect_lume.registry.tables import FLOWS, PROJECTS, SUBFLOWS

_FIND: Final = select(PROJECTS.c.description).where(
    PROJECTS.c.project_name == bindparam("name")
)

_INSERT: Final = insert(PROJECTS)
_DESCRIBE: Final = (
    update(PROJECTS)
    .where(PROJECTS.c.project_name == bindparam("name"))
    .values(description=bindparam("about"))
)
_CREATED: Final = select(PROJECTS.c.created, PROJECTS.c.revision).where(
    PROJECTS.c.project_name == bindparam("name")
)
_MOVE_FLOWS: Final = (
    update(FLOWS)
    .where(FLOWS.c.project_name == bindparam("old"))
    .values(project_name=bindparam("new"))
)
_NAME_HISTORY: Final = (
    update(PROJECTS)
    .where(PROJECTS.c.project_name == bindparam("name"))
    .values(history_id=bindparam("id"))
)
_FLOWS_OF: Final = FLOWS.c.project_name == bindparam("name")
_COUNT_FLOWS: Final = select(func.count()).where(_FLOWS_OF)
_SOME_FLOWS: Final = select(FLOWS.c.flow_name).where(_FLOWS_OF).limit(50)
_DELETE: Final = delete(PROJECTS).where(PROJECTS.c.project_name == bindparam("name"))

#: What a mapped parameter calls the project of the flow that it comes from.
_NAMED: Final = "parent_project_name"
#: The subflows of every parent that a project's flow takes part in.
_MAPPED: Final = select(SUBFLOWS.c.id, SUBFLOWS.c.mapped_parameters).where(
    SUBFLOWS.c.parent_flow_id.in_(
        select(SUBFLOWS.c.parent_flow_id)
        .join(FLOWS, FLOWS.c.flow_id == SUBFLOWS.c.flow_id)
        .where(FLOWS.c.project_name == bindparam("name"))
    )
)
_MAP: Final = (
    update(SUBFLOWS)
    .where(SUBFLOWS.c.id == bindparam("row"))
    .values(mapped_parameters=bindparam("kept"))
)


def store_project(tx: Transaction, project_name: str, description: str) -> str:
    """Store a project, or give a known one a new description that is not empty."""
    found = tx.connection.execute(_FIND, {"name": project_name}).first()
    if found is None:
        _insert(tx, project_name, description)
    elif description and description != found.description:
        history_id, before = tx.lock_project(project_name)
        values = {"name": project_name, "about": description}
        tx.connection.execute(_DESCRIBE, values)
        tx.record(
            PROJECT,
            history_id,
            "project.described",
            before={"description": before},
            after={"description": description},
        )
    return project_name


def _insert(tx: Transaction, project_name: str, description: str) -> None:
    history_id = str(uuid4())
    row = {
        "project_name": project_name,
        "description": description,
        "created": now(),
        "history_id": history_id,
        "revision": 1,
    }
    tx.connection.execute(_INSERT, row)
    tx.begin(PROJECT, history_id)
    after = {"project_name": project_name, "description": description}
    tx.record(PROJECT, history_id, "project.stored", after=after)


def rename_project(tx: Transaction, project_name: str, new_name: str) -> None:
    """Give a project another name; its flows and its history stay its own."""
    history_id, description = tx.lock_project(project_name)
    if project_name == new_name:
        return
    if tx.connection.execute(_FIND, {"name": new_name}).first() is not None:
        raise ConflictError(
            f"There is a project {clip(new_name, 60)!r} already. Choose another name, "
            f"or rename that one first."
        )
    old = {"name": project_name}
    # The name is the key that flows refer to: there are two rows until they have moved.
    row = tx.connection.execute(_CREATED, old).one()
    new = {
        "project_name": new_name,
        "description": description,
        "created": row.created,
        "history_id": None,
        "revision": row.revision,
    }
    tx.connection.execute(_INSERT, new)
    tx.connection.execute(_MOVE_FLOWS, {"old": project_name, "new": new_name})
    _rename_in_mappings(tx, project_name, new_name)
    tx.connection.execute(_DELETE, old)
    tx.connection.execute(_NAME_HISTORY, {"name": new_name, "id": history_id})
    tx.record(
        PROJECT,
        history_id,
        "project.renamed",
        before={"project_name": project_name},
        after={"project_name": new_name},
    )


def _rename_in_mappings(tx: Transaction, old: str, new: str) -> None:
    """Let mapped parameters that name the project of the flow before them follow."""
    rows = []
    for row in tx.connection.execute(_MAPPED, {"name": new}):
        renamed = {
            parameter: {**mapped, _NAMED: new}
            for parameter, mapped in row.mapped_parameters.items()
            if isinstance(mapped, dict) and mapped.get(_NAMED) == old
        }
        if renamed:
            rows.append({"row": row.id, "kept": {**row.mapped_parameters, **renamed}})
    if rows:
        tx.connection.execute(_MAP, rows)


def delete_project(tx: Transaction, project_name: str) -> None:
    """Remove a project that has no flows."""
    history_id, description = tx.lock_project(project_name)
    mine = {"name": project_name}
    count = tx.connection.execute(_COUNT_FLOWS, mine).scalar_one()
    if count:
        some = tx.connection.scalars(_SOME_FLOWS, mine)
        raise ConflictError(
            f"The project {clip(project_name, 60)!r} has {count} "
            f"{'flow' if count == 1 else 'flows'}: {name_list(some)}. Remove them "
            f"first: delete_flow(flow_id)."
        )
    before = {"project_name": project_name, "description": description}
    tx.record(PROJECT, history_id, "project.deleted", before=before)
    tx.end(PROJECT, history_id)
    tx.connection.execute(_DELETE, mine)
