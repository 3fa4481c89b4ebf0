"""Reading many things from Prefect's API at once, as plain JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import httpx
    from prefect.client.orchestration import SyncPrefectClient

#: What Prefect's API gives at most in one answer.
PAGE: Final = 200

Json = dict[str, Any]


def ask(
    client: SyncPrefectClient, method: str, path: str, **options: Any
) -> httpx.Response:
    """Send a request and return the answer if it is no error.

    Raises:
        httpx.HTTPError: The server could not be asked, or refused.
    """
    # Prefect's type of the path lists the routes that its client knows.
    request = cast("Any", client.request)
    return cast("httpx.Response", request(method, path, **options))


def post(client: SyncPrefectClient, path: str, body: Mapping[str, Any]) -> Any:
    """Send a JSON document and return the one that comes back.

    Raises:
        httpx.HTTPError: The server could not be asked, or refused.
    """
    return ask(client, "POST", path, json=dict(body)).json()


def get(client: SyncPrefectClient, path: str, **parameters: str) -> Any:
    """Ask for something and return the JSON of the answer.

    Raises:
        httpx.HTTPError: The server could not be asked, or refused.
    """
    return ask(client, "GET", path, params=parameters).json()


def pages(
    client: SyncPrefectClient, path: str, body: Mapping[str, Any]
) -> Iterator[list[Json]]:
    """Ask for everything that a filter finds, one page after the other.

    Args:
        client: A client of Prefect's server.
        path: Where to ask, such as ``/task_runs/filter``.
        body: The filter, and an order in which nothing moves while it is read.

    Raises:
        httpx.HTTPError: The server could not be asked, or refused.
    """
    offset = 0
    while True:
        asked = {**body, "limit": PAGE, "offset": offset}
        found: list[Json] = post(client, path, asked)
        if found:
            yield found
        if len(found) < PAGE:
            return
        offset += PAGE


def read_many(
    client: SyncPrefectClient, noun: str, ids: Collection[str]
) -> dict[str, Json]:
    """Read objects of one kind by their ids.

    Args:
        client: A client of Prefect's server.
        noun: What they are, as the API calls them: ``"flow_runs"``.
        ids: Their ids. What does not exist is not in the answer.

    Raises:
        httpx.HTTPError: The server could not be asked, or refused.
    """
    wanted = sorted(set(ids))
    found: dict[str, Json] = {}
    for start in range(0, len(wanted), PAGE):
        part = wanted[start : start + PAGE]
        body = {noun: {"id": {"any_": part}}, "limit": PAGE}
        answer: list[Json] = post(client, f"/{noun}/filter", body)
        found.update((item["id"], item) for item in answer)
    return found
