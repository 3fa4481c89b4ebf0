"""Which deployment is live: promoted, demoted, rolled back, retired, restored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Row, bindparam, select, update

from prefect_lume.errors import ConflictError, clip
from prefect_lume.registry.ledger import MODEL, Transaction, now
from prefect_lume.registry.tables import (
    DEPLOYMENTS,
    FLOWS,
    AliasRow,
    EventRow,
)

_LIVE: Final = select(DEPLOYMENTS.c.deployment_id, DEPLOYMENTS.c.version).where(
    DEPLOYMENTS.c.live_model_id == bindparam("model_id")
)
_CLEAR: Final = (
    update(DEPLOYMENTS)
    .where(DEPLOYMENTS.c.live_model_id == bindparam("of_model"))
    .values(is_live=False)
)
_SET: Final = (
    update(DEPLOYMENTS)
    .where(DEPLOYMENTS.c.deployment_id == bindparam("number"))
    .values(is_live=True)
)
_POINT_FLOWS: Final = (
    update(FLOWS)
    .where(
        FLOWS.c.flow_name.in_(bindparam("names", expanding=True)),
        FLOWS.c.deployment_id != bindparam("number"),
        select(DEPLOYMENTS.c.deployment_id)
        .where(
            DEPLOYMENTS.c.deployment_id == FLOWS.c.deployment_id,
            DEPLOYMENTS.c.model_id == bindparam("of_model"),
        )
        .exists(),
    )
    .values(deployment_id=bindparam("number"))
)
_USABLE: Final = select(DEPLOYMENTS.c.deployment_id).where(
    DEPLOYMENTS.c.model_id == bindparam("model_id"),
    DEPLOYMENTS.c.deployment_id.in_(bindparam("numbers", expanding=True)),
    DEPLOYMENTS.c.retired.is_(None),
    DEPLOYMENTS.c.is_live.is_(False),
)
_ANY_ALIAS: Final = (
    select(AliasRow.alias)
    .where(AliasRow.deployment_id == bindparam("deployment_id"))
    .limit(1)
)
_SET_RETIRED: Final = (
    update(DEPLOYMENTS)
    .where(DEPLOYMENTS.c.deployment_id == bindparam("number"))
    .values(retired=bindparam("moment"))
)
_MOVES: Final = (
    select(EventRow.kind, EventRow.deployment_id, EventRow.previous_deployment_id)
    .where(
        EventRow.subject == MODEL,
        EventRow.subject_id == bindparam("subject_id"),
        EventRow.kind.in_(
            ["deployment.promoted", "deployment.rolled-back", "deployment.demoted"]
        ),
    )
    .order_by(EventRow.number)
)


def clear(tx: Transaction, model_id: int) -> None:
    """Let no deployment of a locked model be live."""
    tx.connection.execute(_CLEAR, {"of_model": model_id})


def point_flows(
    tx: Transaction, model_id: int, deployment_id: int, names: Iterable[str] | None
) -> None:
    """Let those flows of a model that a deployment offers point at it."""
    offered = list(names or ())
    if offered:
        values = {"names": offered, "number": deployment_id, "of_model": model_id}
        tx.connection.execute(_POINT_FLOWS, values)


def record_promoted(
    tx: Transaction,
    model_id: int,
    deployment_id: int,
    previous: int | None,
    version: str,
    kind: str = "deployment.promoted",
) -> None:
    """Note that a deployment became live."""
    tx.record(
        MODEL,
        model_id,
        kind,
        deployment_id=deployment_id,
        previous_deployment_id=previous,
        before={"live": previous},
        after={"live": deployment_id, "version": version},
    )


def promote(tx: Transaction, row: Row[Any], kind: str = "deployment.promoted") -> None:
    """Move "live" to a deployment whose model is locked, and the flows it offers.

    One that is live already stays so, and its flows point at it.
    """
    if row.retired is not None:
        raise ConflictError(
            f"Deployment {row.deployment_id} (version {clip(row.version, 60)!r}) was "
            f"retired on {row.retired:%Y-%m-%d}. Restore it first: "
            f"restore_deployment({row.deployment_id})."
        )
    if not row.is_live:
        asked = {"model_id": row.model_id}
        previous = tx.connection.execute(_LIVE, asked).first()
        if previous is not None:
            clear(tx, row.model_id)
        tx.connection.execute(_SET, {"number": row.deployment_id})
        record_promoted(
            tx,
            row.model_id,
            row.deployment_id,
            previous.deployment_id if previous else None,
            row.version,
            kind,
        )
    point_flows(tx, row.model_id, row.deployment_id, row.entrypoints)


def demote(tx: Transaction, model_id: int) -> None:
    """Let no deployment of a model be live. Its flows stay where they point."""
    tx.lock_model(model_id)
    found = tx.connection.execute(_LIVE, {"model_id": model_id}).first()
    if found is None:
        return
    clear(tx, model_id)
    tx.record(
        MODEL,
        model_id,
        "deployment.demoted",
        deployment_id=found.deployment_id,
        before={"live": found.deployment_id, "version": found.version},
        after={"live": None},
    )


def predecessors(tx: Transaction, model_id: int) -> list[int]:
    """Return what was live before what is live now, the latest first.

    A promotion puts a deployment on top of those before it, and a roll-back takes off
    what was promoted since: rolling back again goes further back, not forth.
    """
    stack: list[int] = []
    moves: Iterable[Any] = tx.connection.execute(_MOVES, {"subject_id": str(model_id)})
    is_live = True
    for kind, number, previous in moves:
        if not stack and previous is not None:
            stack.append(previous)  # Live before there was a history.
        is_live = kind != "deployment.demoted"
        if kind == "deployment.promoted":
            stack.append(number)
        elif kind == "deployment.rolled-back":
            while stack and stack[-1] != number:
                stack.pop()
            stack = stack or [number]
    # After a demotion, what was demoted is what was live before.
    before = stack[:-1] if is_live else stack
    return before[::-1]


def usable(tx: Transaction, model_id: int, numbers: list[int]) -> int | None:
    """Return the first of a model's deployments that may be live and is not."""
    asked = {"model_id": model_id, "numbers": list(dict.fromkeys(numbers))}
    there = set(tx.connection.scalars(_USABLE, asked))
    return next((number for number in numbers if number in there), None)


def retire(tx: Transaction, row: Row[Any]) -> None:
    """Take a deployment out of use."""
    if row.retired is not None:
        return
    what = f"Deployment {row.deployment_id} (version {clip(row.version, 60)!r})"
    if row.is_live:
        raise ConflictError(
            f"{what} is the live one of model {row.model_id}. Make another one live "
            f"first, or demote it."
        )
    asked = {"deployment_id": row.deployment_id}
    alias = tx.connection.execute(_ANY_ALIAS, asked).scalar_one_or_none()
    if alias is not None:
        raise ConflictError(
            f"{what} has the alias {clip(alias, 60)!r}. Move or remove it first."
        )
    _set_retired(tx, row, now(), "deployment.retired")


def restore(tx: Transaction, row: Row[Any]) -> None:
    """Take a retired deployment back into use. It does not become live by that."""
    if row.retired is not None:
        _set_retired(tx, row, None, "deployment.restored")


def _set_retired(tx: Transaction, row: Row[Any], value: Any, kind: str) -> None:
    values = {"number": row.deployment_id, "moment": value}
    tx.connection.execute(_SET_RETIRED, values)
    tx.record(
        MODEL,
        row.model_id,
        kind,
        deployment_id=row.deployment_id,
        before={"retired": row.retired.isoformat() if row.retired else None},
        after={"retired": value.isoformat() if value else None},
    )
