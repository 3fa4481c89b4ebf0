"""The runs of a Prefect deployment on objects, wherever its work pool takes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import MissingResult, PrefectHTTPStatusError
from prefect.states import Cancelling

from prefect_lume.recorder.api.asking import FINAL_TYPES
from prefect_lume.recorder.api.lookups import read_many
from prefect_lume.recorder.inprocess.preparing import ReadStates
from prefect_lume.recorder.inprocess.recording import Recording
from prefect_lume.recorder.marks import object_tag
from prefect_lume.recorder.objects.given import Target

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

# Prefect's types do not tell of "_sync", by which it does not await anything.
_start: Final[Any] = run_deployment

#: Seconds between two looks at the runs.
POLL: Final = 1.0
#: Seconds after which the server should know of all task runs of a run that has ended.
SETTLE: Final = 2.0
#: What the server answers if parameters are not what the deployment's schema says.
_INVALID: Final = frozenset({409, 422})


def run_deployments(
    target: Target,
    objects: Sequence[Any],
    tags: Sequence[str],
    recording: Recording | None,
    invalid: Callable[[int, BaseException], str],
) -> tuple[dict[int, Any], dict[int, str]]:
    """Have a Prefect deployment run on each object, and wait for all to end.

    Args:
        target: What to run.
        objects: What to run it over, as JSON.
        tags: Tags of the runs besides the one for the object.
        recording: Told of the runs' states.
        invalid: Told of objects that the deployment does not take; says why.

    Returns:
        Results by the objects' positions, and what happened to the others.
    """
    failures: dict[int, str] = {}
    runs: dict[UUID, int] = {}
    with get_client(sync_client=True) as client:
        try:
            for index, obj in enumerate(objects):
                try:
                    run = _start(
                        target.deployment,
                        parameters=target.arguments(obj),
                        tags=[*tags, object_tag(index)],
                        timeout=0,
                        _sync=True,
                    )
                except PrefectHTTPStatusError as error:
                    if error.response.status_code not in _INVALID:
                        raise
                    failures[index] = invalid(index, error)
                    continue
                runs[run.id] = index
                if recording is not None:
                    recording.join(run.id)
                    recording.put(ReadStates(str(run.id)))
            ended = _wait(client, runs, recording)
        except BaseException:
            _cancel(client, runs)
            raise
        results: dict[int, Any] = {}
        for id_, index in runs.items():
            state = ended[str(id_)]
            if state["state_type"] == "COMPLETED":
                results[index] = _result(client, id_)
            else:
                message = (state["state"] or {}).get("message")
                failures[index] = message or f"It ended as {state['state_name']}."
    return results, failures


def _wait(
    client: SyncPrefectClient, runs: dict[UUID, int], recording: Recording | None
) -> dict[str, dict[str, Any]]:
    """Return the runs as they ended."""
    ended: dict[str, dict[str, Any]] = {}
    seen: dict[str, str] = {}
    waiting = {str(id_) for id_ in runs}
    while waiting:
        for id_, run in read_many(client, "flow_runs", waiting).items():
            final = run["state_type"] in FINAL_TYPES
            if recording is not None and seen.get(id_) != run["state_id"]:
                # Nobody else may have recorded its tasks.
                recording.put(ReadStates(id_, with_tasks=final, again=final))
            seen[id_] = run["state_id"]
            if final:
                ended[id_] = run
                waiting.discard(id_)
        if waiting:
            time.sleep(POLL)
    if recording is not None and ended:
        time.sleep(SETTLE)
        for id_ in ended:
            recording.put(ReadStates(id_, with_tasks=True))
    return ended


def _cancel(client: SyncPrefectClient, runs: dict[UUID, int]) -> None:
    """Cancel the runs that have not ended."""
    message = "The pipeline that it is part of ended before it did."
    for id_, run in read_many(client, "flow_runs", [str(id_) for id_ in runs]).items():
        if run["state_type"] not in FINAL_TYPES:
            client.set_flow_run_state(UUID(id_), Cancelling(message=message))


def _result(client: SyncPrefectClient, flow_run_id: UUID) -> Any:
    """Return what a run returned, if it was persisted where it can be read."""
    state: Any = client.read_flow_run(flow_run_id).state
    try:
        return state.result(_sync=True)
    except (MissingResult, ValueError, OSError):
        return None
