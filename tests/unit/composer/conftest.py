"""A Prefect API of the tests' own, and small flows to chain."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

FLOWS = Path(__file__).parents[2] / "composer_flows"


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """A temporary Prefect server on SQLite."""
    slow = {PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120}
    with temporary_settings(slow), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def flows() -> ModuleType:
    """The module of small flows, imported as a user's would be."""
    if str(FLOWS) not in sys.path:
        sys.path.insert(0, str(FLOWS))
    return importlib.import_module("lume_chain_flows")


@pytest.fixture(scope="session")
def mapped() -> Callable[..., dict[str, Any]]:
    """Say where a parameter comes from: subflow, task, way, and more."""

    def make(flow: str, task: str | None = None, how: str = "raw", **more: Any) -> Any:
        return {
            "parent_flow_name": flow,
            "parent_task_name": task,
            "map_type": how,
            **more,
        }

    return make


@pytest.fixture(scope="session")
def outcomes() -> Callable[[dict[str, str]], dict[str, Any]]:
    """Subflow → flow run id, turned into subflow → what its flow returned."""

    def read(runs: dict[str, str]) -> dict[str, Any]:
        with get_client(sync_client=True) as client:
            return {
                name: client.read_flow_run(run_id).state.result()
                for name, run_id in runs.items()
            }

    return read
