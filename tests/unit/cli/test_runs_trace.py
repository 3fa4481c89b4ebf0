"""`prefect-lume runs trace`: from a number to its source, as a person walks it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from prefect_lume.cli._main import cli
from prefect_lume.config import configure, open_context
from prefect_lume.results import Result


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test has an embedded folder of its own."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.setenv("COLUMNS", "200")
    configure()


@pytest.fixture
def runs(sample_runs):
    return sample_runs(open_context().pipeline_storage())


@pytest.fixture
def made(runs):
    """A deployment, a run of it below a parent, and what the run stored."""
    context = open_context()
    registry = context.model_db_service()
    model_id = registry.store_model(
        author="A. Modeller",
        laboratory="slac",
        facility="lcls",
        beampath="cu_hxr",
        description="Injector",
    )
    number = registry.store_deployment(
        version="1.4.0",
        model_id=model_id,
        package_import_name="injector",
        source="git+https://example.org/injector",
        sha256="ab" * 32,
        lock="version: 1\n",
    )
    parent = runs.flow("night", [(0, "Running"), (60, "Completed")])
    run = runs.chain(1, parent_run_id=parent, deployment_id=number)
    result = Result(
        project_name="linac",
        flow_run_id=run,
        deployment_id=number,
        outputs={"sigma": 1e-3},
    )
    context.results_db_service().store(result)
    return {"deployment": number, "parent": parent, "run": run, "result": result}


def trace(*arguments):
    return CliRunner().invoke(cli, ["runs", "trace", *map(str, arguments)])


def found(*arguments):
    outcome = trace(*arguments, "--json")
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


def test_a_result_is_walked_back_to_its_source(made):
    """Result, run, parent, deployment, source, hash, lock, model: one page."""
    outcome = trace(made["result"].unique_hash[:10])
    assert outcome.exit_code == 0, outcome.output
    for text in (
        made["result"].unique_hash,
        made["run"],
        f"{made['parent'][:8]}  night",
        "version 1.4.0",
        "git+https://example.org/injector",
        "ab" * 32,
        "yes, 11 B",
        "Injector (A. Modeller, slac/lcls/cu_hxr)",
        "linac",
    ):
        assert text in outcome.stdout
    steps = ["Result", "Run", "Deployment", "Project"]
    assert [line for line in outcome.stdout.splitlines() if line.strip() in steps]


def test_a_run_is_walked_too(made):
    """A run's id, or its beginning, begins at the run."""
    walk = found(made["run"][:8])
    assert walk["result"] is None
    assert walk["run"]["id"] == made["run"]
    assert walk["parents"][0]["id"] == made["parent"]
    assert walk["deployment"]["has_lock"] is True
    assert walk["results"]["total"] == 1
    assert walk["results"]["newest"][0]["unique_hash"] == made["result"].unique_hash


def test_a_deployment_is_walked_forward(made):
    """--deployment shows every run and document that it made."""
    outcome = trace("--deployment", made["deployment"])
    assert "1 run: 1 done" in outcome.stdout
    assert made["result"].unique_hash[:12] in outcome.stdout
    walk = found("--deployment", made["deployment"])
    assert walk["runs"]["DONE"] == 1
    assert walk["newest_runs"][0]["id"] == made["run"]
    assert walk["results"]["by_project"] == {"linac": 1}


def test_json_times_have_their_zone(made):
    """Every time in JSON is ISO 8601 with a zone."""
    walk = found(made["result"].unique_hash)
    assert walk["run"]["started"] == "2026-01-31T12:00:01.200000+00:00"
    assert walk["result"]["date_modified"].endswith("+00:00")
    assert walk["deployment"]["deploy_date"].endswith("+00:00")


def test_what_is_neither_is_an_error(made):
    """Something unknown names what there is; so does an empty database."""
    outcome = trace("feedface")
    assert outcome.exit_code == 1
    assert "no result or run 'feedface'" in outcome.stderr
    assert "The latest" in outcome.stderr
    assert trace("--deployment", 99).exit_code == 1


def test_nothing_recorded_is_an_error_that_helps():
    """With nothing configured and nothing recorded the error says how to begin."""
    outcome = trace("feedface")
    assert outcome.exit_code == 1
    assert "@recorded" in outcome.stderr


def test_one_thing_is_traced():
    """Neither nothing nor two things."""
    assert trace().exit_code == 2
    assert trace("abcd", "--deployment", 1).exit_code == 2


def test_a_beginning_of_several_hashes_is_refused():
    """Where two results begin so, more digits or --project say which."""
    seen: dict[str, Result] = {}
    for number in range(100_000):
        project = ("linac", "other")[number % 2]
        result = Result(project_name=project, inputs={"k": number})
        first = seen.setdefault(result.unique_hash[:4], result)
        if first.project_name != project:
            break
    service = open_context().results_db_service()
    service.store_many([first, result])
    beginning = result.unique_hash[:4]
    outcome = trace(beginning)
    assert outcome.exit_code == 1
    assert f"{first.unique_hash} ({first.project_name})" in outcome.stderr
    walk = found(beginning, "--project", project)
    assert walk["result"]["unique_hash"] == result.unique_hash
