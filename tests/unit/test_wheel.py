"""What users install is the wheel: it holds all that the package needs at run time."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command, **options):
    """Run a command that must succeed, and return what it prints."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=250, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from this tree without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        folder,
        cwd=ROOT,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that holds the wheel's content and nothing of this tree."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_holds_what_is_not_python(wheel):
    """Type marker, migrations, example and licence are in the wheel; tests are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "prefect_lume/py.typed",
        "prefect_lume/migrations/env.py",
        "prefect_lume/migrations/versions/0001_registry_and_results.py",
        "prefect_lume/_examples/injector/pyproject.toml",
        "prefect_lume/_examples/injector/injector.yaml",
        "prefect_lume/_examples/injector/lume_injector/flow.py",
    ):
        assert name in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "scripts/", ".")) for name in names)


def test_wheel_names_its_entry_points_and_extras(installed):
    """Prefect finds the Blocks, the shell finds the command, pip finds the extras."""
    (info,) = installed.glob("*.dist-info")
    points = (info / "entry_points.txt").read_text()
    assert "[prefect.collections]\nprefect_lume = prefect_lume.credentials" in points
    assert "prefect-lume = prefect_lume.cli:main" in points
    metadata = (info / "METADATA").read_text()
    extras = {"arrays", "tables", "files", "demo", "docker", "postgresql"}
    for extra in extras | {"environments", "all"}:
        assert f"Provides-Extra: {extra}\n" in metadata


def test_installed_wheel_runs(installed, tmp_path):
    """From the wheel alone the command line answers and the example is found."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_LUME_HOME": str(tmp_path / "lume"),
    }
    code = (
        "from prefect_lume.cli.demo import example_package; print(example_package());"
        "from prefect_lume.packages import inspect_source;"
        "print(sorted(inspect_source(example_package()).flow_entrypoints))"
    )
    shown = run(sys.executable, "-c", code, cwd=tmp_path, env=environment)
    assert str(installed) in shown
    assert "['analyse', 'generate', 'transport']" in shown
    command = (sys.executable, "-m", "prefect_lume.cli")
    assert "upgrade" in run(*command, "db", "--help", cwd=tmp_path, env=environment)
    made = run(*command, "db", "upgrade", cwd=tmp_path, env=environment)
    assert str(tmp_path / "lume") in made


def test_importing_the_package_loads_nothing_heavy(tmp_path):
    """`import prefect_lume` loads neither Prefect nor a driver nor numpy."""
    code = "import prefect_lume, sys; print(*sys.modules, sep='\\n')"
    loaded = set(run(sys.executable, "-c", code, cwd=tmp_path).split())
    heavy = {"prefect", "numpy", "pandas", "pydantic", "sqlalchemy", "pymongo", "click"}
    assert not loaded & heavy


def test_importing_the_blocks_loads_no_optional_package(tmp_path):
    """What Prefect imports in every process needs the core dependencies only."""
    code = "import prefect_lume.credentials, sys; print(*sys.modules, sep='\\n')"
    loaded = set(run(sys.executable, "-c", code, cwd=tmp_path).split())
    optional = {"numpy", "pandas", "pyarrow", "h5py", "PIL", "matplotlib", "psycopg"}
    assert not loaded & optional
