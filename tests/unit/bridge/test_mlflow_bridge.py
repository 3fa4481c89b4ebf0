"""To and from MLflow, against its real store in SQLite files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from prefect_lume.bridge import import_mlflow_registry, log_result
from prefect_lume.cli._main import cli
from prefect_lume.config import Context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import (
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from prefect_lume.results import Result


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(LumeServices(home=str(tmp_path / "lume")))


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow, made once: its migrations take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path) -> str:
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_store.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def mlflow(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def add(mlflow: MlflowClient, name: str, source: str, **more: Any) -> str:
    return str(mlflow.create_model_version(name, source, **more).version)


def test_models_versions_aliases_and_tags_come_over(
    context: Context, mlflow: MlflowClient, uri: str, tmp_path: Path
) -> None:
    """All of it is here, with the hash of what is on this machine."""
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights")
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "x").write_text("1")
    mlflow.create_registered_model(
        'it\'s "odd" 🜚', tags={"lume.laboratory": "slac", "lume.author": "Émile"}
    )
    name = 'it\'s "odd" 🜚'
    add(mlflow, name, str(file), tags={"loss": "0.1"}, description="first")
    add(mlflow, name, folder.as_uri())
    add(mlflow, name, "s3://bucket/x")
    mlflow.set_registered_model_alias(name, "champion", "2")
    mlflow.set_registered_model_alias(name, "staging", "3")
    report = import_mlflow_registry(uri, context, facility="lcls")
    assert (report.models, report.stored, report.refused) == (1, 3, {})
    registry = context.model_db_service()
    model = registry.get_model(description=name)
    assert (model.author, model.laboratory, model.facility, model.beampath) == (
        *("Émile", "slac", "lcls", "unknown"),
    )
    one, two, three = registry.get_deployments(model_id=model.model_id)
    assert (one.version, one.description, one.tags["loss"]) == ("1", "first", "0.1")
    ways = [item.tags["mlflow.sha256-of"] for item in (one, two, three)]
    assert ways == ["file", "directory", "reference"]
    assert len({one.sha256, two.sha256, three.sha256}) == 3
    assert (two.is_live, two.aliases, three.aliases) == (
        *(True, ("champion",), ("staging",)),
    )
    reasons = {event.reason for event in registry.get_history(deployment_id=1)}
    assert f"imported from {uri}" in reasons


def test_importing_again_brings_what_is_new(
    context: Context, mlflow: MlflowClient, uri: str
) -> None:
    """Nothing is stored twice; aliases move; what did not change leaves no event."""
    mlflow.create_registered_model("a")
    add(mlflow, "a", "s3://x/1")
    mlflow.set_registered_model_alias("a", "champion", "1")
    import_mlflow_registry(uri, context)
    registry = context.model_db_service()
    before = registry.get_history()
    again = import_mlflow_registry(uri, context)
    assert (again.stored, again.present) == (0, 1)
    assert registry.get_history() == before
    add(mlflow, "a", "s3://x/2")
    mlflow.set_registered_model_alias("a", "champion", "2")
    third = import_mlflow_registry(uri, context)
    assert (third.stored, third.present) == (1, 1)
    assert registry.get_live_deployment(1).version == "2"


def test_what_is_promoted_here_stays_live(
    context: Context, mlflow: MlflowClient, uri: str
) -> None:
    """Importing again moves "live" only when MLflow's alias has moved since."""
    mlflow.create_registered_model("a")
    add(mlflow, "a", "s3://x/1")
    add(mlflow, "a", "s3://x/2")
    mlflow.set_registered_model_alias("a", "champion", "1")
    import_mlflow_registry(uri, context)
    registry = context.model_db_service()
    registry.promote(registry.get_deployment(model_id=1, version="2").deployment_id)
    import_mlflow_registry(uri, context)
    assert registry.get_live_deployment(1).version == "2"
    add(mlflow, "a", "s3://x/3")
    mlflow.set_registered_model_alias("a", "champion", "3")
    import_mlflow_registry(uri, context)
    assert registry.get_live_deployment(1).version == "3"


def test_no_database_is_made_by_an_import(context: Context, tmp_path: Path) -> None:
    """A file that is not there is an error, and is not there afterwards."""
    with pytest.raises(ConfigurationError, match=r"typo\.db"):
        import_mlflow_registry(f"sqlite:///{tmp_path / 'typo.db'}", context)
    assert not (tmp_path / "typo.db").exists()


def test_nobody_who_answers_is_told_without_a_password(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is not there cannot be reached, whoever asks."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConnectionFailedError) as caught:
        import_mlflow_registry("http://me:s3cret@127.0.0.1:9", context)
    assert "s3cret" not in str(caught.value)


def test_a_dry_run_writes_nothing(
    context: Context, mlflow: MlflowClient, uri: str
) -> None:
    """It counts what would be stored, of known models and of new ones."""
    mlflow.create_registered_model("a")
    add(mlflow, "a", "s3://x/1")
    report = import_mlflow_registry(uri, context, dry_run=True)
    assert (report.dry_run, report.stored) == (True, 1)
    assert context.model_db_service().get_models() == []
    import_mlflow_registry(uri, context)
    add(mlflow, "a", "s3://x/2")
    report = import_mlflow_registry(uri, context, dry_run=True)
    assert (report.stored, report.present) == (1, 1)


def test_reserved_aliases_are_renamed(
    context: Context, mlflow: MlflowClient, uri: str
) -> None:
    """An alias that means something else here gets another name, which is told."""
    mlflow.create_registered_model("a")
    add(mlflow, "a", "s3://x/1")
    mlflow.set_registered_model_alias("a", "live", "1")
    report = import_mlflow_registry(uri, context)
    assert report.renamed == {"a@live": "mlflow-live"}
    found = context.model_db_service().get_deployment_by_alias(1, "mlflow-live")
    assert found.version == "1"


def test_what_does_not_fit_is_told(
    context: Context, mlflow: MlflowClient, uri: str
) -> None:
    """A name too long is refused by name, and the others come over."""
    mlflow.create_registered_model("x" * 256)
    mlflow.create_registered_model("b")
    add(mlflow, "b", "s3://x/1")
    report = import_mlflow_registry(uri, context)
    assert (report.models, report.stored, report.complete) == (2, 1, False)
    assert "255" in report.refused["x" * 256]


def test_wrong_places_are_told(context: Context, uri: str) -> None:
    """No URI, no such model, nobody who answers; never a password."""
    with pytest.raises(ConfigurationError, match="tracking URI"):
        import_mlflow_registry("", context)
    with pytest.raises(NotFoundError, match="absent"):
        import_mlflow_registry(uri, context, names=["absent"])
    with pytest.raises((StorageError, NotFoundError)) as caught:
        import_mlflow_registry("nosuchscheme://me:secret@host/x", context)
    assert "secret" not in str(caught.value)


def test_command_imports_and_reports(
    mlflow: MlflowClient, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says in numbers what it did, as text and as JSON."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "home"))
    mlflow.create_registered_model("a")
    add(mlflow, "a", "s3://x/1")
    told = CliRunner().invoke(cli, ["import", "mlflow", uri])
    assert told.exit_code == 0, told.output
    assert "1 registered models; 1 versions stored, 0 there already" in told.output
    told = CliRunner().invoke(cli, ["import", "mlflow", uri, "--json"])
    assert json.loads(told.stdout)["present"] == 1
    told = CliRunner().invoke(cli, ["import", "mlflow", uri, "--name", "nothing"])
    assert told.exit_code == 1
    assert "nothing" in told.stderr


def stored(context: Context, **outputs: Any) -> Any:
    return context.results_db_service().store(
        Result(
            project_name="test",
            flow_run_id="run",
            deployment_id=7,
            inputs={"charge": 2.5e-10, "note": "ü" * 7_000},
            outputs=outputs,
        )
    )


def test_a_result_is_logged_once(
    context: Context, mlflow: MlflowClient, uri: str
) -> None:
    """Numbers are metrics, inputs parameters; asked again the same run is returned."""
    reference = stored(context, beam={"x": 1, "y": 0.5}, bad=float("nan"), name="n")
    run_id = log_result(reference, uri, context, experiment="new")
    run = mlflow.get_run(run_id)
    assert run.data.metrics == {"beam.x": 1.0, "beam.y": 0.5}
    assert run.data.params["charge"] == "2.5e-10"
    assert len(run.data.params["note"]) <= 6_000
    assert run.data.tags["lume.unique_hash"] == reference.unique_hash
    assert run.data.tags["lume.deployment_id"] == "7"
    assert run.info.status == "FINISHED"
    assert log_result(reference, uri, context, experiment="new") == run_id
    assert len(mlflow.search_runs([run.info.experiment_id])) == 1


def test_a_logged_result_names_its_deployment(
    context: Context, mlflow: MlflowClient, uri: str
) -> None:
    """Version and hash of the deployment are tags; a number too large is left out."""
    registry = context.model_db_service()
    model = {"laboratory": "slac", "facility": "lcls", "beampath": "x"}
    number = registry.store_deployment(
        model_id=registry.store_model(author="a", description="m", **model),
        version="0.0.44",
        source="s3://x",
        sha256="ab" * 32,
        package_import_name="m",
    )
    outputs = {"y": 1, "large": 10**400}
    result = Result(project_name="test", deployment_id=number, outputs=outputs)
    run = mlflow.get_run(log_result(result, uri, context))
    assert run.data.metrics == {"y": 1.0}
    assert run.data.tags["lume.deployment_version"] == "0.0.44"
    assert run.data.tags["lume.deployment_sha256"] == "ab" * 32


def test_a_result_is_logged_to_a_run_of_ones_own(
    context: Context, mlflow: MlflowClient, uri: str
) -> None:
    """The run goes on; one that does not exist is told."""
    run = mlflow.create_run("0")
    reference = stored(context, y=2)
    assert log_result(reference, uri, context, run_id=run.info.run_id)
    assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
    assert mlflow.get_run(run.info.run_id).data.metrics == {"y": 2.0}
    with pytest.raises(NotFoundError):
        log_result(reference, uri, context, run_id="0" * 32)


def test_names_that_fall_together_are_refused(context: Context, uri: str) -> None:
    """Two outputs that MLflow would call alike are not mixed up."""
    reference = stored(context, **{"a(b": 1, "a)b": 2})
    with pytest.raises(InvalidInputError, match="a_b"):
        log_result(reference, uri, context)
