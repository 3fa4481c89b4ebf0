"""What is known of flow runs, asked of Prefect's server once and kept."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticSerializationError

from prefect_lume.pipelines.changes import FlowRunFacts
from prefect_lume.pipelines.jsonable import jsonable
from prefect_lume.recorder.api.links import DeploymentLinks
from prefect_lume.recorder.api.lookups import Json, read_many
from prefect_lume.recorder.marks import (
    NAME_PARAMETER,
    OBJECTS_PARAMETER,
    PIPELINE_PARAMETER,
    PIPELINE_TAG,
    object_index,
)

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

#: What runs a flow that no work pool runs.
PROCESS: Final = "process"
#: Seconds for which what may change is kept.
_SHORTLY: Final = 30.0
#: Characters of JSON up to which the list of a pipeline's objects is kept.
_OBJECTS_LIMIT: Final = 2_000
#: What is needed of a flow run.
_NEEDED: Final = {
    "id",
    "name",
    "flow_id",
    "parameters",
    "tags",
    "created",
    "parent_task_run_id",
    "deployment_id",
    "deployment_version",
    "work_pool_name",
    "job_variables",
}


@dataclass(slots=True)
class _Known:
    """A flow run, and what may still become known of it."""

    facts: FlowRunFacts
    run: Json = field(default_factory=dict)
    until: float | None = None


class FlowRunDirectory:
    """The facts about flow runs.

    What does not change in the life of a flow run is asked for once. It may be shared
    between threads.

    Args:
        client: A client of Prefect's server.
        links: What finds the registry's deployment of a flow run; without it, none is
            looked for.
        size: How many flow runs are kept in mind.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        links: DeploymentLinks | None = None,
        size: int = 4096,
    ) -> None:
        self._client = client
        self._links = links
        self._size = size
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, _Known] = OrderedDict()
        self._flows: OrderedDict[str, str] = OrderedDict()
        self._deployments: OrderedDict[str, tuple[float, Json]] = OrderedDict()

    def facts(
        self,
        flow_run_ids: Collection[str],
        hints: Mapping[str, FlowRunFacts] | None = None,
    ) -> dict[str, FlowRunFacts]:
        """Return the facts of flow runs, in the order of their ids as given.

        Args:
            flow_run_ids: Prefect's ids of flow runs.
            hints: What an event says of them: for those that the server does not know
                (they were deleted), and for the name that a run gets when it begins.

        Returns:
            Facts that the caller may change.

        Raises:
            httpx.HTTPError: The server could not be asked.
            StorageError: The registry could not be asked, and the links are strict.
        """
        hints = hints or {}
        with self._lock:
            known = {id_: self._find(id_) for id_ in flow_run_ids}
        missing = [id_ for id_, item in known.items() if item is None]
        if missing:
            found = self._read(read_many(self._client, "flow_runs", missing))
            until = time.monotonic() + _SHORTLY
            for id_ in missing:
                item = found.get(id_)
                if item is None:
                    bare = FlowRunFacts(run_id=id_, flow_run_id=id_)
                    item = _Known(hints.get(id_) or bare, until=until)
                known[id_] = item
            with self._lock:
                self._keep({id_: known[id_] for id_ in missing})
        return {
            id_: self._told(item, hints.get(id_))
            for id_, item in known.items()
            if item is not None
        }

    def learn(self, facts: FlowRunFacts) -> None:
        """Take in facts that are known without asking the server."""
        own = replace(facts, last_seen=None, is_named=False)
        with self._lock:
            self._keep({facts.flow_run_id: _Known(own)})

    def learn_run(self, flow_run: FlowRun, flow_name: str) -> None:
        """Take in a flow run as Prefect's client has it, instead of asking for it.

        What lies above one, if anything does, has to be asked all the same.
        """
        if flow_run.parent_task_run_id is not None or flow_run.created is None:
            return
        try:
            run = flow_run.model_dump(mode="json", include=_NEEDED)
        except PydanticSerializationError:
            # Somebody put something into it that the server does not know.
            return
        with self._lock:
            self._flows[run["flow_id"]] = flow_name
        found = self._read({run["id"]: run})
        with self._lock:
            self._keep(found)

    def learn_runs(self, runs: Sequence[Json]) -> dict[str, FlowRunFacts]:
        """Take in flow runs as Prefect's API gives them, and return their facts.

        Args:
            runs: Flow runs, as ``/flow_runs/filter`` answers.

        Raises:
            httpx.HTTPError: The server could not be asked.
            StorageError: The registry could not be asked, and the links are strict.
        """
        found = self._read({run["id"]: run for run in runs})
        with self._lock:
            self._keep(found)
        return {id_: self._told(item, None) for id_, item in found.items()}

    def ask_through(self, client: SyncPrefectClient) -> None:
        """Ask by this client of the same server from now on."""
        self._client = client

    def forget(self, flow_run_ids: Collection[str]) -> None:
        """Ask the server again for these when they are needed."""
        with self._lock:
            for id_ in flow_run_ids:
                self._runs.pop(id_, None)

    # What is kept -------------------------------------------------------------------

    def _find(self, id_: str) -> _Known | None:
        item = self._runs.get(id_)
        if item is None or (item.until is not None and item.until < time.monotonic()):
            return None
        self._runs.move_to_end(id_)
        return item

    def _keep(self, known: Mapping[str, _Known | None]) -> None:
        for id_, item in known.items():
            if item is not None:
                self._runs[id_] = item
                self._runs.move_to_end(id_)
        _trim(self._runs, self._size)

    def _told(self, item: _Known, hint: FlowRunFacts | None) -> FlowRunFacts:
        """Return a copy of the facts, with what may have become known since."""
        facts = replace(item.facts)
        if hint is not None and hint.is_named:
            facts.run_name, facts.is_named = hint.run_name, True
        if item.run and self._links is not None and facts.deployment_id is None:
            facts.project_name, facts.deployment_id = self._link(item.run, self._links)
        return facts

    def _link(self, run: Json, links: DeploymentLinks) -> tuple[str | None, int | None]:
        variables = [run.get("job_variables")]
        deployment = self._deployment(run.get("deployment_id"))
        if _is_of(deployment, run):
            variables.append(deployment.get("job_variables"))
        return links.link(run, run["flow_id"], *variables)

    def _deployment(self, id_: str | None) -> Json:
        """Return a Prefect deployment, which may change, as it was a moment ago."""
        if id_ is None:
            return {}
        now = time.monotonic()
        with self._lock:
            at, deployment = self._deployments.get(id_, (None, {}))
        if at is not None and now - at < _SHORTLY:
            return deployment
        deployment = read_many(self._client, "deployments", [id_]).get(id_, {})
        with self._lock:
            self._deployments[id_] = now, deployment
            _trim(self._deployments, self._size)
        return deployment

    # What is asked --------------------------------------------------------------------

    def _read(self, runs: Mapping[str, Json]) -> dict[str, _Known]:
        """Return what is known of flow runs that the server gave."""
        names = self._flow_names({run["flow_id"] for run in runs.values()})
        parents = self._parents(runs)
        pipelines = self._pipelines(runs, parents)
        now = time.monotonic()
        found = {}
        for id_, run in runs.items():
            facts = _facts(run, names.get(run["flow_id"]), parents.get(id_))
            _set_object(facts, run, pipelines)
            # The task run above may reach the database after the flow run below.
            orphan = run["parent_task_run_id"] and facts.parent_run_id is None
            until = now + _SHORTLY if orphan else None
            found[id_] = _Known(facts, run, until)
        return found

    def _flow_names(self, ids: Collection[str]) -> dict[str, str]:
        with self._lock:
            names = {id_: self._flows[id_] for id_ in ids if id_ in self._flows}
        missing = [id_ for id_ in ids if id_ not in names]
        if missing:
            flows = read_many(self._client, "flows", missing)
            read = {id_: str(flow["name"]) for id_, flow in flows.items()}
            names.update(read)
            with self._lock:
                self._flows.update(read)
                _trim(self._flows, self._size)
        return names

    def _parents(self, runs: Mapping[str, Json]) -> dict[str, str]:
        """Return the flow run above each flow run, for those that have one."""
        above = {
            id_: run["parent_task_run_id"]
            for id_, run in runs.items()
            if run["parent_task_run_id"]
        }
        if not above:
            return {}
        task_runs = read_many(self._client, "task_runs", above.values())
        found = {id_: task_runs.get(task) for id_, task in above.items()}
        return {
            id_: task["flow_run_id"]
            for id_, task in found.items()
            if task is not None and task["flow_run_id"]
        }

    def _pipelines(
        self, runs: Mapping[str, Json], parents: Mapping[str, str]
    ) -> dict[str, Json]:
        """Return the flow runs above those that work on an object, by their ids."""
        wanted = {
            parents[id_]
            for id_, run in runs.items()
            if id_ in parents and object_index(run["tags"]) is not None
        }
        found = {id_: runs[id_] for id_ in wanted if id_ in runs}
        missing = wanted - found.keys()
        if missing:
            found.update(read_many(self._client, "flow_runs", missing))
        return {id_: run for id_, run in found.items() if is_pipeline(run)}


def is_pipeline(run: Mapping[str, Any]) -> bool:
    """Tell whether a flow run, as the API gives it, runs a pipeline over objects.

    A tag alone does not make it one: subflows may get the tags of what called them.
    """
    needed = (PIPELINE_PARAMETER, OBJECTS_PARAMETER, NAME_PARAMETER)
    return PIPELINE_TAG in run["tags"] and all(
        name in run["parameters"] for name in needed
    )


def _facts(run: Json, flow_name: str | None, parent: str | None) -> FlowRunFacts:
    facts = FlowRunFacts(
        run_id=run["id"],
        flow_run_id=run["id"],
        pipeline_id=flow_name,
        run_name=run["name"],
        input_data=input_data(run["parameters"]),
        flow_id=run["flow_id"],
        prefect_deployment_id=run["deployment_id"],
        parent_run_id=parent,
        runner=run.get("work_pool_name") or PROCESS,
        created=datetime.fromisoformat(run["created"]),
    )
    if is_pipeline(run):
        facts.is_mapped = True
        facts.pipeline_id = str(run["parameters"][PIPELINE_PARAMETER])
        facts.input_data = _without_objects(run["parameters"])
    return facts


def input_data(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a flow run as JSON, each cut if it is very long.

    Example:
        >>> input_data({"charge": 1e-9})
        {'charge': 1e-09}
    """
    return {name: jsonable(value) for name, value in parameters.items()}


def _without_objects(parameters: Mapping[str, Any]) -> dict[str, Any]:
    objects = parameters[OBJECTS_PARAMETER]
    if len(json.dumps(objects)) <= _OBJECTS_LIMIT:
        return input_data(parameters)
    count = len(objects) if isinstance(objects, list) else None
    return {
        **input_data({**parameters, OBJECTS_PARAMETER: None}),
        OBJECTS_PARAMETER: {"count": count},
    }


def _set_object(facts: FlowRunFacts, run: Json, pipelines: Mapping[str, Json]) -> None:
    """Make the facts those of a run on one object, if that is what it is."""
    pipeline = pipelines.get(facts.parent_run_id or "")
    if pipeline is None:
        return
    parameters = pipeline["parameters"]
    facts.run_id, facts.parent_run_id = pipeline["id"], None
    facts.index = object_index(run["tags"])
    facts.pipeline_id = str(parameters[PIPELINE_PARAMETER])
    given = run["parameters"].get(str(parameters[NAME_PARAMETER]))
    facts.pipeline_object = jsonable(given)


def _is_of(deployment: Json, run: Json) -> bool:
    """Tell whether a Prefect deployment is still of the version that a run is of."""
    version, own = deployment.get("version"), run.get("deployment_version")
    return version is None or own is None or version == own


def _trim(kept: OrderedDict[str, Any], size: int) -> None:
    while len(kept) > size:
        kept.popitem(last=False)
