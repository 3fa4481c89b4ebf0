"""The compose file, tests/README.md, the plugin and CI agree with each other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TESTS_README = (ROOT / "tests" / "README.md").read_text("utf-8")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
COMPOSE_NAME = {
    "mysql": "mysql",
    "mariadb": "mariadb",
    "postgresql": "postgres",
    "mongodb": "mongo",
    "prefect": "prefect",
}


def with_defaults(text: str) -> str:
    """Fill in the compose file's `${NAME:-default}`."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture
def plugin():
    """The plugin as this session loaded it."""
    return sys.modules["lume_service_plugin"]


def test_every_variable_of_the_plugin_is_exported_in_the_readme(plugin) -> None:
    """The Docker recipe of tests/README.md sets exactly what the fixtures read."""
    exported = re.findall(r"^export (\w+)=", TESTS_README, re.MULTILINE)
    assert sorted(exported) == sorted(plugin.VARIABLES.values())


def test_every_fixture_is_in_the_readme_with_its_variable(plugin) -> None:
    """The table of tests/README.md is the plugin's own list."""
    rows = re.findall(r"^\| `(\w+)` \| `(LUME_TEST_\w+)`", TESTS_README, re.MULTILINE)
    expected = {name: plugin.VARIABLES[s] for name, s in plugin.FIXTURES.items()}
    assert dict(rows) == expected


@pytest.mark.parametrize("service", COMPOSE_NAME)
def test_urls_of_the_readme_lead_to_the_compose_services(plugin, service: str) -> None:
    """Port and password of each documented URL are the compose file's defaults."""
    line = rf"^export {plugin.VARIABLES[service]}='?([^'\n]+)"
    match = re.search(line, TESTS_README, re.MULTILINE)
    assert match is not None
    url = urlsplit(match[1])
    entry = COMPOSE["services"][COMPOSE_NAME[service]]
    assert url.hostname == "127.0.0.1"
    assert [with_defaults(port).rpartition(":")[0] for port in entry["ports"]] == [
        f"127.0.0.1:{url.port}"
    ]
    if url.password:
        passwords = [with_defaults(v) for v in entry["environment"].values()]
        assert url.password in passwords


def test_compose_services_are_healthy_pinned_and_local() -> None:
    """Each has a health check and a pinned image, and none listens to the network."""
    for name, entry in COMPOSE["services"].items():
        assert entry["healthcheck"]["test"], name
        assert re.search(r":\d[\w.-]*$", entry["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in entry.get("ports", ()))
        for volume in entry.get("volumes", ()):
            assert volume.split(":")[0] in COMPOSE["volumes"], name


def test_variables_of_the_compose_file_are_in_the_readme() -> None:
    """Whatever can be set for the compose file is documented."""
    used = set(re.findall(r"\$\{(LUME_\w+)", COMPOSE_TEXT))
    assert used
    assert {name for name in used if f"`{name}`" not in TESTS_README} == set()


def test_variables_of_the_readme_exist() -> None:
    """tests/README.md names no variable that nothing reads."""
    sources = [ROOT / "docker-compose.yml", ROOT / "tests/plugins/services.py"]
    sources += sorted((ROOT / "scripts/_services").glob("*.py"))
    read = "\n".join(path.read_text("utf-8") for path in sources)
    named = set(re.findall(r"\bLUME_\w+[A-Z]\b", TESTS_README))
    assert {name for name in named if name not in read} == set()


def test_services_script_exports_what_the_fixtures_read(plugin, tmp_path: Path) -> None:
    """`scripts/services` knows a server for every variable, and says how to use it."""
    env = {**os.environ, "LUME_SERVICES_CACHE": str(tmp_path)}

    def services(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "scripts/services"), *arguments],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    status = services("status", "--json")
    assert status.returncode == 1  # None of them runs from an empty cache folder.
    variables = {row["variable"] for row in json.loads(status.stdout)["services"]}
    assert variables - {None} == set(plugin.VARIABLES.values())
    unknown = services("stop", "oracle")
    assert unknown.returncode == 1
    assert "unknown: oracle; known are documentdb, mysql" in unknown.stderr


def test_ci_runs_the_readme_command() -> None:
    """README.md marks one test command, of the form that `.ci/run` takes apart."""
    readme = (ROOT / "README.md").read_text("utf-8")
    block = re.search(
        r"^<!-- test-command -->\n+```\w*\n(?P<line>[^\n]+)\n```$", readme, re.MULTILINE
    )
    assert block is not None
    set_up, _, run = block["line"].rpartition(" && ")
    assert run.endswith("pytest")
    assert "venv" in set_up
