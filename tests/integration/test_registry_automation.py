"""A change of the registry starts what Prefect was told to do about it."""

import re
import time
import uuid
from pathlib import Path

import pytest
import yaml
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

from prefect_lume.config import Context
from prefect_lume.credentials import LumeServices

pytestmark = pytest.mark.service("prefect")

PAGE = Path(__file__).parents[2] / "docs" / "registry.md"
PATIENCE = 200


def documented(model_id, deployment_id):
    """Return the automation that the documentation shows, about other ids."""
    (block,) = re.findall(
        r"```yaml\n(# prefect automation.*?)```", PAGE.read_text(), re.S
    )
    values = yaml.safe_load(block)
    values["name"] += uuid.uuid4().hex
    values["trigger"]["match"] = {
        "prefect.resource.id": f"prefect-lume.model.{model_id}"
    }
    values["actions"][0]["deployment_id"] = deployment_id
    return Automation.model_validate(values)


def test_promoting_runs_a_prefect_deployment(prefect_server, tmp_path):
    """The documented automation runs a flow with the version that became live."""
    registry = Context(LumeServices(home=str(tmp_path))).model_db_service()
    model_id = registry.store_model(
        author="a",
        laboratory="l",
        facility="f",
        beampath="b",
        description=uuid.uuid4().hex,
    )
    version = f"1.0-{uuid.uuid4().hex[:8]}"
    number = registry.store_deployment(
        model_id=model_id,
        version=version,
        source="s",
        sha256="ab" * 32,
        package_import_name="x",
        is_live=False,
    )
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("notify-operators")
        deployment_id = client.create_deployment(
            flow_id=flow_id, name=uuid.uuid4().hex, enforce_parameter_schema=False
        )
        only = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
        automation = documented(model_id, deployment_id).create()
        deadline = time.monotonic() + PATIENCE
        try:
            while not (runs := client.read_flow_runs(deployment_filter=only)):
                assert time.monotonic() < deadline, "the automation did nothing"
                # The server learns of a new automation a while after it is made.
                registry.demote(model_id)
                registry.promote(number)
                time.sleep(2)
        finally:
            automation.delete()
    assert runs[0].parameters == {"version": version}
