"""What the tests of tasks share: flow runs that end as soon as they are done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings


@pytest.fixture(autouse=True, scope="module")
def no_heartbeat() -> Iterator[None]:
    """Prefect waits up to a second for each run's heartbeat thread: start none."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
