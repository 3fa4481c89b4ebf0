"""`prefect-lume results find`, `show` and `compare`, as a person uses them."""

from __future__ import annotations

import json

import numpy as np
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
def stored() -> list[Result]:
    results = [
        Result(
            project_name="injector",
            flow_run_id="run",
            inputs={"k": k, "note": "golden"},
            outputs={"y": k / 3, "wave": np.arange(20_000.0) * k},
        )
        for k in range(3)
    ]
    open_context().results_db_service().store_many(results)
    return results


def run(*arguments):
    return CliRunner().invoke(cli, ["results", *map(str, arguments)])


def found(*arguments):
    outcome = run(*arguments, "--json")
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


class TestFind:
    def test_projects_are_listed(self, stored):
        """Without a project, every project with its number of results is shown."""
        (row,) = found("find")
        assert (row["project_name"], row["results"]) == ("injector", 3)
        assert "injector" in run("find").stdout

    def test_no_results_are_no_error(self):
        """An empty database says so."""
        outcome = run("find")
        assert outcome.exit_code == 0
        assert "no results yet" in outcome.stderr
        assert found("find") == []

    def test_a_query_finds(self, stored):
        """The query language works, and JSON has the values by their paths."""
        query = json.dumps({"inputs.k": {"$gte": 1}})
        rows = found("find", "injector", "--query", query, "--sort", "-inputs.k")
        assert [row["values"]["inputs.k"] for row in rows] == [2, 1]
        assert rows[0]["unique_hash"] == stored[2].unique_hash
        assert rows[0]["values"]["outputs.wave"] == "<f8[20000]"
        assert found("find", "injector", "--query", query, "--count") == {"count": 2}
        assert run("find", "injector", "--count").stdout == "3\n"

    def test_the_table_shows_what_differs(self, stored):
        """Columns are the small values; a note says how many more there are."""
        outcome = run("find", "injector", "--limit", 2)
        first, *rows = outcome.stdout.splitlines()
        assert "inputs.k" in first
        assert "outputs.y" in first
        assert "wave" not in first
        assert len(rows) == 2
        assert "2 of 3 results; 1 more" in outcome.stderr
        chosen = run("find", "injector", "--column", "outputs.wave").stdout
        assert "inputs.k" not in chosen
        assert "<f8[20000]" in chosen

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("injektor",), "Did you mean 'injector'"),
            (("injector", "--query", '{"$where": 1}'), "'$where' is not"),
            (("injector", "--query", "{k: 1}"), "column 2"),
            (("injector", "--limit", "-1"), "limit"),
        ],
    )
    def test_wrong_input_is_explained(self, stored, arguments, words):
        """A misspelt project, a foreign operator and bad JSON end with a message."""
        outcome = run("find", *arguments)
        assert outcome.exit_code != 0
        assert words in outcome.stderr
        assert "Traceback" not in outcome.output


class TestShow:
    def test_a_result_is_shown_by_the_beginning_of_its_hash(self, stored):
        """Values and origin, for a person and as JSON."""
        prefix = stored[1].unique_hash[:10]
        shown = found("show", "injector", prefix)
        assert shown["unique_hash"] == stored[1].unique_hash
        assert shown["flow_run_id"] == "run"
        assert shown["values"]["outputs.y"] == 1 / 3
        text = run("show", "injector", prefix.upper()).stdout
        assert stored[1].unique_hash in text
        assert "<f8[20000]" in text

    def test_a_picture_is_drawn(self, stored, tmp_path):
        """--plot writes a file of the kind that its name says."""
        target = tmp_path / "wave.svg"
        outcome = run("show", "injector", stored[1].unique_hash, "--plot", target)
        assert outcome.exit_code == 0
        assert "<svg" in target.read_text("utf-8")
        wrong = run("show", "injector", stored[1].unique_hash, "--plot", "a.nothing")
        assert wrong.exit_code == 1
        assert ".png, .svg" in wrong.stderr

    def test_nothing_to_draw_is_said(self, tmp_path):
        """A result without arrays has no picture, and no file is written."""
        result = Result(project_name="p", inputs={"k": 1})
        open_context().results_db_service().store(result)
        target = tmp_path / "a.png"
        outcome = run("show", "p", result.unique_hash, "--plot", target)
        assert outcome.exit_code == 1
        assert not target.exists()

    @pytest.mark.parametrize(
        ("text", "words"),
        [("xyz", "no unique hash"), ("0" * 64, "no result"), ("ab", "first four")],
    )
    def test_a_wrong_hash_is_explained(self, stored, text, words):
        """What is no hash, and what is not there, end with a message."""
        outcome = run("show", "injector", text)
        assert outcome.exit_code == 1
        assert words in outcome.stderr

    def test_an_ambiguous_beginning_asks_for_more(self):
        """When several hashes begin so, two of them are named."""
        many = [Result(project_name="p", inputs={"k": k}) for k in range(2000)]
        open_context().results_db_service().store_many(many)
        prefixes = [result.unique_hash[:4] for result in many]
        twice = next(p for p in prefixes if prefixes.count(p) > 1)
        outcome = run("show", "p", twice)
        assert outcome.exit_code == 1
        assert "give more digits" in outcome.stderr


class TestCompare:
    def test_differences_are_a_table(self, stored):
        """Each difference has a row, with its size; agreeing values are counted."""
        hashes = [result.unique_hash[:8] for result in stored[1:]]
        outcome = run("compare", "injector", *hashes)
        assert outcome.exit_code == 0
        assert "inputs.k" in outcome.stdout
        assert "100.00%" in outcome.stdout
        assert "1 values agree, 3 differ" in outcome.stderr
        paths = [
            d["path"] for d in found("compare", "injector", *hashes)["differences"]
        ]
        assert paths == ["inputs.k", "outputs.wave", "outputs.y"]

    def test_tolerances_and_parts_are_taken(self, stored):
        """What is within the tolerance agrees; --exit-code tells a script."""
        hashes = [result.unique_hash for result in stored[1:]]
        arguments = ("compare", "injector", *hashes, "--exit-code", "--part", "inputs")
        assert run(*arguments).exit_code == 1
        assert run(*arguments, "--abs-tol", "1").exit_code == 0
        assert run("compare", "injector", hashes[0]).exit_code == 1
        assert run("compare", "injector", *hashes, "--rel-tol", "-1").exit_code == 2
