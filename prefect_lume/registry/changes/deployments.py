"""Storing and removing deployments, and what may be said of them later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, literal, select, update

from prefect_lume.errors import ConflictError, clip, name_list
from prefect_lume.registry import criteria as by
from prefect_lume.registry.changes import flows, labels, live
from prefect_lume.registry.ledger import MODEL, Transaction, now
from prefect_lume.registry.tables import (
    DEPLOYMENTS,
    LOCKS,
    AliasRow,
    DeploymentRow,
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
    description: str = ""
    parent_deployment_id: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


#: The model's deployment of that version, and the one that is live.
_LOOK: Final = (
    select(
        DEPLOYMENTS.c.deployment_id,
        DEPLOYMENTS.c.sha256,
        DEPLOYMENTS.c.retired.is_not(None).label("is_retired"),
        DEPLOYMENTS.c.is_live,
        literal(1).label("is_version"),
    )
    .where(
        DEPLOYMENTS.c.model_id == bindparam("model_id"),
        DEPLOYMENTS.c.version == bindparam("version"),
    )
    .union_all(
        select(
            DEPLOYMENTS.c.deployment_id,
            DEPLOYMENTS.c.sha256,
            DEPLOYMENTS.c.retired.is_not(None).label("is_retired"),
            DEPLOYMENTS.c.is_live,
            literal(0).label("is_version"),
        ).where(DEPLOYMENTS.c.live_model_id == bindparam("model_id"))
    )
)
_INSERT: Final = insert(DEPLOYMENTS)
_INSERT_LOCK: Final = insert(LOCKS)
_MODEL_OF: Final = select(DEPLOYMENTS.c.model_id).where(
    DEPLOYMENTS.c.deployment_id == bindparam("deployment_id")
)
_ROW: Final = select(
    DEPLOYMENTS.c.deployment_id,
    DEPLOYMENTS.c.model_id,
    DEPLOYMENTS.c.version,
    DEPLOYMENTS.c.is_live,
    DEPLOYMENTS.c.retired,
    DEPLOYMENTS.c.description,
    DEPLOYMENTS.c.entrypoints,
    DEPLOYMENTS.c.source,
    DEPLOYMENTS.c.sha256,
).where(DEPLOYMENTS.c.deployment_id == bindparam("deployment_id"))

_NAMED: Final = select(
    DEPLOYMENTS.c.package_import_name, DEPLOYMENTS.c.source, DEPLOYMENTS.c.image
).where(DEPLOYMENTS.c.deployment_id == bindparam("deployment_id"))
_DESCRIBE: Final = (
    update(DEPLOYMENTS)
    .where(DEPLOYMENTS.c.deployment_id == bindparam("number"))
    .values(description=bindparam("about"), search_text=bindparam("words"))
)
_ALIASES_OF: Final = select(AliasRow.alias).where(
    AliasRow.deployment_id == bindparam("deployment_id")
)
_DELETE: Final = delete(DEPLOYMENTS).where(
    DEPLOYMENTS.c.deployment_id == bindparam("number")
)


def locked(tx: Transaction, deployment_id: int) -> Any:
    """Lock a deployment's model, and return the deployment as it is then.

    Raises:
        NotFoundError: There is no such deployment.
    """
    # The model's row is locked first and the deployment read after that, so that what
    # is read still holds when this transaction writes.
    asked = {"deployment_id": deployment_id}
    model_id = tx.connection.execute(_MODEL_OF, asked).scalar_one_or_none()
    if model_id is not None:
        tx.lock_model(model_id)
        row = tx.connection.execute(_ROW, asked).one_or_none()
        if row is not None:
            return row
    raise by.not_found(tx.connection, DeploymentRow, asked)


def store_deployment(tx: Transaction, new: NewDeployment) -> int:
    """Return the id of a model's version, stored if it is new."""
    tx.lock_model(new.model_id)
    asked = {"model_id": new.model_id, "version": new.version}
    found = tx.connection.execute(_LOOK, asked).all()
    existing = next((row for row in found if row.is_version), None)
    now_live = next((row.deployment_id for row in found if row.is_live), None)
    if existing is not None:
        _refuse_other_source(existing, new)
        if new.is_live and not existing.is_live:
            live.promote(tx, locked(tx, existing.deployment_id))
        return int(existing.deployment_id)
    if new.parent_deployment_id is not None:
        _require(tx, new.parent_deployment_id)
    if new.is_live and now_live is not None:
        live.clear(tx, new.model_id)
    deployment_id = _insert(tx, new)
    _record_stored(tx, deployment_id, new)
    if new.is_live:
        live.point_flows(tx, new.model_id, deployment_id, new.entrypoints)
        live.record_promoted(tx, new.model_id, deployment_id, now_live, new.version)
    if new.tags:
        labels.insert_tags(tx, labels.DEPLOYMENT, deployment_id, new.tags)
    for alias in new.aliases:
        labels.point_alias(tx, new.model_id, alias, deployment_id)
    return deployment_id


def _insert(tx: Transaction, new: NewDeployment) -> int:
    row = {
        "model_id": new.model_id,
        "version": new.version,
        "deploy_date": now(),
        "package_import_name": new.package_import_name,
        "asset_dir": new.asset_dir,
        "source": new.source,
        "sha256": new.sha256,
        "image": new.image,
        "is_live": new.is_live,
        "entrypoints": dict(new.entrypoints),
        "description": new.description,
        "retired": None,
        "parent_deployment_id": new.parent_deployment_id,
        "search_text": _words(new),
    }
    key = tx.connection.execute(_INSERT, row).inserted_primary_key
    assert key is not None
    if new.lock is not None:
        lock = {"deployment_id": key[0], "lock": new.lock}
        tx.connection.execute(_INSERT_LOCK, lock)
    return int(key[0])


def _words(new: NewDeployment) -> str:
    own = new.version, new.package_import_name, new.source, new.image, new.description
    return "\n".join(word for word in own if word).casefold()


def _record_stored(tx: Transaction, deployment_id: int, new: NewDeployment) -> None:
    # The lock may be megabytes; that and the labels are told by what they changed.
    left_out = {"model_id", "is_live", "lock", "tags", "aliases", "entrypoints"}
    after: dict[str, Any] = {
        name: value
        for name, value in asdict(new).items()
        if name not in left_out and value not in (None, "")
    }
    if new.tags:
        after["tags"] = dict(new.tags)
    tx.record(
        MODEL,
        new.model_id,
        "deployment.stored",
        deployment_id=deployment_id,
        after=after,
    )


def _require(tx: Transaction, deployment_id: int) -> None:
    asked = {"deployment_id": deployment_id}
    if tx.connection.execute(_MODEL_OF, asked).first() is None:
        raise by.not_found(tx.connection, DeploymentRow, asked)


def _refuse_other_source(existing: Any, new: NewDeployment) -> None:
    if existing.sha256 != new.sha256:
        raise ConflictError(
            f"Version {clip(new.version, 60)!r} of model {new.model_id} is stored "
            f"already (deployment {existing.deployment_id}), with sha256 "
            f"{existing.sha256}; the new source has sha256 {new.sha256}. A stored "
            f"version never changes: give the changed package a new version."
        )


def describe_deployment(tx: Transaction, deployment_id: int, description: str) -> None:
    """Say something else of a deployment."""
    row = locked(tx, deployment_id)
    if row.description == description:
        return
    asked = {"deployment_id": deployment_id}
    named = tx.connection.execute(_NAMED, asked).one()
    own = row.version, *named, description
    values = {
        "number": deployment_id,
        "about": description,
        "words": "\n".join(word for word in own if word).casefold(),
    }
    tx.connection.execute(_DESCRIBE, values)
    tx.record(
        MODEL,
        row.model_id,
        "deployment.described",
        deployment_id=deployment_id,
        before={"description": row.description},
        after={"description": description},
    )


def delete_deployment(tx: Transaction, deployment_id: int, force: bool) -> None:
    """Remove a deployment and the flows that point at it."""
    row = locked(tx, deployment_id)
    what = f"Deployment {deployment_id}"
    if row.is_live and not force:
        raise ConflictError(
            f"{what} (version {clip(row.version, 60)!r}) is the live one of model "
            f"{row.model_id}. Make another one live first, or say force=True."
        )
    asked = {"deployment_id": deployment_id}
    aliases = tx.connection.scalars(_ALIASES_OF, asked).all()
    if aliases and not force:
        raise ConflictError(
            f"{what} (version {clip(row.version, 60)!r}) has the aliases "
            f"{name_list(aliases)}. Move or remove them first, or say force=True."
        )
    flows.remove(tx, flows.OF_DEPLOYMENT, asked, what)
    tx.connection.execute(_DELETE, {"number": deployment_id})
    tx.record(
        MODEL,
        row.model_id,
        "deployment.deleted",
        deployment_id=deployment_id,
        before={
            "version": row.version,
            "source": row.source,
            "sha256": row.sha256,
            "is_live": row.is_live,
            "aliases": sorted(aliases),
        },
    )
