"""A project's tag on the Prefect deployments of its flows; the rest stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowFilter, FlowFilterId
from prefect.client.schemas.sorting import DeploymentSort

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

#: Flows, and Prefect deployments, that are asked for together.
_PAGE: Final = 100


def tag(flow_ids: Iterable[str], name: str) -> int:
    """Give the Prefect deployments of some flows a tag, where they have it not.

    Returns:
        How many were changed.

    Raises:
        httpx.HTTPError: Prefect's server cannot be used.
    """
    return _change(flow_ids, lambda tags: [*tags, name])


def retag(flow_ids: Iterable[str], old: str, new: str) -> int:
    """Give the Prefect deployments of some flows that have a tag another one for it.

    Returns:
        How many were changed.

    Raises:
        httpx.HTTPError: Prefect's server cannot be used.
    """
    return _change(flow_ids, lambda tags: [new if t == old else t for t in tags])


def untag(flow_ids: Iterable[str], name: str) -> int:
    """Take a tag from the Prefect deployments of some flows.

    Returns:
        How many were changed.

    Raises:
        httpx.HTTPError: Prefect's server cannot be used.
    """
    return _change(flow_ids, lambda tags: [item for item in tags if item != name])


def _change(flow_ids: Iterable[str], change: Callable[[list[str]], list[str]]) -> int:
    ids = sorted({UUID(item) for item in flow_ids if _is_uuid(item)})
    if not ids:
        # Nothing is asked then: an embedded registry starts no server for this.
        return 0
    changed = 0
    with get_client(sync_client=True) as client:
        for deployment in _deployments(client, ids):
            tags = list(dict.fromkeys(change(deployment.tags)))
            if tags != deployment.tags:
                client.update_deployment(deployment.id, DeploymentUpdate(tags=tags))
                changed += 1
    return changed


def _deployments(
    client: SyncPrefectClient, flow_ids: list[UUID]
) -> Iterator[DeploymentResponse]:
    rest = iter(flow_ids)
    while some := list(islice(rest, _PAGE)):
        offset = 0
        while True:
            page = client.read_deployments(
                flow_filter=FlowFilter(id=FlowFilterId(any_=some)),
                sort=DeploymentSort.CREATED_DESC,
                limit=_PAGE,
                offset=offset,
            )
            yield from page
            offset += len(page)
            if len(page) < _PAGE:
                break


def _is_uuid(flow_id: str) -> bool:
    # The registry takes flows that Prefect never had.
    try:
        UUID(flow_id)
    except ValueError:
        return False
    return True
