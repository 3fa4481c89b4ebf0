"""What a recorder asks of runs that have ended."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

from prefect_lume.recorder.api.lookups import Json, pages

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: Prefect's types of the states after which a run does nothing more.
FINAL_TYPES: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


def read_task_runs(
    client: SyncPrefectClient, flow_run_ids: Collection[str]
) -> Iterator[list[Json]]:
    """Yield the task runs of flow runs by pages, those that stand for subflows not.

    Args:
        client: A client of the server.
        flow_run_ids: At most 200 ids.
    """
    body = {"flow_runs": {"id": {"any_": list(flow_run_ids)}}, "sort": "ID_DESC"}
    for page in pages(client, "/task_runs/filter", body):
        yield [run for run in page if not _is_subflow(run)]


def _is_subflow(task_run: Json) -> bool:
    details = (task_run.get("state") or {}).get("state_details") or {}
    return bool(details.get("child_flow_run_id"))
