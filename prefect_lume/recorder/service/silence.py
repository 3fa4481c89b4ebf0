"""When a flow run was last heard of, by what the server has of its events."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from prefect_lume.recorder.api.lookups import post
from prefect_lume.recorder.service.events import BEGINNING, END, occurred
from prefect_lume.recorder.translation.translating import FLOW_RUN_EVENTS, HEARTBEAT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_REMEMBERED: Final = 10_000


class SignsOfLife:
    """Asks a server when it last heard of flow runs.

    Args:
        client: A client of the server.
    """

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client
        self._known: OrderedDict[str, bool] = OrderedDict()
        self._alive_until: OrderedDict[str, datetime] = OrderedDict()

    def is_known(self, flow_run_id: str) -> bool:
        """Tell whether the server ever had this flow run, as far as its events tell.

        Several servers may be recorded in one storage: what this one does not have may
        be another one's.
        """
        if flow_run_id not in self._known:
            own = {"resource": {"id": [FLOW_RUN_EVENTS + flow_run_id]}}
            _keep(self._known, flow_run_id, self._newest(own) is not None)
        return self._known[flow_run_id]

    def is_surely_alive(self, flow_run_id: str, now: datetime) -> bool:
        """Tell whether it was heard of so lately that it need not be asked again."""
        until = self._alive_until.get(flow_run_id)
        return until is not None and now < until

    def heartbeat(self, flow_run_id: str) -> datetime | None:
        """Return when its process last gave a sign of life, if it gives any."""
        return self._newest(
            {
                "event": {"name": [HEARTBEAT]},
                "resource": {"id": [FLOW_RUN_EVENTS + flow_run_id]},
            }
        )

    def heard_of(self, flow_run_id: str) -> datetime | None:
        """Return when it, or a task run of it, last changed its state."""
        own = self._newest({"resource": {"id": [FLOW_RUN_EVENTS + flow_run_id]}})
        tasks = self._newest({"related": {"id": [FLOW_RUN_EVENTS + flow_run_id]}})
        return max((time for time in (own, tasks) if time), default=None)

    def was_heard(self, flow_run_id: str, when: datetime, lasts: timedelta) -> None:
        """Note when it was heard of, and for how long that says that it is alive."""
        _keep(self._alive_until, flow_run_id, when + lasts)

    def _newest(self, event_filter: dict[str, Any]) -> datetime | None:
        occurring = {"since": BEGINNING.isoformat(), "until": END.isoformat()}
        body = {
            "filter": {**event_filter, "occurred": occurring, "order": "DESC"},
            "limit": 1,
        }
        events = post(self._client, "/events/filter", body)["events"]
        return occurred(events[0]) if events else None


def _keep(kept: OrderedDict[str, Any], id_: str, value: Any) -> None:
    kept[id_] = value
    kept.move_to_end(id_)
    while len(kept) > _REMEMBERED:
        kept.popitem(last=False)
