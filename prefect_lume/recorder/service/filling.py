"""Finding what a storage lacks of flow runs, and asking the server for that alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import FlowRunFacts, StateChange
from prefect_lume.pipelines.rows import result_id
from prefect_lume.recorder.api.asking import read_task_runs
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.lookups import Json, read_many
from prefect_lume.recorder.service.storing import EventStore
from prefect_lume.recorder.translation.history import read_parts

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


class GapFiller:
    """Records what is missing of flow runs.

    Whether something is missing is seen by what the server says of them, some hundred
    runs at a time; only of those that lack something all states are asked for.

    Args:
        client: A client of the server.
        storage: Where they are recorded.
        directory: What knows the flow runs.
        store: Records what is missing.

    Attributes:
        filled: How many runs were not complete and were filled.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        storage: PipelineStorage,
        directory: FlowRunDirectory,
        store: EventStore,
    ) -> None:
        self._client, self._storage = client, storage
        self._directory, self._store = directory, store
        self.filled = 0

    def complete(self, flow_run_ids: Collection[str]) -> int:
        """Record what is missing of flow runs; return how many changes were new.

        Args:
            flow_run_ids: At most 200 ids.

        Raises:
            httpx.HTTPError: The server cannot be reached.
            StorageError: The storage cannot be used.
        """
        lacking = self._lacking(flow_run_ids)
        return sum(self._fill(id_, lacking[id_]) for id_ in sorted(lacking))

    def _lacking(self, flow_run_ids: Collection[str]) -> dict[str, set[str]]:
        """Return the flow runs that lack something, each with its task runs that do."""
        runs = read_many(self._client, "flow_runs", flow_run_ids)
        if not runs:
            return {}
        facts = self._directory.learn_runs(list(runs.values()))
        targets = {id_: target_of(facts[id_]) for id_ in runs}
        history = self._storage.get_history(list(targets.values()))
        lacking: dict[str, set[str]] = {
            id_: set()
            for id_, run in runs.items()
            if _lacks(run, history.get(targets[id_], ()))
        }
        # The task runs of a run over objects are the runs for the objects.
        with_tasks = [id_ for id_ in runs if not is_mapped_parent(facts[id_])]
        if not with_tasks:
            return lacking
        for page in read_task_runs(self._client, with_tasks):
            history = self._storage.get_history([run["id"] for run in page])
            for run in page:
                if _lacks(run, history.get(run["id"], ())):
                    lacking.setdefault(run["flow_run_id"], set()).add(run["id"])
        return lacking

    def _fill(self, flow_run_id: str, task_run_ids: Collection[str]) -> int:
        parts = read_parts(self._client, self._directory, flow_run_id, task_run_ids)
        new = sum(self._store.record_history(batch) for batch in parts)
        self.filled += bool(new)
        return new


def _lacks(run: Json, known: Sequence[StateChange]) -> bool:
    """Tell whether a run's present state, or one in which it ran, is not recorded."""
    if not run.get("state_id"):
        return False
    starts = sum(change.state_type == "RUNNING" for change in known)
    ids = {change.id for change in known}
    return run["state_id"] not in ids or starts < (run.get("run_count") or 0)


def target_of(facts: FlowRunFacts) -> str:
    """Return the id of the object that a flow run's states are states of."""
    if facts.index is None:
        return facts.run_id
    return result_id(facts.run_id, facts.index)


def is_mapped_parent(facts: FlowRunFacts) -> bool:
    """Tell whether a flow run runs a pipeline over objects, rather than on one."""
    return facts.is_mapped and not facts.is_object
