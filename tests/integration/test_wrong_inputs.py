"""Wrong inputs end in a clear error that names item and remedy; nothing is left."""

import socket
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.exceptions import ParameterTypeError
from pydantic import SecretStr
from sqlalchemy import make_url

from prefect_lume import (
    FlowOfFlows,
    LumeServices,
    Model,
    MongoDBCredentials,
    MySQLCredentials,
)
from prefect_lume.config import open_context
from prefect_lume.errors import (
    AuthenticationError,
    CompositionError,
    ConnectionFailedError,
    EncodingError,
    NotFoundError,
    PackageError,
)
from prefect_lume.tasks import save_file, store_result

YAML = """\
name: chain
project_name: test
composing_flows:
  - name: first
    position: {first}
  - name: {name}
    position: {second}
    mapped_parameters:
      {parameter}:
        parent_flow_name: first
        parent_task_name: {task}
        map_type: {map_type}
"""
RIGHT = {
    "first": 1,
    "second": 2,
    "name": "second",
    "parameter": "value",
    "task": "three",
    "map_type": "raw",
}


@task
def three() -> int:
    """Return a number."""
    return 3


@flow
def first(n: int = 2) -> int:
    """Run one task."""
    return three() + n


@flow
def second(value: int, unit: str = "mm") -> str:
    """Use its result."""
    return f"{value} {unit}"


@pytest.fixture
def services(tmp_path):
    """Embedded services in a folder of their own."""
    return LumeServices(home=str(tmp_path / "lume"))


def everything(folder):
    """Return every file below a folder with its content, but for databases."""
    return {
        path: path.read_bytes() if path.suffix != ".db" else b""
        for path in Path(folder).rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
    }


def composed(services, **changes):
    """Compose the chain with something changed."""
    text = YAML.format(**{**RIGHT, **changes})
    flows = {"first": first, "second": second}
    return FlowOfFlows.from_yaml(text, flows=flows, services=services).compose()


def test_the_unchanged_chain_composes(services):
    """Without a change nothing is wrong: each error below is of its change."""
    assert composed(services).name == "chain"


@pytest.mark.parametrize(
    ("changes", "line", "words"),
    [
        ({"name": "secnd"}, 6, ["'secnd'", "Did you mean 'second'", "Register"]),
        ({"parameter": "vlue"}, 9, ["'vlue'", "Did you mean 'value'"]),
        ({"task": "thre"}, 11, ["'thre'", "Did you mean 'three'"]),
        ({"first": 3}, 10, ["'first'", "position"]),
        ({"map_type": "file"}, 9, ["FileReference", "map_type"]),
        ({"map_type": "rawest"}, 12, ["'rawest'", "'raw', 'file' or 'db'"]),
    ],
    ids=["subflow", "parameter", "task", "later-position", "type", "map_type"],
)
def test_wrong_compositions_name_line_item_and_remedy(services, changes, line, words):
    """A wrong composition is told with its line, the item, and what is allowed."""
    with pytest.raises(CompositionError) as caught:
        composed(services, **changes)
    assert line in [problem.line for problem in caught.value.problems]
    assert all(word in str(caught.value) for word in words)
    assert not open_context(services).model_db_service().get_flows()


def test_wrong_type_of_a_parameter_runs_nothing(services):
    """A parameter of the wrong type is named before any subflow starts."""
    with pytest.raises(ParameterTypeError, match=r"first__n.*valid integer"):
        composed(services)(first__n="many")


def test_unreachable_databases_are_named(services, tmp_path):
    """A database that nobody serves is one line with its address."""
    dead = MySQLCredentials(
        host="127.0.0.1", port=1, username="u", password=SecretStr("hunter2")
    )
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:1.*refused"):
        Model.create_model(
            author="a",
            laboratory="l",
            facility="f",
            beampath="b",
            description="d",
            services=LumeServices(registry=dead, home=services.home),
        )
    away = MongoDBCredentials(host="127.0.0.1", port=1, timeout=3)
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:1.*refused"):
        store_result.fn(
            {"x": 1},
            {"y": 2},
            services=LumeServices(results_mongodb=away, home=services.home),
        )
    assert everything(tmp_path) == {}


@pytest.mark.service("mysql")
def test_wrong_password_is_named_and_hidden(mysql_url, services, tmp_path):
    """A wrong password is an authentication error that shows no password."""
    url = make_url(mysql_url)
    wrong = MySQLCredentials(
        host=url.host,
        port=url.port,
        username=url.username,
        password=SecretStr("hunter2"),
        database=url.database,
    )
    context = open_context(LumeServices(registry=wrong, home=services.home))
    with pytest.raises(AuthenticationError, match="password") as caught:
        context.model_db_service()
    assert "hunter2" not in str(caught.value) + repr(caught.value)
    assert everything(tmp_path) == {}


def test_result_with_a_socket_leaves_nothing(services):
    """What cannot be stored is named by its path; no document, no blob is left."""
    import numpy as np

    results = open_context(services).results_db_service()
    kept = store_result.fn({"x": 1}, {"y": 2}, services=services)
    with socket.socket() as open_socket:
        outputs = {"large": np.arange(50_000.0), "deep": {"here": [1, open_socket]}}
        with pytest.raises(EncodingError, match=r"outputs\.deep\.here\[1\].*socket"):
            store_result.fn({"x": 1}, outputs, services=services)
    assert [found.unique_hash for found in results.find("default")] == [
        kept.unique_hash
    ]
    from datetime import timedelta

    assert results.db_service.delete_unused_blobs(timedelta(0)) == []


def test_missing_file_leaves_nothing(services):
    """A file that is not there is named, and no folder is made for it."""
    with pytest.raises(NotFoundError, match=r"beam\.h5"):
        save_file.fn(Path(services.home) / "beam.h5", "beam.h5", services=services)
    assert not (Path(services.home) / "files").exists()


def test_a_package_that_is_none_registers_nothing(services, tmp_path):
    """A folder without a package is told what a package holds; no row is written."""
    folder = tmp_path / "no-package"
    folder.mkdir()
    (folder / "readme.txt").write_text("nothing here")
    context = open_context(services)
    context.scheduling_service().create_project("test")
    model = Model.create_model(
        author="a",
        laboratory="l",
        facility="f",
        beampath="b",
        description="d",
        services=services,
    )
    with pytest.raises(PackageError, match="'orchestration'"):
        model.store_deployment(folder, "test")
    assert model.deployments == ()
    assert not (Path(services.home) / "packages").exists()


def test_unknown_project_is_refused_before_the_package_is_read(services, tmp_path):
    """A deployment for a project that does not exist names the known ones."""
    open_context(services).scheduling_service().create_project("injector")
    model = Model.create_model(
        author="a",
        laboratory="l",
        facility="f",
        beampath="b",
        description="d",
        services=services,
    )
    with pytest.raises(NotFoundError, match=r"'injecter'.*'injector'"):
        model.store_deployment(tmp_path, "injecter")
