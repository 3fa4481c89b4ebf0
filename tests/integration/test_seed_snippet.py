"""The snippet of the Model Service's documentation, with the package's name changed."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from prefect_lume import config
from prefect_lume.models import Model
from prefect_lume.packages.building import build_sdist

PROBE = Path(__file__).parents[1] / "model_packages" / "lume_probe"
#: Word for word, from `docs/services/model_service.md` of LUME-services.
SNIPPET = """
from lume_services.models import Model
from lume_services import config
config.configure()


model = Model.create_model(
    author = "Jackie Garrahan",
    laboratory = "slac",
    facility = "lcls",
    beampath = "cu_hxr",
    description = "test_model"
)


model_db_service = config.context.model_db_service()
scheduling_service = config.context.scheduling_service()


# create a project
project_name = model_db_service.store_project(
    project_name="test", description="my_description"
)
scheduling_service.create_project("test")


source_path = "https://github.com/jacquelinegarrahan/my-model/releases/download/v0.0.44/my_model-0.0.44.tar.gz"
# populates local channel
model.store_deployment(source_path, project_name="test")
"""
ADDRESS = SNIPPET.partition('source_path = "')[2].partition('"')[0]
#: Where a release page leads to.
STORE = "https://objects.example.org/my_model-0.0.44.tar.gz?signature=s3cret"


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The release, at its address in the snippet; all other addresses are real."""
    folder = tmp_path / "my-model"
    shutil.copytree(PROBE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "lume_probe").rename(folder / "my_model")
    for path in (folder / "pyproject.toml", folder / "my_model" / "flow.py"):
        text = path.read_text().replace("lume_probe", "my_model")
        path.write_text(text.replace('"1.0"', '"0.0.44"'))
    archive = build_sdist(folder, tmp_path / "release").read_bytes()
    real = httpx.HTTPTransport.handle_request

    def handle(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if str(request.url) == ADDRESS:
            return httpx.Response(302, headers={"Location": STORE})
        if str(request.url) == STORE:
            return httpx.Response(200, stream=httpx.ByteStream(archive))
        return real(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    return archive


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where `config.configure()` finds the embedded services."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    config.configure()
    yield tmp_path / "home"
    monkeypatch.undo()
    config.configure()


@pytest.mark.service("prefect")
@pytest.mark.usefixtures("prefect_server")
def test_the_snippet_runs(web: bytes, home: Path) -> None:
    """As it stands, twice; and what it registered is there, from that source."""
    code = compile(
        SNIPPET.replace("lume_services", "prefect_lume"), "snippet.py", "exec"
    )
    for _ in range(2):
        exec(code, {"__name__": "__main__"})
    registry = config.context.model_db_service()
    assert registry.get_project("test").description == "my_description"
    model = Model.get_model(author="Jackie Garrahan", description="test_model")
    (deployment,) = model.deployments
    assert deployment == model.live
    assert (deployment.version, deployment.package_import_name) == (
        "0.0.44",
        "my_model",
    )
    assert {flow.project_name for flow in deployment.flows} == {"test"}
    assert deployment.source == ADDRESS
    assert deployment.sha256 == hashlib.sha256(web).hexdigest()
    model.load_deployment("0.0.44", load_artifacts=True)
    imported = importlib.import_module("my_model")
    assert imported.__file__
    assert Path(imported.__file__).is_relative_to(home)
