"""``prefect-lume results indices``: shown, applied, and what stands in the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from click.testing import Result as Outcome

from prefect_lume.cli._main import cli
from prefect_lume.config import configure, open_context
from prefect_lume.results import Index, Result, model_docs, register_document


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an embedded folder and registered types of its own."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.setattr(model_docs, "_REGISTERED", {})
    configure()


def shot(*indices: Index) -> type[Result]:
    """Register a version of one document type."""
    model_docs._REGISTERED.clear()
    made = type("Shot", (Result,), {"indices": indices, "__module__": __name__})
    return register_document(made)


def run(*arguments: str) -> Outcome:
    return CliRunner().invoke(cli, ["results", "indices", *arguments])


def rows(*arguments: str) -> list[dict[str, Any]]:
    return [
        row
        for row in json.loads(run("--json", *arguments).stdout)
        if row["type"] == "Shot"
    ]


def test_what_is_declared_is_shown_and_applied() -> None:
    """Declared indices are missing, then created, then present."""
    shot(
        Index(("inputs.n",), unique=True, where={"inputs.kind": "golden"}),
        Index(("inputs.line", "inputs.charge"), sparse=True),
    )
    assert [row["state"] for row in rows()] == ["missing", "missing"]
    assert [row["state"] for row in rows("--apply")] == ["created", "created"]
    shown = rows("--type", "Shot")
    assert [row["state"] for row in shown] == ["present", "present"]
    assert shown[0]["options"] == "unique, where inputs.kind $eq 'golden'"
    assert shown[1]["fields"] == ["inputs.line", "inputs.charge"]
    assert shown[1]["sparse"]


def test_what_is_not_declared_any_more_goes_when_applied() -> None:
    """An index of before is obsolete, and --apply drops it."""
    shot(Index(("inputs.n",)))
    run("--apply")
    shot()
    assert [row["state"] for row in rows()] == ["obsolete"]
    assert [row["state"] for row in rows("--apply")] == ["dropped"]
    assert rows() == []


def test_results_in_the_way_are_listed() -> None:
    """A blocked index ends with status 1 and names projects, values and hashes."""
    plain = shot()
    service = open_context().results_db_service()
    stored = [
        service.store(plain(project_name="injector", inputs={"n": 7, "note": note}))
        for note in "ab"
    ]
    shot(Index(("inputs.n",), unique=True))
    for arguments in ((), ("--apply",)):
        outcome = run(*arguments)
        assert outcome.exit_code == 1
        assert "injector: inputs.n = 7" in outcome.stdout
        for reference in stored:
            assert reference.unique_hash in outcome.stdout
    (row,) = rows("--project", "injector")
    assert (row["state"], row["duplicate_groups"]) == ("blocked", 1)
    assert rows("--project", "other") == []


def test_an_unknown_type_is_refused() -> None:
    """A type that nobody registered is an error that lists those there are."""
    outcome = run("--type", "Shoot")
    assert outcome.exit_code == 1
    assert "Known: " in outcome.stderr
