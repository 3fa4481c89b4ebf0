"""`prefect-lume results export|import|copy|prune|delete`, as a person calls them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from click.testing import Result as Outcome

from prefect_lume.cli._main import cli
from prefect_lume.cli.results import _running
from prefect_lume.cli.results._parameters import Duration, JSONQuery
from prefect_lume.config import configure, open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.results import Result, ResultsService


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an embedded folder of its own."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    configure()


@pytest.fixture
def service() -> ResultsService:
    """The embedded database, with six results of the last six days."""
    service = open_context(LumeServices()).results_db_service()
    for day in range(6):
        service.store(
            Result(
                project_name="injector" if day % 2 else "linac",
                inputs={"day": day},
                outputs={"array": np.full(20_000, day + 1.0)},
                date_modified=datetime.now(UTC) - timedelta(days=day, minutes=1),
            )
        )
    return service


def run(*arguments: object, **options: Any) -> Outcome:
    """Run a command of the group as a person would."""
    return CliRunner().invoke(cli, ["results", *map(str, arguments)], **options)


def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands believe that a person sits at a terminal."""

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(_running, "sys", type("", (), {"stdin": Terminal()}))


def counts(service: ResultsService) -> dict[str, int]:
    return {name: service.count(name) for name in service.projects()}


def test_export_and_import(service, tmp_path):
    """What was exported and deleted comes back by an import."""
    outcome = run("export", tmp_path / "out", "--json")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout) == {
        "documents": 6,
        "stored": 6,
        "present": 0,
        "blobs": 6,
        "blob_bytes": 960_000,
        "projects": {"injector": 3, "linac": 3},
        "where": str(tmp_path / "out"),
        "dry_run": False,
    }
    service.delete("linac", {})
    outcome = run("import", tmp_path / "out")
    assert outcome.exit_code == 0, outcome.output
    assert "3 of 6 results written, 3 were there already" in outcome.stdout
    assert counts(service) == {"injector": 3, "linac": 3}
    report = json.loads(run("import", tmp_path / "out", "--json").stdout)
    assert (report["stored"], report["present"]) == (0, 6)
    outcome = run("import", tmp_path / "out", "--on-duplicate", "raise")
    assert outcome.exit_code == 1
    assert "already" in outcome.stderr


def test_export_of_a_part(service, tmp_path):
    """--project, --type and --query select what is exported."""
    (tmp_path / "query.json").write_text('{"inputs.day": {"$gte": 2}}')
    outcome = run(
        "export", tmp_path / "out", "--project", "linac", "--project", "injector",
        "--type", "Generic", "--query", f"@{tmp_path / 'query.json'}", "--json",
    )  # fmt: skip
    assert json.loads(outcome.stdout)["projects"] == {"injector": 2, "linac": 2}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export", "FULL"), "not empty"),
        (("export", "OUT", "--project", "linak"), "Did you mean 'linac'"),
        (("export", "OUT", "--query", '{"$where": "1"}'), "'$where'"),
        (("import", "OUT"), "There is no folder"),
        (("import", "FULL"), "not written by an export"),
        (("copy", "--from", "embedded", "--to", "embedded"), "one results database"),
        (("prune", "--query", "{}", "--project", "x"), "no project"),
        (("prune", "--query", '{"a": 1}', "--yes"), "--older-than, --keep-last"),
        (("prune", "--keep-last", "1"), "add --yes"),
        (("prune", "--older-than", "999999w", "--yes"), "36525 days"),
        (("delete", "linac"), "--query '{}' stands for all"),
        (("delete", "linak", "--query", "{}"), "Did you mean 'linac'"),
        (("delete", "linac", "--hash", "0f", "--yes"), "'0f'"),
        (("delete", "linac", "--query", "{}"), "add --yes"),
    ],
)
def test_errors_are_one_message_and_change_nothing(service, tmp_path, arguments, words):
    """An error ends a command with status 1 and one message that says what to do."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    names = {"FULL": str(tmp_path / "full"), "OUT": str(tmp_path / "out")}
    outcome = run(*(names.get(item, item) for item in arguments))
    assert outcome.exit_code == 1, outcome.output
    assert words in outcome.stderr
    assert "Traceback" not in outcome.output
    assert outcome.stdout == ""
    assert not (tmp_path / "out").exists()
    assert counts(service) == {"injector": 3, "linac": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1 "b"}', "line 1, column 9"),
        ("{'a': 1}", "double quotes"),
        ('{"a":\n  1\n "b"}', "line 3, column 2"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": {"$date": "soon"}}', "'soon' after $date is no date"),
        ('{"a": {"$date": 5}}', "5 after $date is no date"),
        ("[1]", "a query is a JSON object"),
        ('{"$date": "2026-01-01"}', "a query is a JSON object"),
        ("[" * 100_000, "cannot be a query"),
        ("@absent.json", "'absent.json' cannot be read"),
    ],
)
def test_bad_queries_are_refused_with_their_place(text, words):
    """What is no query is refused, with line and column where it is no JSON."""
    outcome = run("export", "nowhere", "--query", text)
    assert outcome.exit_code == 2
    assert words in " ".join(outcome.stderr.split())


def test_dates_in_queries():
    """{"$date": ...} is a date, wherever it stands; all else stays as it is."""
    query = '{"$or": [{"a": {"$gt": {"$date": "2026-01-02T03:04:05Z"}}}, {"b": [1]}]}'
    assert JSONQuery().convert(query, None, None) == {
        "$or": [
            {"a": {"$gt": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}},
            {"b": [1]},
        ]
    }


def test_a_date_selects_results(service):
    """A date from the command line compares with the results' own."""
    day = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    query = json.dumps({"date_modified": {"$lt": {"$date": day}}})
    outcome = run("delete", "injector", "--query", query, "--dry-run", "--json")
    assert json.loads(outcome.stdout)["documents"] == 2


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("2w", timedelta(weeks=2)),
        ("1w2d3h", timedelta(days=9, hours=3)),
        ("0s", timedelta(0)),
    ],
)
def test_durations(text, span):
    """A duration is whole numbers with units."""
    assert Duration().convert(text, None, None) == span


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "1.5h", "1 d", "1y", "9999999d"]
)
def test_bad_durations_are_refused(text):
    """Anything else is refused; the message shows how one is written."""
    with pytest.raises(click.BadParameter, match="such as 90d"):
        Duration().convert(text, None, None)


def test_copy_to_another_database(service, tmp_path, monkeypatch):
    """Results go from the embedded services to those of a Block, and a dry run not."""
    other = open_context(LumeServices(home=str(tmp_path / "other")))
    target = other.results_db_service()
    real = _running.open_context
    monkeypatch.setattr(
        _running, "open_context", lambda name: other if name == "lab" else real(name)
    )
    arguments = ("copy", "--from", "embedded", "--to", "lab", "--project", "linac")
    outcome = run(*arguments, "--dry-run")
    assert "3 of 3 results would be written" in outcome.stdout
    assert target.projects() == []
    report = json.loads(run(*arguments, "--json").stdout)
    assert (report["stored"], report["blobs"], report["dry_run"]) == (3, 3, False)
    assert counts(target) == {"linac": 3}
    assert "3 were there already" in run(*arguments).stdout


def test_prune_shows_what_would_go(service):
    """A dry run shows a table per project and type, and changes nothing."""
    outcome = run("prune", "--older-than", "90h", "--dry-run")
    assert outcome.exit_code == 0, outcome.output
    lines = [line.split() for line in outcome.stdout.splitlines()]
    assert lines[0] == ["project", "type", "would", "go", "kept"]
    assert lines[1] == ["injector", "Generic", "1", "2"]
    assert lines[2] == ["linac", "Generic", "1", "2"]
    assert "Would remove 2 results" in outcome.stdout
    assert counts(service) == {"injector": 3, "linac": 3}


def test_prune_removes_with_yes(service):
    """--yes removes without asking; --json reports it under stable names."""
    outcome = run(
        "prune", "--keep-last", 1, "--project", "linac", "--blobs-older-than", "0s",
        "--yes", "--json",
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout) == {
        "types": [
            {"project": "linac", "result_type": "Generic", "removed": 2, "kept": 1}
        ],
        "documents": 2,
        "expired": 0,
        "blobs": 2,
        "blob_bytes": 320_000,
        "dry_run": False,
    }
    assert counts(service) == {"injector": 3, "linac": 1}


def test_prune_asks_on_a_terminal(service, monkeypatch):
    """It shows what would go, and removes it only after a yes."""
    asked(monkeypatch)
    outcome = run("prune", "--keep-last", 1, input="n\n")
    assert outcome.exit_code == 1
    assert "Would remove 4 results" in outcome.stderr
    assert counts(service) == {"injector": 3, "linac": 3}
    outcome = run("prune", "--keep-last", 1, input="y\n")
    assert outcome.exit_code == 0
    assert "Removed 4 results" in outcome.stdout
    assert counts(service) == {"injector": 1, "linac": 1}
    # Where nothing is to be removed, nothing is asked.
    assert run("prune", "--keep-last", 1).exit_code == 0


def test_delete(service, monkeypatch):
    """Results go by query or hash, after a dry run and a question."""
    query = '{"inputs.day": {"$gt": 2}}'
    outcome = run("delete", "linac", "--query", query, "--dry-run", "--json")
    assert json.loads(outcome.stdout) == {
        "project": "linac",
        "documents": 1,
        "dry_run": True,
    }
    asked(monkeypatch)
    assert run("delete", "linac", "--query", query, input="n\n").exit_code == 1
    assert counts(service)["linac"] == 3
    outcome = run("delete", "linac", "--query", query, input="y\n")
    assert "Remove 1 of 3 results?" in outcome.stderr
    assert counts(service)["linac"] == 2
    some = [result.unique_hash for result in service.find("injector")]
    outcome = run("delete", "injector", "--hash", some[0], "--hash", some[2], "--yes")
    assert outcome.stdout == "Removed 2 results of the project 'injector'.\n"
    assert [result.unique_hash for result in service.find("injector")] == [some[1]]
    outcome = run("delete", "injector", "--query", "{}", "--type", "Impact", "--yes")
    assert "Removed 0 results" in outcome.stdout


def test_a_damaged_result_is_deleted_by_the_beginning_of_its_hash(service):
    """Nothing of it but its hash is read; an ambiguous beginning would be refused."""
    one = service.find_one("linac").unique_hash
    with service.db_service.engine.begin() as connection:
        connection.exec_driver_sql(
            "update result set document = replace(document, 'day', 'dai') "
            "where unique_hash = ?",
            (one,),
        )
    assert run("show", "linac", one[:8]).exit_code == 1
    outcome = run("delete", "linac", "--hash", one[:8], "--yes")
    assert outcome.stdout == "Removed 1 result of the project 'linac'.\n"
    assert counts(service)["linac"] == 2


def test_who_interrupts_is_told_what_stays(service, tmp_path, monkeypatch):
    """Ctrl-C ends a command with status 1 and says what became of its work."""

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prefect_lume.cli.results.export.export_results", interrupted)
    outcome = run("export", tmp_path / "out")
    assert outcome.exit_code == 1
    assert "Exporting was interrupted. Nothing was written." in outcome.stderr


def test_progress_goes_to_the_error_stream(service, tmp_path):
    """On a terminal a bar is shown, and the output is still JSON and nothing else."""
    outcome = run("export", tmp_path / "out", "--json", env={"FORCE_COLOR": "1"})
    assert "Exporting" in outcome.stderr
    assert json.loads(outcome.stdout)["documents"] == 6


@pytest.mark.parametrize("name", ["export", "import", "copy", "prune", "delete"])
def test_help(name):
    """Each command says what it does and what each option is."""
    outcome = run(name, "--help")
    assert outcome.exit_code == 0
    for line in outcome.output.splitlines():
        assert len(line) <= 80
    assert "--json" in outcome.output
