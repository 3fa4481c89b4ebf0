"""Which of the registry's deployments a flow run belongs to."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from prefect_lume.errors import LumeError, NotFoundError, StorageError, clip

if TYPE_CHECKING:
    from prefect_lume.registry import FlowRecord, ModelDBService

logger = logging.getLogger(__name__)

#: The environment variable that says whose code a process runs.
DEPLOYMENT_VARIABLE: Final = "PREFECT_LUME_DEPLOYMENT_ID"
#: How far the clocks of the registry's and of Prefect's server may be apart.
CLOCKS: Final = timedelta(minutes=1)

Link = tuple[str | None, int | None]


class HasRegistry(Protocol):
    """What a context is here."""

    def model_db_service(self) -> ModelDBService:
        """Return the model registry's service."""


class DeploymentLinks:
    """Finds the registry's project and deployment of flow runs.

    What the registry says of a flow is kept in mind for a while, as many runs of one
    flow come one after the other. It may be shared between threads.

    Args:
        context: Whose registry to ask.
        strict: Raise when the registry cannot be asked. Otherwise the links are
            unknown, and the log says so once until it can be asked again.
        keep_for: Seconds for which an answer is kept.
        size: How many flows are kept in mind.
    """

    def __init__(
        self,
        context: HasRegistry,
        *,
        strict: bool = False,
        keep_for: float = 30.0,
        size: int = 1024,
    ) -> None:
        self._context = context
        self._strict = strict
        self._keep_for = keep_for
        self._size = size
        self._lock = threading.Lock()
        self._flows: OrderedDict[str, tuple[float, FlowRecord | None]] = OrderedDict()
        self._warned = False

    def link(
        self,
        flow_run: Mapping[str, Any],
        flow_id: str | None,
        *job_variables: Mapping[str, Any] | None,
    ) -> Link:
        """Return project and deployment of a flow run, as far as they are known.

        The deployment is what ``PREFECT_LUME_DEPLOYMENT_ID`` says in the environment of
        the run's infrastructure. Without it, it is the one that serves the flow, unless
        that was registered only after the run was made.

        Args:
            flow_run: The flow run as Prefect's API gives it, of which ``created`` is
                used.
            flow_id: Prefect's id of the flow.
            *job_variables: Job variables, those that win first: the run's, and those of
                its Prefect deployment.

        Raises:
            StorageError: The registry could not be asked, and ``strict`` is set.
        """
        flow = self._flow(flow_id) if flow_id else None
        project = flow.project_name if flow else None
        for variables in job_variables:
            told = deployment_in(variables)
            if told is not None:
                return project, told
        if flow is None or flow.deployment is None:
            return project, None
        created = flow_run.get("created")
        if created and datetime.fromisoformat(created) + CLOCKS < _utc(
            flow.deployment.deploy_date
        ):
            return project, None
        return project, flow.deployment_id

    def _flow(self, flow_id: str) -> FlowRecord | None:
        now = time.monotonic()
        with self._lock:
            at, flow = self._flows.get(flow_id, (0.0, None))
            if at and now - at < self._keep_for:
                return flow
        flow = self._ask(flow_id)
        with self._lock:
            self._flows[flow_id] = now, flow
            self._flows.move_to_end(flow_id)
            while len(self._flows) > self._size:
                self._flows.popitem(last=False)
        return flow

    def _ask(self, flow_id: str) -> FlowRecord | None:
        try:
            flow = self._context.model_db_service().get_flow(flow_id=flow_id)
        except NotFoundError:
            flow = None
        except LumeError as error:
            if self._strict:
                if isinstance(error, StorageError):
                    raise
                raise StorageError(f"The registry cannot be asked: {error}") from error
            if not self._warned:
                self._warned = True
                logger.warning(
                    "Runs are recorded without the registry's project and deployment: "
                    "it cannot be asked. %s",
                    clip(error),
                )
            return None
        self._warned = False
        return flow


def deployment_in(job_variables: Mapping[str, Any] | None) -> int | None:
    """Return the registry's deployment that job variables name, if they do.

    Example:
        >>> deployment_in({"env": {"PREFECT_LUME_DEPLOYMENT_ID": "7"}})
        7
        >>> deployment_in({"image": "injector:1"}) is None
        True
    """
    env = (job_variables or {}).get("env")
    told = env.get(DEPLOYMENT_VARIABLE) if isinstance(env, Mapping) else None
    text = str(told).strip() if told is not None else ""
    return int(text) if text.isascii() and text.isdecimal() else None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
