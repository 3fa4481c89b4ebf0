"""Aliases and tags: what points at a deployment, and what is noted of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Table, bindparam, delete, insert, select, update

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


@dataclass(frozen=True)
class Tagged:
    """A kind of row that has tags.

    Attributes:
        kind: What it is called.
        table: Its table of tags.
        key: The column of that table that names the row.
    """

    kind: str
    table: Table
    key: str


DEPLOYMENT: Final = Tagged("deployment", DEPLOYMENT_TAGS, "deployment_id")
OF_MODEL: Final = Tagged("model", MODEL_TAGS, "model_id")


def point_alias(tx: Transaction, model_id: int, alias: str, deployment_id: int) -> None:
    """Let an alias of a locked model point at one of its deployments."""
    asked = {"of_model": model_id, "name": alias}
    previous = tx.connection.execute(_ALIAS, asked).scalar_one_or_none()
    if previous == deployment_id:
        return
    if previous is None:
        row = {"model_id": model_id, "alias": alias, "deployment_id": deployment_id}
        tx.connection.execute(insert(ALIASES), row)
    else:
        tx.connection.execute(
            update(ALIASES)
            .where(ALIASES.c.model_id == model_id, ALIASES.c.alias == alias)
            .values(deployment_id=deployment_id)
        )
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
    row = tx.connection.execute(
        select(
            DeploymentRow.model_id, DeploymentRow.version, DeploymentRow.retired
        ).where(DeploymentRow.deployment_id == deployment_id)
    ).one_or_none()
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
    tx.connection.execute(
        delete(ALIASES).where(ALIASES.c.model_id == model_id, ALIASES.c.alias == alias)
    )
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
    tx.connection.execute(insert(owner.table), rows)


def set_tags(
    tx: Transaction,
    owner: Tagged,
    model_id: int,
    number: int,
    tags: Mapping[str, str | None],
) -> None:
    """Set tags of a row whose model is locked; ``None`` removes one."""
    mine = owner.table.c[owner.key] == number
    rows = tx.connection.execute(
        select(owner.table.c.key, owner.table.c.value).where(
            mine, owner.table.c.key.in_(list(tags))
        )
    )
    there: dict[str, str] = {row.key: row.value for row in rows}
    changed = {key: value for key, value in tags.items() if there.get(key) != value}
    if not changed:
        return
    new = {k: v for k, v in changed.items() if v is not None and k not in there}
    if new:
        insert_tags(tx, owner, number, new)
    for key, value in changed.items():
        one = mine, owner.table.c.key == key
        if value is None:
            tx.connection.execute(delete(owner.table).where(*one))
        elif key in there:
            tx.connection.execute(
                update(owner.table)
                .where(*one)
                .values(value=value, value_start=value[:TAG_START])
            )
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
