"""The complete history of flow runs, read from Prefect's API.

For what is older than Prefect keeps events, and for what was missed. It tells the same
changes as the events do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from prefect_lume.pipelines.changes import Batch, FlowRunFacts
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.lookups import PAGE, Json, get, pages, read_many
from prefect_lume.recorder.translation.translating import (
    BEFORE_RUNNING,
    flow_run_change,
    task_run_change,
    task_run_facts,
)

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: Requests that are under way at the same time.
CONCURRENCY: Final = 8
#: How the task keys begin of task runs that stand for a run of a Prefect deployment.
_DEPLOYMENT_RUN: Final = "prefect.deployments.flow_runs.run_deployment."


def read_run(
    client: SyncPrefectClient, directory: FlowRunDirectory, flow_run_id: str
) -> Batch:
    """Read every state of a flow run and of its task runs.

    Args:
        client: A client of Prefect's server.
        directory: What knows the flow runs.
        flow_run_id: Prefect's id of the flow run.

    Returns:
        The changes and facts; nothing if the server does not know the flow run.

    Raises:
        httpx.HTTPError: The server could not be asked.
        StorageError: The registry could not be asked, and the links are strict.
    """
    return _joined(read_parts(client, directory, flow_run_id))


def read_parts(
    client: SyncPrefectClient,
    directory: FlowRunDirectory,
    flow_run_id: str,
    task_run_ids: Collection[str] | None = None,
) -> Iterator[Batch]:
    """Read the states of a flow run and of its task runs, some hundreds at a time.

    Args:
        client: A client of Prefect's server.
        directory: What knows the flow runs.
        flow_run_id: Prefect's id of the flow run.
        task_run_ids: Read no other task runs than these.

    Yields:
        Batches that may be recorded one by one.

    Raises:
        httpx.HTTPError: The server could not be asked.
        StorageError: The registry could not be asked, and the links are strict.
    """
    runs = read_many(client, "flow_runs", [flow_run_id])
    if flow_run_id in runs:
        yield from _read_parts(client, directory, runs[flow_run_id], task_run_ids)


def read_runs(
    client: SyncPrefectClient,
    directory: FlowRunDirectory,
    since: datetime,
    until: datetime,
) -> Iterator[Batch]:
    """Read the history of every flow run that may have changed in a span of time.

    These are the runs that were due before its end and did not end before its
    beginning.

    Args:
        client: A client of Prefect's server.
        directory: What knows the flow runs.
        since: The beginning of the span, aware of its zone.
        until: Its end.

    Yields:
        Batches that may be recorded one by one: of each flow run one or more.

    Raises:
        httpx.HTTPError: The server could not be asked.
        StorageError: The registry could not be asked, and the links are strict.
    """
    due = {"before_": until.isoformat()}
    read: set[str] = set()
    # Those that have not ended come first: they may end while they are read.
    for ended in ({"is_null_": True}, {"after_": since.isoformat()}):
        body = {
            "flow_runs": {"expected_start_time": due, "end_time": ended},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        found = [
            run for page in pages(client, "/flow_runs/filter", body) for run in page
        ]
        for run in found:
            if run["id"] not in read:
                read.add(run["id"])
                yield from _read_parts(client, directory, run)


def _joined(parts: Iterable[Batch]) -> Batch:
    whole = Batch()
    for part in parts:
        whole.changes += part.changes
        whole.flow_runs = whole.flow_runs or part.flow_runs
        whole.task_runs += part.task_runs
    return whole


def _read_parts(
    client: SyncPrefectClient,
    directory: FlowRunDirectory,
    run: Json,
    task_run_ids: Collection[str] | None = None,
) -> Iterator[Batch]:
    id_ = run["id"]
    facts = directory.learn_runs([run])[id_]
    facts.is_named = run["state_type"] not in BEFORE_RUNNING
    states = get(client, "/flow_run_states/", flow_run_id=id_)
    changes = [flow_run_change(facts, **fields) for fields in _changes(states)]
    yield Batch(changes, [facts])
    if facts.is_mapped and not facts.is_object:
        return
    standing: set[str] | None = None
    for page in _task_run_pages(client, id_, task_run_ids):
        if standing is None:
            standing = _standing_for_subflows(client, id_)
        task_runs = [run for run in page if not _stands(run, standing)]
        yield _task_run_histories(client, facts, task_runs)


def _task_run_pages(
    client: SyncPrefectClient, flow_run_id: str, ids: Collection[str] | None
) -> Iterator[list[Json]]:
    if ids is None:
        body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "sort": "ID_DESC"}
        yield from pages(client, "/task_runs/filter", body)
        return
    wanted = sorted(ids)
    for start in range(0, len(wanted), PAGE):
        part = read_many(client, "task_runs", wanted[start : start + PAGE])
        yield list(part.values())


def _task_run_histories(
    client: SyncPrefectClient, facts: FlowRunFacts, task_runs: list[Json]
) -> Batch:
    def states_of(task_run: Json) -> list[Json]:
        found: list[Json] = get(client, "/task_run_states/", task_run_id=task_run["id"])
        return found

    batch = Batch(flow_runs=[facts])
    try:
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            histories = list(pool.map(states_of, task_runs))
    except RuntimeError:
        # A process that is about to end lets no pool begin anything: one by one, then.
        histories = [states_of(task_run) for task_run in task_runs]
    for task_run, states in zip(task_runs, histories, strict=True):
        changes = list(_changes(states))
        for fields in changes:
            batch.changes.append(task_run_change(facts, task_run["id"], **fields))
        batch.task_runs.append(
            task_run_facts(
                facts,
                task_run["id"],
                task_key=task_run["task_key"],
                name=task_run["name"],
                dynamic_key=task_run["dynamic_key"],
                is_named=any(f["type"] not in BEFORE_RUNNING for f in changes),
                first_seen=changes[0]["timestamp"] if changes else None,
            )
        )
    return batch


def _standing_for_subflows(client: SyncPrefectClient, flow_run_id: str) -> set[str]:
    """Return the ids of the task runs that stand for a subflow in a flow run."""
    body = {
        "flow_runs": {"parent_flow_run_id": {"any_": [flow_run_id]}},
        "sort": "ID_DESC",
    }
    return {
        run["parent_task_run_id"]
        for page in pages(client, "/flow_runs/filter", body)
        for run in page
    }


def _stands(task_run: Mapping[str, Any], standing: Collection[str]) -> bool:
    """Tell whether a task run only stands for a subflow."""
    if task_run["id"] in standing or task_run["task_key"].startswith(_DEPLOYMENT_RUN):
        return True
    details = (task_run.get("state") or {}).get("state_details") or {}
    return details.get("child_flow_run_id") is not None


def _changes(states: list[Json]) -> Iterator[dict[str, Any]]:
    """Return the arguments of the change that each state is, the oldest first."""
    count = 0
    for state in sorted(states, key=lambda state: (state["timestamp"], state["id"])):
        # Prefect counts a run each time it starts running.
        count += state["type"] == "RUNNING"
        yield {
            "id": state["id"],
            "type": state["type"],
            "name": state["name"],
            "message": state["message"],
            "timestamp": datetime.fromisoformat(state["timestamp"]),
            "run_count": count,
        }
