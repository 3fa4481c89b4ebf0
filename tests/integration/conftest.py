"""What several files of integration tests need."""

import os
import subprocess
import sys
import uuid

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import get_current_settings


@pytest.fixture
def work_pool(prefect_server):
    """A process work pool with a worker of its own."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_server,
        "PREFECT_HOME": str(get_current_settings().home),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", name]
    worker = subprocess.Popen(
        [*command, "--type", "process", "--install-policy", "never"], env=environment
    )
    yield name
    worker.terminate()
    try:
        worker.wait(timeout=120)
    finally:
        # No worker outlives the test, even if it did not listen.
        worker.kill()
