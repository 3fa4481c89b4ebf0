"""The demo, as a person runs it: no server, no setting, no file prepared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)


def demo(home, *arguments):
    """Run `prefect-lume demo` in a process of its own, on an empty Prefect home."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "LUME_"))
    }
    environment |= {"PREFECT_HOME": str(home), "COLUMNS": "100", "DO_NOT_TRACK": "1"}
    return subprocess.run(
        [sys.executable, "-m", "prefect_lume.cli", "demo", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def test_demo_twice(tmp_path):
    """It shows graph, places, provenance and plots; again, it adds and changes none."""
    first = demo(tmp_path, "--n-particle", "500")
    assert first.returncode == 0, first.stderr
    for words in (
        "2 at the same time",
        "archive ◀─file──",
        "Where everything lies",
        "lume.db (embedded SQLite",
        "Stored results",
        "analyse_x",
        "· 0.1.0",
        "norm_emit",
    ):
        assert words in first.stdout
    for step in ("Registering the model", "Running transport", "Running analyse_y"):
        assert f"✓ {step}" in first.stderr
    plots = [Path(line) for line in first.stdout.splitlines() if line.endswith(".png")]
    assert len(plots) == 2
    before = {path: path.read_bytes() for path in plots}
    assert all(data.startswith(b"\x89PNG") for data in before.values())

    second = demo(tmp_path, "--n-particle", "500", "--json")
    assert second.returncode == 0, second.stderr
    report = json.loads(second.stdout)
    assert len(report["results"]) == 6
    assert {row["version"] for row in report["results"]} == {"0.1.0"}
    assert len({row["sha256"] for row in report["results"]}) == 1
    assert len({row["flow_run_id"] for row in report["results"]}) == 6
    assert not set(report["plots"]) & {str(path) for path in plots}
    assert all(path.read_bytes() == data for path, data in before.items())


def test_demo_without_the_packages_it_needs_says_which(tmp_path):
    """A bare installation is told the extra, before anything is made."""
    code = (
        "import sys; sys.modules['beamphysics'] = None\n"
        "from prefect_lume.cli import main; sys.argv = ['prefect-lume', 'demo']; main()"
    )
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "home")}
    environment.pop("PREFECT_LUME_HOME", None)
    outcome = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert outcome.returncode == 1
    assert "pip install 'prefect-lume[demo]'" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "home" / "lume").exists()
