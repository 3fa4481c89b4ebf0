"""`prefect-lume runs` over real runs, recorded into real databases."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from prefect import flow, task

from prefect_lume import recorded, store_result
from prefect_lume.cli._main import cli
from prefect_lume.config import configure


@pytest.fixture(params=["embedded", "mariadb", "postgresql", "mongodb"])
def storage(request, tmp_path, monkeypatch):
    """The default storage, and each other one by its setting."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.setenv("COLUMNS", "200")
    if request.param == "mongodb":
        uri = request.getfixturevalue("mongodb_url")
        name = f"runs_{tmp_path.name}"[:60]
        choice = ["mongodb", {"uri": uri, "database": name}]
        monkeypatch.setenv("PREFECT_LUME_PIPELINES_RESULTS_STORAGE", json.dumps(choice))
    elif request.param != "embedded":
        from sqlalchemy import create_engine

        from prefect_lume.migrations import upgrade

        url = request.getfixturevalue(f"{request.param}_url")
        upgrade(create_engine(url))
        choice = ["orm", {"url": url}]
        monkeypatch.setenv("PREFECT_LUME_PIPELINES_RESULTS_STORAGE", json.dumps(choice))
    configure()
    return request.param


def runs(*arguments):
    outcome = CliRunner().invoke(cli, ["runs", *map(str, arguments)])
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_a_recorded_run_is_listed_shown_drawn_traced_and_removed(
    storage, prefect_server, tmp_path
):
    """What a flow did is seen by every command, from the list to the plot."""

    @task
    def square(k):
        if k == 2:
            raise ValueError("two is not allowed")
        return k * k

    @recorded
    @flow(name="squares")
    def squares():
        states = [f.wait() for f in square.map(range(4))]
        store_result({"n": 4}, {"ok": 3})
        return len(states)

    squares()
    (row,) = json.loads(runs("list", "--pipeline", "squares", "--json"))
    assert row["status"] == "RUNTIME_ERROR"
    assert row["state_name"] == "Completed"
    tree = json.loads(runs("show", row["id"][:13], "--history", "--json"))
    tasks = {t["pipeline_task"]: t for t in tree["results"][0]["tasks"]}
    assert tasks["square"]["run_counts"]["DONE"] == 3
    assert tasks["square"]["run_counts"]["RUNTIME_ERROR"] == 1
    assert tree["links"]["results"]["total"] == 1
    assert {change["name"] for change in tree["history"]} >= {"squares"}
    shown = runs("show", row["id"], "--follow", "--gantt", tmp_path / "run.png")
    assert "two is not allowed" in shown
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    document = tree["links"]["results"]["newest"][0]["unique_hash"]
    assert json.loads(runs("trace", document, "--json"))["run"]["id"] == row["id"]
    digest = json.loads(runs("digest", "--json"))["squares"]
    assert (digest["total_runs"], digest["total_failure"]) == (1, 1)
    report = json.loads(runs("cleanup", "--all", "--yes", "--json"))
    assert report["removed"] == [row["id"]]
    assert json.loads(runs("list", "--json")) == []
