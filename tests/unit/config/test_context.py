"""Which services a call uses, and what the context says of them."""

import threading

import pytest
from prefect.filesystems import LocalFileSystem
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from prefect_lume import config
from prefect_lume.config import Context, configure, current_context, open_context
from prefect_lume.config.current import load_services
from prefect_lume.credentials import LumeServices, MongoDBCredentials, MySQLCredentials
from prefect_lume.errors import (
    ConfigurationError,
    ConnectionFailedError,
    NotFoundError,
    SchemaError,
)
from prefect_lume.results import Result
from prefect_lume.settings import LumeSettings


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test has an embedded folder of its own, and no configured services."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.delenv("PREFECT_LUME_SERVICES", raising=False)
    configure()
    yield
    configure()


def test_a_prefect_server_that_is_down_is_named():
    """A Block cannot be loaded then; the message says from where."""
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:1/api.*'shared'"),
    ):
        load_services("shared")


def test_empty_block_is_the_embedded_default(tmp_path):
    """Without any setting one SQLite file serves registry and results."""
    context = open_context()
    context.model_db_service().store_project("test", "described")
    reference = context.results_db_service().store(
        Result(project_name="test", inputs={"x": 1}, outputs={"y": 2})
    )
    assert context.results_db_service().load(reference).outputs == {"y": 2}
    assert context.file_storage() == LocalFileSystem(
        basepath=str(tmp_path / "lume" / "files")
    )
    assert [path.name for path in (tmp_path / "lume").glob("*.db")] == ["lume.db"]


def test_importing_and_opening_makes_no_file(tmp_path):
    """Nothing is created before a service is used."""
    open_context()
    assert not (tmp_path / "lume").exists()


def test_equal_choices_share_one_context(tmp_path):
    """Equal Blocks share services; another home is another context."""
    assert open_context(LumeServices()) is open_context(None)
    other = LumeServices(home=str(tmp_path / "other"))
    assert open_context(other) is open_context(LumeServices(home=other.home))
    assert open_context(other) is not open_context(None)


def test_a_changed_password_makes_a_new_context():
    """A context is shared only when secrets are equal, too."""
    blocks = [
        LumeServices(registry=MySQLCredentials(username="u", password=SecretStr(word)))
        for word in ("one", "two")
    ]
    assert open_context(blocks[0]) is not open_context(blocks[1])


def test_configure_chooses_for_calls_that_name_none(tmp_path):
    """After `configure` the context of a call without services is that one."""
    mine = LumeServices(home=str(tmp_path / "mine"))
    configure(mine)
    assert open_context().home == tmp_path / "mine"
    assert config.context is current_context() is open_context(mine)


def test_unknown_block_name_says_how_to_make_one():
    """A name that no stored Block has is an error that names it."""
    with pytest.raises(NotFoundError, match=r"no-such-block.*Prefect UI"):
        open_context("no-such-block")


def test_stored_block_is_found_by_name_and_by_the_environment(tmp_path, monkeypatch):
    """A saved Block is used by its name, given or set in the environment."""
    LumeServices(home=str(tmp_path / "stored")).save("unit-stored", overwrite=True)
    assert open_context("unit-stored").home == tmp_path / "stored"
    monkeypatch.setenv("PREFECT_LUME_SERVICES", "unit-stored")
    assert open_context().home == tmp_path / "stored"


def test_something_else_than_a_block_is_refused():
    """`services` is a Block, a name or nothing."""
    with pytest.raises(ConfigurationError, match="is a int"):
        open_context(3)


def test_two_results_databases_are_refused():
    """A Block that names two results databases is refused, naming both fields."""
    services = LumeServices(
        results_mongodb=MongoDBCredentials(), results_sql=MySQLCredentials()
    )
    with pytest.raises(ConfigurationError, match=r"results_mongodb.*results_sql"):
        Context(services).results_db_service()


def test_server_without_tables_names_the_command(tmp_path):
    """A named database is never changed by itself: the error names the command."""
    credentials = MySQLCredentials(driver="sqlite", database=str(tmp_path / "new.db"))
    with pytest.raises(SchemaError, match="db upgrade"):
        Context(LumeServices(registry=credentials)).model_db_service()


def test_file_storage_block_that_does_not_exist_is_named():
    """A file storage Block that is not there is a configuration error naming it."""
    context = Context(LumeServices(file_storage="local-file-system/absent"))
    with pytest.raises(ConfigurationError, match="local-file-system/absent"):
        context.file_storage()


def test_block_that_is_no_filesystem_is_refused():
    """A stored Block of another kind is not taken for a filesystem."""
    LumeServices().save("unit-not-files", overwrite=True)
    context = Context(LumeServices(file_storage="lume-services/unit-not-files"))
    with pytest.raises(ConfigurationError, match="not a filesystem"):
        context.file_storage()


def test_check_says_each_service_in_one_line():
    """`check` reports what works and what does not, without raising."""
    dead = MySQLCredentials(
        host="127.0.0.1", port=1, username="u", password=SecretStr("hunter2")
    )
    statuses = Context(LumeServices(registry=dead)).check()
    assert [status.service for status in statuses] == ["registry", "results", "files"]
    assert [status.ok for status in statuses] == [False, True, True]
    assert "refused" in statuses[0].detail
    assert not any("\n" in status.detail for status in statuses)
    assert "hunter2" not in repr(statuses)


def test_services_are_made_once_by_many_threads():
    """Threads that ask at the same time get one and the same service."""
    context = Context()
    found = []
    barrier = threading.Barrier(6)

    def ask():
        barrier.wait()
        found.append(context.model_db_service())

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len({id(service) for service in found}) == 1


def test_settings_name_the_variable_that_is_wrong(monkeypatch):
    """A variable with a value that is not allowed is named."""
    monkeypatch.setenv("PREFECT_LUME_BLOB_THRESHOLD", "many")
    with pytest.raises(ConfigurationError, match="PREFECT_LUME_BLOB_THRESHOLD"):
        LumeSettings.load()


def test_home_defaults_to_prefects_home(monkeypatch):
    """Without PREFECT_LUME_HOME the folder is `lume` under Prefect's home."""
    from prefect.settings import get_current_settings

    monkeypatch.delenv("PREFECT_LUME_HOME")
    assert LumeSettings.load().home_path() == get_current_settings().home / "lume"
