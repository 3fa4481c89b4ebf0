"""Where pipelines are recorded: settings, contexts and the helpers that use them."""

from __future__ import annotations

import threading

import pytest

from prefect_lume.config import Context, configure, open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import ConfigurationError
from prefect_lume.pipelines import Pipeline, helpers
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.orm import OrmPipelineResultsStorage
from prefect_lume.settings import LumeSettings

VARIABLE = "PREFECT_LUME_PIPELINES_RESULTS_STORAGE"
MEMORY = "prefect_lume.pipelines.memory.MemoryPipelineResultsStorage"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test has an embedded folder and a working directory of its own."""
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.delenv("PREFECT_LUME_SERVICES", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    configure()
    yield folder
    configure()


def pyproject(folder, text):
    """Write a pyproject.toml with this table of ours."""
    path = folder / "pyproject.toml"
    path.write_text(f"[project]\nname = 'x'\n\n[tool.prefect-lume]\n{text}\n")
    return path


def test_without_a_setting_the_registrys_database_is_used(tmp_path):
    """Embedded, migrated, and the same one as the registry's."""
    context = Context()
    storage = context.pipeline_storage()
    assert isinstance(storage, OrmPipelineResultsStorage)
    assert storage.engine is context.pipelines_engine()
    storage.build_pipeline_execution(Pipeline("p"), "run-1")
    context.model_db_service().store_project("test")
    assert [path.name for path in (tmp_path / "lume").glob("*.db")] == ["lume.db"]


def test_a_context_makes_its_storage_once():
    """Threads that ask at the same time get the same storage."""
    context, found = Context(), []
    threads = [
        threading.Thread(target=lambda: found.append(context.pipeline_storage()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_the_environment_names_the_storage(monkeypatch):
    """As a path, a short name, or a pair with keyword arguments as JSON."""
    for value in (MEMORY, "memory", '["memory", {}]', f' ["{MEMORY}", {{}}]'):
        monkeypatch.setenv(VARIABLE, value)
        assert isinstance(helpers.get_pipeline_storage(), MemoryPipelineResultsStorage)
    monkeypatch.setenv(VARIABLE, "")
    assert LumeSettings.load().pipelines_results_storage is None


@pytest.mark.parametrize("value", [f'"{MEMORY}"', '["memory", {}]', '["memory", { }]'])
def test_pyproject_names_the_storage(own_home, value):
    """The table of the nearest pyproject.toml counts, from its subfolders too."""
    pyproject(own_home.parent, f"pipelines_results_storage = {value}")
    assert isinstance(helpers.get_pipeline_storage(), MemoryPipelineResultsStorage)


def test_the_environment_wins_over_pyproject(own_home, monkeypatch):
    """What a variable says is not looked for in a file."""
    pyproject(own_home, 'pipelines_results_storage = "no.such.Storage"')
    monkeypatch.setenv(VARIABLE, "memory")
    assert isinstance(helpers.get_pipeline_storage(), MemoryPipelineResultsStorage)


def test_a_changed_pyproject_is_seen(own_home):
    """The file is read again when it has changed."""
    pyproject(own_home, 'pipelines_results_storage = "memory"')
    assert LumeSettings.load().pipelines_results_storage.path == "memory"
    pyproject(own_home, 'pipelines_results_storage = "orm"\n# longer')
    assert LumeSettings.load().pipelines_results_storage.path == "orm"


def test_other_settings_may_be_in_pyproject(own_home, monkeypatch):
    """A relative home is one beside the file."""
    monkeypatch.delenv("PREFECT_LUME_HOME")
    pyproject(own_home.parent, 'home = "data"\nblob_threshold = 512')
    settings = LumeSettings.load()
    assert settings.home_path() == own_home.parent / "data"
    assert settings.blob_threshold == 512


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('pipelines_result_storage = "orm"', "mean 'pipelines_results_storage'"),
        ("pipelines_results_storage = 3", "a int"),
        ("blob_threshold = 1", r"'blob_threshold' in \[tool.prefect-lume\]"),
        ("home = ", "cannot be read"),
    ],
)
def test_a_wrong_pyproject_is_named(own_home, text, said):
    """The message says which file, and what is wrong with it."""
    pyproject(own_home, text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        LumeSettings.load()
    assert "pyproject.toml" in str(caught.value)


def test_a_wrong_storage_says_who_named_it(own_home, monkeypatch):
    """The variable, or the very file."""
    path = pyproject(own_home, 'pipelines_results_storage = "no.such.Storage"')
    with pytest.raises(ConfigurationError) as caught:
        helpers.get_pipeline_storage()
    assert str(path) in str(caught.value)
    for value in ("no.such.Storage", '["memory", {"password": "s3cret"', "[1]"):
        monkeypatch.setenv(VARIABLE, value)
        with pytest.raises(ConfigurationError, match=VARIABLE) as caught:
            helpers.get_pipeline_storage()
        assert "s3cret" not in str(caught.value)


def test_the_helpers_keep_the_storage_until_it_is_reset():
    """One storage for all calls; after a reset another one on the same data."""
    first = helpers.get_pipeline_storage()
    assert helpers.get_pipeline_storage() is first
    helpers.build_pipeline_execution(Pipeline("p"), "run-1")
    helpers.reset_pipeline_storage()
    assert helpers.get_pipeline_storage() is not first
    assert helpers.get_pipeline_execution("run-1").get_pipeline_id() == "p"
    assert list(helpers.get_pipeline_digest()) == ["p"]
    assert helpers.cleanup() == ["run-1"]


def test_the_helpers_follow_the_configured_services(tmp_path):
    """`configure` chooses the storage as it chooses every other service."""
    helpers.build_pipeline_execution(Pipeline("p"), "run-1")
    configure(LumeServices(home=str(tmp_path / "other")))
    assert helpers.get_pipeline_executions() == []
    assert helpers.get_pipeline_storage() is open_context().pipeline_storage()
    helpers.reset_pipeline_storage()
    assert helpers.get_pipeline_executions() == []
    configure()
    assert len(helpers.get_pipeline_executions()) == 1
