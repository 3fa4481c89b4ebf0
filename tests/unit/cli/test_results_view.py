"""`prefect-lume results find`, `show` and `compare`, as a person uses them."""

from __future__ import annotations

import json
from typing import ClassVar

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
        assert rows[0]["values"]["outputs.wave"] == "float64[20000]"
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
        none = run("find", "injector", "--type", "Shot")
        assert "types of this project are: 'Generic'" in none.stderr
        assert none.stdout == ""
        assert "has nosuch" in run("find", "injector", "--column", "nosuch").stderr
        chosen = run("find", "injector", "--column", "outputs.wave").stdout
        assert "inputs.k" not in chosen
        assert "float64[20000]" in chosen

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("injektor",), "Did you mean 'injector'"),
            (("injector", "--query", '{"$where": 1}'), "'$where' is not"),
            (("injector", "--query", "{k: 1}"), "column 2"),
            (("injector", "--limit", "-1"), "limit"),
            (("injector", "--skip", "9" * 30), "skip"),
            (("--type", "Generic"), "which PROJECT"),
        ],
    )
    def test_wrong_input_is_explained(self, stored, arguments, words):
        """A misspelt project, a foreign operator and bad JSON end with a message."""
        outcome = run("find", *arguments)
        assert outcome.exit_code != 0
        assert words in outcome.stderr
        assert "Traceback" not in outcome.output


class TestStoredText:
    """What was stored is shown as it is: it is data, and steers nothing."""

    @pytest.fixture
    def odd(self) -> Result:
        result = Result(
            project_name="[red]odd[/]",
            inputs={"[bold]k[/]": "[red]x[/]", "a.b": 1, "none": {}, "": "\x1b[31m\n"},
            outputs={"nan": np.array([1.0, np.nan])},
        )
        open_context().results_db_service().store(result)
        return result

    def test_markup_and_control_characters_are_text(self, odd):
        """Brackets stay, escapes are spelt out, in every table."""
        for outcome in (
            run("find"),
            run("find", odd.project_name),
            run("show", odd.project_name, odd.unique_hash),
        ):
            assert outcome.exit_code == 0
            assert "\x1b" not in outcome.output
        assert "[red]odd[/]" in run("find").stdout
        table = run("find", odd.project_name).stdout
        assert "inputs.[bold]k[/]" in table
        assert "[red]x[/]" in table
        assert r"\x1b[31m\n" in table

    def test_paths_are_those_of_queries(self, odd):
        """A name with a dot is shown as a query asks for it; empty dicts are shown."""
        (row,) = found("find", odd.project_name, "--query", '{"inputs.a%2Eb": 1}')
        assert row["values"]["inputs.a%2Eb"] == 1
        assert row["values"]["inputs.none"] == {}
        assert row["values"]["outputs.nan"] == "float64[2] 1 … 1, with NaN"
        table = run("find", odd.project_name, "--column", "inputs.a%2Eb").stdout
        assert table.splitlines()[1].endswith(" 1")

    def test_an_unknown_type_is_a_line(self):
        """A type that is not registered here is told without a place in the code."""

        class Unregistered(Result):
            result_type: ClassVar[str] = "Unregistered"

        result = Unregistered(project_name="p", inputs={"k": 1})
        open_context().results_db_service().store(result)
        outcome = run("show", "p", result.unique_hash)
        assert outcome.exit_code == 0
        assert outcome.stderr.startswith("Warning: Results of type 'Unregistered'")
        assert ".py" not in outcome.stderr
        assert run("find").stderr == ""

    def test_a_narrow_terminal_gets_whole_columns(self, monkeypatch):
        """Columns for which there is no room are named, and can be asked for."""
        values = {f"quantity_{n}": n * 1.5 for n in range(6)}
        result = Result(project_name="p", inputs={"note": "a"}, outputs=values)
        open_context().results_db_service().store(result)
        monkeypatch.setenv("COLUMNS", "80")
        outcome = run("find", "p")
        heading, row = outcome.stdout.splitlines()
        assert "outputs.quantity_0" in heading
        assert "and 1 more" in outcome.stderr
        assert "…" not in heading + row
        assert "no room for outputs.quantity_1" in outcome.stderr
        chosen = run("find", "p", "--column", "outputs.quantity_5").stdout
        assert chosen.splitlines()[1].endswith("7.5")


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
        assert "float64[20000]" in text

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

    def test_a_hash_of_another_project_is_told(self, stored):
        """The message names the project that has it."""
        other = Result(project_name="linac", inputs={"k": 1})
        open_context().results_db_service().store(other)
        outcome = run("show", "injector", other.unique_hash)
        assert outcome.exit_code == 1
        assert "There is one in: 'linac'" in outcome.stderr

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
        assert "1 value agrees, 3 differ" in outcome.stderr
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

    def test_what_cannot_be_compared_is_said(self, stored):
        """One result named twice, and a field that none has, are errors."""
        one, other = stored[0].unique_hash, stored[1].unique_hash
        twice = run("compare", "injector", one, one[:10])
        assert twice.exit_code == 1
        assert "are one result" in twice.stderr
        nowhere = run("compare", "injector", one, other, "--part", "outcome")
        assert nowhere.exit_code == 1
        assert "'outputs'" in nowhere.stderr

    def test_a_small_share_is_not_none(self):
        """A relative difference that is no per cent at all is shown in full."""
        results = [
            Result(project_name="p", inputs={"k": k}, outputs={"y": 1 + k * 1e-9})
            for k in (1, 2)
        ]
        open_context().results_db_service().store_many(results)
        hashes = [result.unique_hash for result in results]
        shown = run("compare", "p", *hashes, "--part", "outputs").stdout
        assert shown.splitlines()[1].endswith("1e-09")
