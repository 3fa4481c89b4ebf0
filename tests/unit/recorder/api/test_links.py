"""Flow runs find the registry's project and deployment."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prefect_lume.errors import ConnectionFailedError, StorageError
from prefect_lume.recorder.api.links import DeploymentLinks, deployment_in
from prefect_lume.registry import ModelDBService
from prefect_lume.storage.sql import get_engine

FLOW = "7bb8e76a-517c-4fbc-a910-e129f207c0a7"


class Context:
    """A context with a registry of one flow, which counts how often it is asked."""

    def __init__(self) -> None:
        self.registry = ModelDBService(get_engine("sqlite://"))
        self.registry.apply_schema()
        model = self.registry.store_model(
            author="a",
            laboratory="slac",
            facility="lcls",
            beampath="b",
            description="m",
        )
        self.registry.store_project("injectors")
        self.deployment = self.registry.store_deployment(
            model_id=model,
            version="1.0",
            source="file:///injector-1.0.tar.gz",
            sha256="0" * 64,
            package_import_name="injector",
        )
        self.registry.store_flow(
            flow_id=FLOW,
            flow_name="scan",
            project_name="injectors",
            deployment_id=self.deployment,
        )
        self.asked = 0
        self.error: Exception | None = None

    def model_db_service(self) -> ModelDBService:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.registry


def a_run(**changed: Any) -> dict[str, Any]:
    """Return a flow run as Prefect's API gives it, as far as it is used."""
    return {"created": datetime.now(UTC).isoformat(), **changed}


@pytest.fixture
def context() -> Context:
    """The context of a test."""
    return Context()


def test_a_registered_flow_has_its_project_and_deployment(context: Context) -> None:
    """Without anything else, the deployment that serves the flow is taken."""
    link = DeploymentLinks(context).link(a_run(), FLOW)
    assert link == ("injectors", context.deployment)


def test_the_environment_of_the_infrastructure_wins(context: Context) -> None:
    """The first job variables that name a deployment do, the run's before the rest."""
    links = DeploymentLinks(context)
    own, shared = ({"env": {"PREFECT_LUME_DEPLOYMENT_ID": id_}} for id_ in ("7", "8"))
    assert links.link(a_run(), FLOW, own, shared) == ("injectors", 7)
    assert links.link(a_run(), FLOW, {"image": "x"}, shared) == ("injectors", 8)
    assert links.link(a_run(), "another flow", None, own) == (None, 7)


def test_an_unregistered_flow_has_no_link(context: Context) -> None:
    """Most flows of a server are not registered: that is no error."""
    assert DeploymentLinks(context).link(a_run(), "another") == (None, None)
    assert DeploymentLinks(context).link(a_run(), None) == (None, None)


def test_a_deployment_that_was_registered_later_did_not_run(context: Context) -> None:
    """A run of last year is not given the deployment that serves its flow today."""
    year_ago = (datetime.now(UTC) - timedelta(days=365)).isoformat()
    link = DeploymentLinks(context).link(a_run(created=year_ago), FLOW)
    assert link == ("injectors", None)


def test_the_registry_is_asked_once_for_many_runs(context: Context) -> None:
    """An answer is kept for a while, whether there is such a flow or not."""
    links = DeploymentLinks(context)
    for flow_id in (FLOW, "another"):
        for _ in range(5):
            links.link(a_run(), flow_id)
    assert context.asked == 2


def test_an_answer_is_not_kept_for_long(context: Context) -> None:
    """A flow that is registered later is found after a while."""
    links = DeploymentLinks(context, keep_for=0.0)
    assert links.link(a_run(), "new") == (None, None)
    context.registry.store_flow(
        flow_id="new", flow_name="new", project_name="injectors"
    )
    assert links.link(a_run(), "new") == ("injectors", None)


def test_no_more_flows_than_asked_for_are_kept(context: Context) -> None:
    """The oldest answer makes room for a new one."""
    links = DeploymentLinks(context, size=2)
    for flow_id in ("a", "b", "c", "a"):
        links.link(a_run(), flow_id)
    assert context.asked == 4


def test_a_registry_that_is_down_costs_the_link_and_one_warning(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    """Recording goes on without links, says so once, and links again later."""
    links = DeploymentLinks(context, keep_for=0.0)
    context.error = ConnectionFailedError("refused", "mysql://lume@db")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert links.link(a_run(), FLOW) == (None, None)
    assert len(caplog.records) == 1
    assert "refused" in caplog.text
    context.error = None
    assert links.link(a_run(), FLOW) == ("injectors", context.deployment)


def test_a_registry_that_is_down_can_be_an_error(context: Context) -> None:
    """Whoever must not lose a link is told that there is none to be had."""
    context.error = ConnectionFailedError("refused", "mysql://lume@db")
    with pytest.raises(StorageError, match="refused"):
        DeploymentLinks(context, strict=True).link(a_run(), FLOW)


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"env": {"PREFECT_LUME_DEPLOYMENT_ID": 12}}, 12),
        ({"env": {"PREFECT_LUME_DEPLOYMENT_ID": " 12 "}}, 12),
        ({"env": {"PREFECT_LUME_DEPLOYMENT_ID": "twelve"}}, None),
        ({"env": {"PREFECT_LUME_DEPLOYMENT_ID": "-1"}}, None),
        ({"env": {"PREFECT_LUME_DEPLOYMENT_ID": "१२"}}, None),
        ({"env": {"PREFECT_LUME_DEPLOYMENT_ID": ""}}, None),
        ({"env": ["PREFECT_LUME_DEPLOYMENT_ID=12"]}, None),
        ({"env": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_deployments_in_job_variables(variables: Any, found: int | None) -> None:
    """A number is one, and whatever else stands there is not."""
    assert deployment_in(variables) == found
