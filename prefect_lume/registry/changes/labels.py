"""Aliases and tags: what points at a deployment, and what is noted of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Delete,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from prefect_lume.errors import ConflictError, NotFoundError, clip
from prefect_lume.registry.fields import TAG_START
from prefect_lume.registry.ledger import MODEL, Transaction
from prefect_lume.registry.tables import (
    ALIASES,
    DEPLOYMENT_TAGS,
    MODEL_TAGS,
    DeploymentRow,
)

_ALIAS: Final = select(ALIASES.c.deployment_id).where(
    ALIASES.c.model_id == bindparam("of_model"),
    ALIASES.c.alias == bindparam("name"),
)

_INSERT_ALIAS: Final = insert(ALIASES)
_MINE: Final = (
    ALIASES.c.model_id == bindparam("of_model"),
    ALIASES.c.alias == bindparam("name"),
)
_MOVE_ALIAS: Final = (
    update(ALIASES).where(*_MINE).values(deployment_id=bindparam("number"))
)
_REMOVE_ALIAS: Final = delete(ALIASES).where(*_MINE)
_TARGET: Final = select(
    DeploymentRow.model_id, DeploymentRow.version, DeploymentRow.retired
).where(DeploymentRow.deployment_id == bindparam("deployment_id"))


@dataclass(frozen=True)
class Tagged:
    """A kind of row that has tags.

    Attributes:
        kind: What it is called.
        key: The column of its table of tags that names the row.
        find: The statement that reads its tags of some keys.
        insert: The statement that gives it tags.
        change: The statement that changes a tag's value.
        remove: The statement that removes a tag.
    """

    kind: str
    key: str
    find: Select[Any]
    insert: Insert
    change: Update
    remove: Delete


def _tagged(kind: str, table: Table, key: str) -> Tagged:
    mine = table.c[key] == bindparam("number")
    one = mine, table.c.key == bindparam("tag")
    value: dict[str, Any] = {
        "value": bindparam("text"),
        "value_start": bindparam("start"),
    }
    some = table.c.key.in_(bindparam("tags", expanding=True))
    return Tagged(
        kind=kind,
        key=key,
        find=select(table.c.key, table.c.value).where(mine, some),
        insert=insert(table),
        change=update(table).where(*one).values(value),
        remove=delete(table).where(*one),
    )


DEPLOYMENT: Final = _tagged("deployment", DEPLOYMENT_TAGS, "deployment_id")
OF_MODEL: Final = _tagged("model", MODEL_TAGS, "model_id")


def point_alias(tx: Transaction, model_id: int, alias: str, deployment_id: int) -> None:
    """Let an alias of a locked model point at one of its deployments."""
    asked = {"of_model": model_id, "name": alias}
    previous = tx.connection.execute(_ALIAS, asked).scalar_one_or_none()
    if previous == deployment_id:
        return
    if previous is None:
        row = {"model_id": model_id, "alias": alias, "deployment_id": deployment_id}
        tx.connection.execute(_INSERT_ALIAS, row)
    else:
        tx.connection.execute(_MOVE_ALIAS, {**asked, "number": deployment_id})
    tx.record(
        MODEL,
        model_id,
        "alias.set",
        deployment_id=deployment_id,
        previous_deployment_id=previous,
        before={alias: previous},
        after={alias: deployment_id},
    )


def set_alias(tx: Transaction, model_id: int, alias: str, deployment_id: int) -> None:
    """Let an alias point at a deployment of the same model that is in use."""
    tx.lock_model(model_id)
    asked = {"deployment_id": deployment_id}
    row = tx.connection.execute(_TARGET, asked).one_or_none()
    if row is None or row.model_id != model_id:
        known = tx.connection.scalars(
            select(DeploymentRow.deployment_id)
            .where(DeploymentRow.model_id == model_id)
            .order_by(DeploymentRow.deployment_id.desc())
            .limit(12)
        )
        raise NotFoundError(
            f"deployment of model {model_id} with deployment_id",
            deployment_id,
            map(str, known),
        )
    if row.retired is not None:
        raise ConflictError(
            f"Deployment {deployment_id} (version {clip(row.version, 60)!r}) was "
            f"retired on {row.retired:%Y-%m-%d}: no alias may point at it. Restore it "
            f"first: restore_deployment({deployment_id})."
        )
    point_alias(tx, model_id, alias, deployment_id)


def remove_alias(tx: Transaction, model_id: int, alias: str) -> None:
    """Let an alias point at nothing any more."""
    tx.lock_model(model_id)
    asked = {"of_model": model_id, "name": alias}
    previous = tx.connection.execute(_ALIAS, asked).scalar_one_or_none()
    if previous is None:
        known = tx.connection.scalars(
            select(ALIASES.c.alias).where(ALIASES.c.model_id == model_id).limit(50)
        )
        raise NotFoundError(f"alias of model {model_id}", alias, known)
    tx.connection.execute(_REMOVE_ALIAS, asked)
    tx.record(
        MODEL,
        model_id,
        "alias.removed",
        previous_deployment_id=previous,
        before={alias: previous},
        after={alias: None},
    )


def _row(owner: Tagged, number: int, key: str, value: str) -> dict[str, Any]:
    return {
        owner.key: number,
        "key": key,
        "value": value,
        "value_start": value[:TAG_START],
    }


def insert_tags(
    tx: Transaction, owner: Tagged, number: int, tags: Mapping[str, str]
) -> None:
    """Give tags to a row that has none."""
    rows = [_row(owner, number, key, value) for key, value in tags.items()]
    tx.connection.execute(owner.insert, rows)


def set_tags(
    tx: Transaction,
    owner: Tagged,
    model_id: int,
    number: int,
    tags: Mapping[str, str | None],
) -> None:
    """Set tags of a row whose model is locked; ``None`` removes one."""
    asked = {"number": number, "tags": list(tags)}
    rows = tx.connection.execute(owner.find, asked).all()
    there: dict[str, str] = {row.key: row.value for row in rows}
    changed = {key: value for key, value in tags.items() if there.get(key) != value}
    if not changed:
        return
    new = {k: v for k, v in changed.items() if v is not None and k not in there}
    if new:
        insert_tags(tx, owner, number, new)
    for key, value in changed.items():
        one = {"number": number, "tag": key}
        if value is None:
            tx.connection.execute(owner.remove, one)
        elif key in there:
            changes = {**one, "text": value, "start": value[:TAG_START]}
            tx.connection.execute(owner.change, changes)
    tx.record(
        MODEL,
        model_id,
        f"{owner.kind}.tagged",
        deployment_id=number if owner is DEPLOYMENT else None,
        before={key: there.get(key) for key in changed},
        after=changed,
    )


def set_model_tags(
    tx: Transaction, model_id: int, tags: Mapping[str, str | None]
) -> None:
    """Set tags of a model; ``None`` removes one."""
    tx.lock_model(model_id)
    set_tags(tx, OF_MODEL, model_id, model_id, tags)
