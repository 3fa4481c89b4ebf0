"""Since when what is live is so, by whom and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, bindparam

from prefect_lume.registry import fields, reading
from prefect_lume.registry.records import RegistryEvent
from prefect_lume.registry.service.base import ServiceBase
from prefect_lume.registry.tables import EventRow

_TOGETHER: Final = 500
_PROMOTIONS: Final = (
    reading.events()
    .where(
        EventRow.deployment_id.in_(bindparam("numbers", expanding=True)),
        EventRow.kind.in_(["deployment.promoted", "deployment.rolled-back"]),
    )
    .order_by(EventRow.event_id)
)


class StandingCalls(ServiceBase):
    """The call of the service that is about how what is live came to be so."""

    def get_promotions(self, deployment_ids: Iterable[int]) -> dict[int, RegistryEvent]:
        """Return the event by which each deployment became live the last time.

        One statement for up to 500 deployments.

        Args:
            deployment_ids: The deployments, live or not.

        Returns:
            Deployment → event. One that never became live, or did so before there was
            a history, is left out.

        Example:
            >>> from prefect_lume.registry import ModelDBService
            >>> from prefect_lume.storage.sql import get_engine
            >>> registry = ModelDBService(get_engine("sqlite://"))
            >>> registry.apply_schema()
            >>> registry.get_promotions([1])
            {}
            >>> registry.close()
        """
        numbers = [fields.integer("deployment_ids", item) for item in deployment_ids]

        def work(connection: Connection) -> dict[int, RegistryEvent]:
            found = {}
            for start in range(0, len(numbers), _TOGETHER):
                asked = {"numbers": numbers[start : start + _TOGETHER]}
                for row in connection.execute(_PROMOTIONS, asked):
                    event = reading.event_record(row)
                    found[event.deployment_id or 0] = event
            return found

        return self._read(work)
