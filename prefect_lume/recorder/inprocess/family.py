"""Which flow runs belong to a recording, and what Prefect's API says of them.

A recording is of one flow run and of the flow runs below it in this process. What they
are is asked of the server, in the recording's own thread.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from prefect_lume.pipelines.changes import FlowRunFacts
from prefect_lume.recorder.api.directory import FlowRunDirectory
from prefect_lume.recorder.api.lookups import Json, get, pages, read_many

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: Prefect's types of states after which a run does not go on by itself.
AT_REST: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED"})
#: Ids in one question.
_TOGETHER: Final = 200
#: Seconds after which a flow run of unknown parents is asked for again.
_AGAIN: Final = 5.0


class Family:
    """The flow runs of one recording.

    Args:
        client: A client of Prefect's server.
        directory: What knows the flow runs.
        members: The ids of those that belong to it; filled with what is found.
    """

    def __init__(
        self, client: SyncPrefectClient, directory: FlowRunDirectory, members: set[str]
    ) -> None:
        self.client = client
        self.directory = directory
        self._members = members
        self._strangers: dict[str, float] = {}
        #: Names that were read just now.
        self._names: dict[str, str] = {}

    def sort_out(self, flow_run_ids: Collection[str]) -> set[str]:
        """Tell which of these flow runs belong to the family: take them in.

        Returns:
            Those that were not known to belong to it.

        Raises:
            httpx.HTTPError: The server could not be asked.
        """
        now = time.monotonic()
        unknown = [
            id_
            for id_ in flow_run_ids
            if id_ not in self._members and self._strangers.get(id_, 0.0) < now
        ]
        lines = [[id_] for id_ in unknown]
        found: set[str] = set()
        while lines:
            facts = self.directory.facts({line[-1] for line in lines})
            longer = []
            for line in lines:
                above = _above(facts[line[-1]])
                if above in self._members:
                    found.update(line)
                elif above is not None and above not in line:
                    longer.append([*line, above])
                else:
                    self._strangers.update(dict.fromkeys(line, now + _AGAIN))
            lines = longer
        self._members |= found
        return found

    def find_below(self) -> set[str]:
        """Find the flow runs in this process below those of the family: take them in.

        Runs of Prefect deployments are somebody else's, unless they belong already.

        Raises:
            httpx.HTTPError: The server could not be asked.
        """
        found: set[str] = set()
        level = sorted(self._members)
        while level:
            below: list[Json] = []
            for start in range(0, len(level), _TOGETHER):
                ids = level[start : start + _TOGETHER]
                asked = {
                    "operator": "or_",
                    # Themselves too: their names are asked for next.
                    "id": {"any_": ids},
                    "parent_flow_run_id": {"any_": ids},
                }
                body = {"flow_runs": asked, "sort": "ID_DESC"}
                for page in pages(self.client, "/flow_runs/filter", body):
                    below += page
            self._names.update((run["id"], run["name"]) for run in below)
            level = [
                run["id"]
                for run in below
                if run["id"] not in self._members and run["deployment_id"] is None
            ]
            self._members.update(level)
            found.update(level)
        return found

    def state_of(self, flow_run_id: str) -> str | None:
        """Return Prefect's type of a flow run's state; nothing if it was deleted.

        Raises:
            httpx.HTTPError: The server could not be asked.
        """
        runs = read_many(self.client, "flow_runs", [flow_run_id])
        return runs[flow_run_id]["state_type"] if flow_run_id in runs else None

    def states(self, flow_run_id: str, name: str | None = None) -> list[Json]:
        """Return every state of a flow run, each as the event of it would tell.

        Args:
            flow_run_id: Prefect's id of the flow run.
            name: Its name, if that is known; asked for otherwise.

        Raises:
            httpx.HTTPError: The server could not be asked.
        """
        name = name or self._names.pop(flow_run_id, None)
        if name is None:
            runs = read_many(self.client, "flow_runs", [flow_run_id])
            if flow_run_id not in runs:
                return []
            name = str(runs[flow_run_id]["name"])
        found = get(self.client, "/flow_run_states/", flow_run_id=flow_run_id)
        return [
            state_event(
                flow_run_id,
                name,
                id_=state["id"],
                kind=state["type"],
                state_name=state["name"],
                message=state["message"],
                occurred=state["timestamp"],
            )
            for state in found
        ]


def _above(facts: FlowRunFacts) -> str | None:
    return facts.run_id if facts.is_object else facts.parent_run_id


def state_event(
    flow_run_id: str,
    run_name: str,
    *,
    id_: str,
    kind: str,
    state_name: str,
    message: str | None,
    occurred: str,
) -> Json:
    """Return a flow run's state as the event of it tells."""
    return {
        "id": id_,
        "event": f"prefect.flow-run.{state_name}",
        "occurred": occurred,
        "resource": {
            "prefect.resource.id": f"prefect.flow-run.{flow_run_id}",
            "prefect.resource.name": run_name,
        },
        "related": [],
        "payload": {
            "validated_state": {"type": kind, "name": state_name, "message": message}
        },
    }
