"""A change of the registry starts what Prefect was told to do about it."""

import time
import uuid

import pytest
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
)
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture

from prefect_lume.config import Context
from prefect_lume.credentials import LumeServices

pytestmark = pytest.mark.service("prefect")

PATIENCE = 120


def test_promoting_runs_a_prefect_deployment(prefect_server, tmp_path):
    """An automation on the event of a promotion runs a flow with the new version."""
    registry = Context(LumeServices(home=str(tmp_path))).model_db_service()
    model_id = registry.store_model(
        author="a",
        laboratory="l",
        facility="f",
        beampath="b",
        description=uuid.uuid4().hex,
    )
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("notify-operators")
        deployment_id = client.create_deployment(
            flow_id=flow_id, name=uuid.uuid4().hex, enforce_parameter_schema=False
        )
        subject = f"prefect-lume.model.{model_id}"
        automation = Automation(
            name=f"tell of {uuid.uuid4().hex}",
            trigger=EventTrigger(
                expect={"prefect-lume.deployment.promoted"},
                match={"prefect.resource.id": subject},
                match_related={},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=deployment_id,
                    parameters={
                        "version": {
                            "__prefect_kind": "jinja",
                            "template": "{{ event.payload.after.version }}",
                        }
                    },
                )
            ],
        ).create()
        version = f"1.0-{uuid.uuid4().hex[:8]}"
        deadline = time.monotonic() + PATIENCE
        only = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
        runs = []
        try:
            number = registry.store_deployment(
                model_id=model_id,
                version=version,
                source="s",
                sha256="ab" * 32,
                package_import_name="x",
            )
            # The server learns of a new automation a moment after it is made.
            while not runs:
                assert time.monotonic() < deadline, "the automation did nothing"
                time.sleep(1)
                runs = client.read_flow_runs(deployment_filter=only)
                if not runs:
                    registry.demote(model_id)
                    registry.promote(number)
        finally:
            automation.delete()
        assert runs[0].parameters == {"version": version}
