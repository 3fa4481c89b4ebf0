"""Models as objects, and the tasks that register them."""

import shutil
from pathlib import Path

import pytest
from prefect import flow

from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import (
    AmbiguousError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PackageError,
)
from prefect_lume.models import Model
from prefect_lume.tasks import register_deployment, register_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "injector"
FIELDS = {
    "author": "Jackie Garrahan",
    "laboratory": "slac",
    "facility": "lcls",
    "beampath": "cu_hxr",
    "description": "test_model",
}


@pytest.fixture
def services(tmp_path):
    """Embedded services in a folder of their own, with a project."""
    services = LumeServices(home=str(tmp_path / "lume"))
    open_context(services).scheduling_service().create_project("test", "described")
    return services


@pytest.fixture
def package(tmp_path):
    """A copy of the example package, to be changed."""
    folder = tmp_path / "injector"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def model(services):
    """A registered model."""
    return Model.create_model(**FIELDS, services=services)


def bump(package, version):
    """Give a package another version."""
    path = package / "pyproject.toml"
    path.write_text(path.read_text().replace('"0.1.0"', f'"{version}"', 1))


def test_a_model_is_created_once(services, model):
    """The same five fields are the same model; another description is another one."""
    again = Model.create_model(**FIELDS, services=services)
    other = Model.create_model(**{**FIELDS, "description": "b"}, services=services)
    assert again.model_id == model.model_id != other.model_id
    assert Model.get_model(services, description="b").model_id == other.model_id


def test_get_model_says_what_is_wrong(services, model):
    """No match, several matches and unknown keywords are told apart."""
    Model.create_model(**{**FIELDS, "description": "b"}, services=services)
    with pytest.raises(NotFoundError):
        Model.get_model(services, description="c")
    with pytest.raises(AmbiguousError):
        Model.get_model(services, author="Jackie Garrahan")
    with pytest.raises(InvalidInputError, match="description"):
        Model.get_model(services, descripton="b")


def test_a_folder_becomes_an_immutable_deployment(services, model, package):
    """A folder is packed; changing it afterwards does not change the deployment."""
    deployment = model.store_deployment(package, "test")
    assert deployment.version == "0.1.0"
    assert deployment.is_live
    assert deployment.image == "lume-injector:0.1.0"
    assert deployment.package_import_name == "lume_injector"
    assert set(deployment.entrypoints) == {"generate", "transport", "analyse"}
    kept = Path(deployment.source.removeprefix("file://"))
    before = kept.read_bytes()
    (package / "lume_injector" / "flow.py").write_text("broken = True\n")
    assert kept.read_bytes() == before
    assert model.deployments == (deployment,)
    assert model.live == deployment


def test_storing_the_same_package_again_returns_the_first(model, package):
    """The same content is the same deployment; other content is a conflict."""
    first = model.store_deployment(package, "test")
    assert model.store_deployment(package, "test") == first
    (package / "README.md").write_text("changed")
    with pytest.raises(ConflictError, match=r"0\.1\.0"):
        model.store_deployment(package, "test")
    assert model.deployments == (first,)


def test_flows_follow_the_live_deployment(services, model, package):
    """A newer live version serves the flows; one that is not live leaves them."""
    registry = open_context(services).model_db_service()

    def serving():
        return {
            flow.deployment.version for flow in registry.get_flows(project_name="test")
        }

    model.store_deployment(package, "test")
    bump(package, "0.2.0")
    model.store_deployment(package, "test", is_live=False)
    assert serving() == {"0.1.0"}
    bump_from = (package / "pyproject.toml").read_text()
    (package / "pyproject.toml").write_text(bump_from.replace("0.2.0", "0.3.0"))
    model.store_deployment(package, "test")
    assert serving() == {"0.3.0"}
    assert model.live.version == "0.3.0"


def test_a_package_without_flows_is_refused(services, model, package):
    """A package that offers no flow says how to offer one; nothing is registered."""
    (package / "lume_injector" / "flow.py").write_text('"""Nothing here."""\n')
    with pytest.raises(PackageError, match="flow"):
        model.store_deployment(package, "test")
    assert model.deployments == ()


def test_tasks_register_in_a_flow(services, package):
    """register_model and register_deployment do the same from a flow."""

    @flow(name="registering")
    def registering():
        model_id = register_model(**FIELDS, services=services)
        return register_deployment(
            str(package),
            model_id,
            "fresh",
            project_description="made by the task",
            description="as measured",
            tags={"stage": "test"},
            aliases=["candidate"],
            reason="first",
            services=services,
        )

    deployment_id = registering()
    registry = open_context(services).model_db_service()
    assert registry.get_project("fresh").description == "made by the task"
    deployment = registry.get_deployment(deployment_id=deployment_id)
    assert deployment.model.author == "Jackie Garrahan"
    assert deployment.description == "as measured"
    assert deployment.tags == {"stage": "test"}
    assert deployment.aliases == ("candidate",)
    (event,) = registry.get_history(
        deployment_id=deployment_id, kind="deployment.stored"
    )
    assert event.reason == "first"
    assert {flow.flow_name for flow in registry.get_flows(project_name="fresh")} == {
        "generate",
        "transport",
        "analyse",
    }


def test_registering_for_an_unknown_model_names_it(services, package):
    """A model id that does not exist is not found, and no project is made."""
    with pytest.raises(NotFoundError, match="404"):
        register_deployment.fn(str(package), 404, "never", services=services)
    with pytest.raises(NotFoundError):
        open_context(services).model_db_service().get_project("never")
