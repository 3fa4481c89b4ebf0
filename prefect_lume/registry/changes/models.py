"""Storing and removing models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import bindparam, delete, func, insert, select

from prefect_lume._fingerprint import sha256_tree
from prefect_lume.errors import ConflictError
from prefect_lume.registry.changes import flows
from prefect_lume.registry.ledger import MODEL, Transaction, now
from prefect_lume.registry.tables import DEPLOYMENTS, MODELS

_FIND: Final = select(MODELS.c.model_id).where(
    MODELS.c.fingerprint == bindparam("fingerprint")
)
_INSERT: Final = insert(MODELS)

_OWN: Final = DEPLOYMENTS.c.model_id == bindparam("model_id")
_LIVE: Final = select(DEPLOYMENTS.c.deployment_id).where(
    DEPLOYMENTS.c.live_model_id == bindparam("model_id")
)
_VALUES: Final = select(
    MODELS.c.author,
    MODELS.c.laboratory,
    MODELS.c.facility,
    MODELS.c.beampath,
    MODELS.c.description,
    select(func.count()).where(_OWN).scalar_subquery().label("deployments"),
).where(MODELS.c.model_id == bindparam("model_id"))
_DELETE_DEPLOYMENTS: Final = delete(DEPLOYMENTS).where(_OWN)
_DELETE: Final = delete(MODELS).where(MODELS.c.model_id == bindparam("model_id"))


def words(values: Mapping[str, str]) -> str:
    """Return what a search by text looks at."""
    return "\n".join(values.values()).casefold()


def store_model(tx: Transaction, values: Mapping[str, str]) -> int:
    """Return the id of the model with these five fields, stored if it is new."""
    fingerprint = sha256_tree(dict(values))
    asked = {"fingerprint": fingerprint}
    found = tx.connection.execute(_FIND, asked).scalar_one_or_none()
    if found is not None:
        return int(found)
    row = {
        **values,
        "created": now(),
        "fingerprint": fingerprint,
        "revision": 1,
        "search_text": words(values),
    }
    key = tx.connection.execute(_INSERT, row).inserted_primary_key
    assert key is not None
    model_id = int(key[0])
    tx.begin(MODEL, model_id)
    tx.record(MODEL, model_id, "model.stored", after=values)
    return model_id


def delete_model(tx: Transaction, model_id: int, force: bool) -> None:
    """Remove a model, its deployments and the flows that point at them."""
    tx.lock_model(model_id)
    asked = {"model_id": model_id}
    live = tx.connection.execute(_LIVE, asked).scalar_one_or_none()
    what = f"Model {model_id}"
    if live is not None and not force:
        raise ConflictError(
            f"{what} has a live deployment ({live}). Demote it first, or, to remove "
            f"the model all the same, say force=True."
        )
    values = tx.connection.execute(_VALUES, asked).one()
    flows.remove(tx, flows.OF_MODEL, asked, what)
    tx.record(MODEL, model_id, "model.deleted", before=dict(values._mapping))
    tx.end(MODEL, model_id)
    tx.connection.execute(_DELETE_DEPLOYMENTS, asked)
    tx.connection.execute(_DELETE, asked)
