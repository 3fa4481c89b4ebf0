"""What an operator applies to a server: Blocks as code and deployable flows."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from prefect_lume import LumeServices
from prefect_lume.config import configure, open_context

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script of the Blocks, as a module."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    configure()
    path = ROOT / "blocks" / "lume_services.py"
    spec = importlib.util.spec_from_file_location("lume_services_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_blocks_are_built_from_the_environment(script, monkeypatch):
    """Each variable is a field of a Block; what is not set stays embedded."""
    monkeypatch.setenv("LUME_REGISTRY_HOST", "db.example")
    monkeypatch.setenv("LUME_REGISTRY_PORT", "3307")
    monkeypatch.setenv("LUME_REGISTRY_USERNAME", "lume")
    monkeypatch.setenv("LUME_REGISTRY_PASSWORD", "p@ss")
    monkeypatch.setenv("LUME_RESULTS_URI", "mongodb://u:pw@mongo.example/beams")
    services = script.build()
    assert services.registry.get_url().port == 3307
    assert services.registry.password.get_secret_value() == "p@ss"
    assert services.results_mongodb.database_name == "beams"
    assert services.results_sql is None


def test_blocks_are_saved_and_found_by_name(script, monkeypatch, capsys):
    """Running the script saves the Blocks, and tries each service once."""
    monkeypatch.setenv("LUME_BLOCK_NAME", "operators")
    monkeypatch.setattr(sys, "argv", ["lume_services.py"])
    assert script.main() == 0
    assert "saved LumeServices 'operators'" in capsys.readouterr().out
    assert isinstance(LumeServices.load("operators"), LumeServices)
    assert open_context("operators").services.registry is None


def test_dry_run_saves_nothing(script, monkeypatch, capsys):
    """With --dry-run nothing is saved, and a dead service is status 1."""
    monkeypatch.setenv("LUME_BLOCK_NAME", "never-saved")
    monkeypatch.setenv("LUME_REGISTRY_HOST", "127.0.0.1")
    monkeypatch.setenv("LUME_REGISTRY_PORT", "1")
    monkeypatch.setenv("LUME_REGISTRY_USERNAME", "lume")
    monkeypatch.setenv("LUME_REGISTRY_PASSWORD", "hunter2")
    monkeypatch.setattr(sys, "argv", ["lume_services.py", "--dry-run"])
    assert script.main() == 1
    shown = capsys.readouterr().out
    assert "refused" in shown
    assert "hunter2" not in shown
    with pytest.raises(ValueError, match="never-saved"):
        LumeServices.load("never-saved")


def deployments():
    """The deployments that prefect.yaml lists."""
    return yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("entry", deployments(), ids=lambda entry: entry["entrypoint"])
def test_what_prefect_yaml_lists_can_be_loaded(entry, monkeypatch):
    """Each entry point of prefect.yaml is a flow with documented parameters."""
    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint(entry["entrypoint"])
    properties = flow.parameters.properties
    assert properties
    assert all(item.get("description") for item in properties.values())
