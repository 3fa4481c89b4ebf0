"""The registry's commands through a stored Block, on real servers, and its page."""

from __future__ import annotations

import json
import uuid

import pytest
from click.testing import CliRunner
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from sqlalchemy.engine import make_url

from prefect_lume import migrations
from prefect_lume.cli._main import cli
from prefect_lume.credentials import LumeServices, MySQLCredentials
from prefect_lume.tasks import publish_registry


@pytest.fixture(params=["mariadb", "postgresql"])
def services(request, prefect_server, tmp_path, monkeypatch):
    """The name of a stored Block whose registry is on a server."""
    url = make_url(request.getfixturevalue(f"{request.param}_url"))
    credentials = MySQLCredentials(
        driver=url.drivername,
        host=url.host,
        port=url.port,
        username=url.username,
        password=url.password,
        database=url.database,
    )
    migrations.upgrade(credentials.get_engine())
    name = f"registry-cli-{uuid.uuid4().hex[:8]}"
    LumeServices(registry=credentials, home=str(tmp_path)).save(name)
    monkeypatch.setenv("PREFECT_LUME_ACTOR", "the shift")
    monkeypatch.setenv("COLUMNS", "100")
    return name


@pytest.fixture
def package(tmp_path):
    """Two versions of a model package with one flow."""
    name = f"lume_cli_{uuid.uuid4().hex[:8]}"

    def version(text):
        root = tmp_path / text
        (root / name).mkdir(parents=True)
        (root / "environment.yml").write_text("dependencies: [python]\n")
        (root / "pyproject.toml").write_text(
            f'[project]\nname = "{name}"\nversion = "{text}"\n'
            f"[project.entry-points.orchestration]\n"
            f'"{name}.flow" = "{name}.flow"\n'
        )
        (root / name / "__init__.py").write_text("")
        (root / name / "flow.py").write_text(
            f"from prefect import flow\n@flow(name='{name}')\ndef track() -> int:\n"
            "    return 2\n"
        )
        return root

    return name, version


def test_a_model_is_registered_promoted_rolled_back_and_shown_in_the_ui(
    services, package
):
    """From `models create` to the page in Prefect's UI, as an operator goes."""
    flow_name, version = package

    def run(*arguments, status=0):
        words = [*map(str, arguments), "--services", services]
        outcome = CliRunner().invoke(cli, words)
        assert outcome.exit_code == status, outcome.output
        return outcome

    def found(*arguments):
        return json.loads(run(*arguments, "--json").stdout)

    fields = ["--author=É. Modeller", "--laboratory=slac", "--facility=lcls"]
    run("models", "create", *fields, "--beampath=cu_hxr", "--description=Injector")
    run("projects", "create", "linac")
    create = ["deployments", "create", "Injector"]
    run(*create, version("1.0"), "--project", "linac")
    refused = run(*create, version("2.0"), "--project", "linac", status=1)
    assert "in place of" in refused.stderr
    run(*create, version("2.1"), "--project", "linac", "--not-live")
    newest = found("deployments", "show", "Injector@latest")["version"]

    tried = found("deployments", "promote", f"Injector/{newest}", "--dry-run")
    assert tried["flows"] == [f"linac/{flow_name}"]
    assert found("deployments", "show", "Injector@live")["version"] == "1.0"
    promote = ["deployments", "promote", f"Injector/{newest}"]
    told = run(*promote, "--yes", "--reason", "reviewed").stdout
    assert "by the shift: reviewed" in told
    served = found("flows", "show", flow_name)["deployment"]["version"]
    assert served == newest
    run("deployments", "alias", "Injector/1.0", "2026-beamtime")
    run("deployments", "rollback", "Injector", "--yes", "--reason", "diverges")
    kinds = [event["kind"] for event in found("models", "history", "Injector")]
    assert kinds[0] == "deployment.rolled-back"
    assert "● live" in run("deployments", "list", "alias = '2026-beamtime'").stdout

    @flow(name="registry-page")
    def registry_page():
        publish_registry(services=services)

    state = registry_page(return_state=True)
    state.result()
    run_id = state.state_details.flow_run_id
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(artifact_filter=wanted)
    assert (artifact.key, artifact.type) == ("lume-registry", "markdown")
    assert "### Injector · 1.0" in artifact.data
    assert "by the shift: diverges" in artifact.data
    report = run("models", "report").stdout
    assert report.splitlines()[1:] == artifact.data.splitlines()[1:]
