"""`models`, `deployments`, `projects`, `flows` on the command line: what they show."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest
from click.testing import CliRunner

from prefect_lume.cli._main import cli
from prefect_lume.config import configure, open_context
from prefect_lume.registry import SubflowEntry


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test has an embedded folder of its own, and a zone."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.setenv("PREFECT_LUME_ACTOR", "the shift")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    configure()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def registry():
    return open_context().model_db_service()


def run(*arguments):
    return CliRunner().invoke(cli, [str(item) for item in arguments])


def shown(*arguments):
    outcome = run(*arguments)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def found(*arguments):
    return json.loads(shown(*arguments, "--json"))


def model(registry, description, laboratory="slac"):
    return registry.store_model(
        author="Jackie Garrahan",
        laboratory=laboratory,
        facility="lcls",
        beampath="cu_hxr",
        description=description,
    )


def deployment(registry, model_id, version, **more):
    return registry.store_deployment(
        model_id=model_id,
        version=version,
        source=f"https://example.org/{version}.tar.gz",
        sha256="ab" * 32,
        package_import_name="my_model",
        entrypoints={"track": "my_model.flow:track"},
        **more,
    )


@pytest.fixture
def filled(registry):
    """Two models, three deployments of the first, a project with flows."""
    one, two = model(registry, "Injector"), model(registry, "Linac", "desy")
    first = deployment(registry, one, "1.0")
    registry.store_project("linac", "the linac's")
    registry.store_flow(
        flow_id="f-track", flow_name="track", project_name="linac", deployment_id=first
    )
    second = deployment(registry, one, "2.0", reason="faster", lock="version: 1\n")
    third = deployment(registry, one, "3.0", is_live=False, parent_deployment_id=first)
    registry.set_alias(one, "candidate", third)
    registry.tag_deployment(third, {"stage": "test"})
    registry.retire_deployment(first, reason="wrong sign")
    registry.store_flow_of_flows(
        parent_flow_id="f-chain",
        parent_flow_name="chain",
        project_name="linac",
        subflows=[
            SubflowEntry("f-track", "one", 1, parameters={"steps": 10}),
            SubflowEntry(
                "f-track",
                "two",
                2,
                mapped_parameters={
                    "beam": {"parent_flow_name": "one", "map_type": "raw"}
                },
            ),
        ],
    )
    return {"models": (one, two), "deployments": (first, second, third)}


class TestModels:
    def test_they_are_listed_with_what_is_live(self, filled):
        """Number, description, live version, where, author."""
        header, one, two = shown("models", "list").splitlines()
        assert header.split() == ["id", "description", "live", "where", "author"]
        number, *_ = filled["models"]
        assert one.split() == [
            *(str(number), "Injector", "2.0", "slac/lcls/cu_hxr"),
            *("Jackie", "Garrahan"),
        ]
        assert "desy/lcls" in two

    def test_a_filter_chooses(self, filled):
        """WHERE is the search language; JSON has the records and the next page."""
        answer = found("models", "list", "laboratory = 'desy'")
        assert [item["description"] for item in answer["models"]] == ["Linac"]
        assert answer["next_page"] is None
        assert answer["models"][0]["tags"] == {}

    def test_one_is_shown_with_its_deployments(self, filled):
        """What is live since when, by whom, why; then the deployments."""
        text = shown("models", "show", "Injector")
        assert "2.0, since 20" in text
        assert "by the shift: faster" in text
        assert text.index("3.0") < text.rindex("1.0")
        answer = found("models", "show", filled["models"][0])
        assert [d["version"] for d in answer["deployments"]] == ["3.0", "2.0", "1.0"]

    def test_history_is_in_words(self, filled):
        """The newest first, with who and why; JSON has before and after."""
        lines = shown("models", "history", "Injector", "--limit", 1).splitlines()
        assert lines[0].split("  ")[2] == "deployment 1 retired"
        assert lines[1].strip() == "by the shift: wrong sign"
        event = found("models", "history", "Injector")[0]
        assert (event["kind"], event["model_id"]) == ("deployment.retired", 1)
        assert set(event) >= {"before", "after", "actor", "reason", "number"}

    def test_the_history_of_a_deleted_one_stays(self, registry, filled):
        """By its number, what happened to a model is found after it is gone."""
        number = model(registry, "Gone")
        registry.delete_model(number, reason="by mistake")
        assert "model deleted" in shown("models", "history", number)

    def test_the_report_is_printed_or_written(self, filled, tmp_path):
        """The page of the Prefect UI comes as text, or into a file."""
        assert "### Injector · 2.0" in shown("models", "report")
        file = tmp_path / "report.md"
        shown("models", "report", "--output", file)
        assert "### Injector · 2.0" in file.read_text("utf-8")
        outcome = run("models", "report", "--output", tmp_path / "no" / "report.md")
        assert outcome.exit_code == 1
        assert "folder that exists" in outcome.stderr

    def test_pages_follow_each_other(self, registry):
        """What does not fit a page is told, with what asks for it."""
        for name in "abc":
            model(registry, name)
        outcome = run("models", "list", "--limit", 2)
        assert "There are more" in outcome.stderr
        token = found("models", "list", "--limit", 2)["next_page"]
        answer = found("models", "list", "--limit", 2, "--page", token)
        assert [item["description"] for item in answer["models"]] == ["c"]

    def test_nothing_yet_tells_what_to_do(self):
        """An empty registry is no error."""
        outcome = run("models", "list")
        assert (outcome.exit_code, outcome.stdout) == (0, "")
        assert "models create" in outcome.stderr
        assert "deployments create" in run("deployments", "list").stderr


class TestDeployments:
    def test_they_are_listed_newest_first(self, filled):
        """Live and retired ones have their sign."""
        header, third, second, first = shown("deployments", "list").splitlines()
        assert header.split()[:5] == ["id", "version", "state", "model", "aliases"]
        assert "● live" in second
        assert "⊘ retired" in first
        assert "candidate" in third

    @pytest.mark.parametrize(
        ("arguments", "versions"),
        [
            ([], ["3.0", "2.0", "1.0"]),
            (["is_live"], ["2.0"]),
            (["tags.stage = 'test'"], ["3.0"]),
            (["--model", "Injector", "version < '3' OR is_live"], ["2.0", "1.0"]),
            (["--model", "Linac", "version = '1.0' OR is_live"], []),
            (["--sort", "version", "--limit", "2"], ["1.0", "2.0"]),
        ],
    )
    def test_options_choose(self, filled, arguments, versions):
        """A filter, a model, an order and a limit."""
        answer = found("deployments", "list", *arguments)
        assert [item["version"] for item in answer["deployments"]] == versions

    @pytest.mark.parametrize(
        ("name", "version"),
        [
            ("2", "2.0"),
            ("1/1.0", "1.0"),
            ("Injector/3.0", "3.0"),
            ("Injector@live", "2.0"),
            ("1@latest", "3.0"),
            ("1@candidate", "3.0"),
        ],
    )
    def test_names(self, filled, name, version):
        """A number, MODEL/VERSION, MODEL@ALIAS, MODEL@live, MODEL@latest."""
        assert found("deployments", "show", name)["version"] == version

    @pytest.mark.parametrize(
        ("description", "version"),
        [("a/b", "1"), ("a@b", "1/2"), ("1/2", "1@2"), ("12", "3")],
    )
    def test_names_may_hold_the_signs(self, registry, description, version):
        """Signs in a description or version do not hide a deployment."""
        number = model(registry, description)
        deployment(registry, number, version)
        for name in (f"{number}/{version}", f"{number}@live"):
            assert found("deployments", "show", name)["version"] == version
        if not description.isdigit():
            name = f"{description}@live"
            assert found("deployments", "show", name)["version"] == version

    def test_one_is_shown_in_full(self, filled):
        """Hashes and numbers are not cut, however narrow the terminal."""
        text = shown("deployments", "show", "1@live")
        assert "ab" * 32 in text
        assert "serves" in text
        assert "linac/track (f-track)" in text
        assert "since 20" in text
        assert shown("deployments", "show", 2, "--lock") == "version: 1\n"

    def test_lineage_is_a_tree(self, filled):
        """What was made from what, downwards."""
        first, _, third = filled["deployments"]
        lines = shown("deployments", "lineage", third).splitlines()
        assert lines[0].startswith(f"{first}  Injector 1.0")
        assert lines[1].startswith(f"└── {third}  Injector 3.0")
        answer = found("deployments", "lineage", first)
        assert [item["deployment_id"] for item in answer["descendants"]] == [third]

    def test_history_has_what_was_lost_to_another(self, filled):
        """A deployment's history tells by which one it was replaced."""
        text = shown("deployments", "history", filled["deployments"][0])
        assert "deployment 2 (version 2.0) made live, in place of 1" in text

    def test_times_are_local_and_have_their_zone(self, filled):
        """Tables show the terminal's zone; JSON is UTC in ISO 8601."""
        assert "stored (CE" in shown("deployments", "list")
        stored = found("deployments", "show", 1)["deploy_date"]
        assert stored.endswith("+00:00")
        local = datetime.fromisoformat(stored).astimezone()
        assert f"{local:%Y-%m-%d %H:%M %Z}" in shown("deployments", "show", 1)

    def test_lines_fit_the_terminal(self, registry):
        """Long texts give way; numbers, states and times do not."""
        number = model(registry, "description " * 20)
        one = deployment(registry, number, "version-" * 20)
        registry.set_alias(number, "alias-" * 20, one)
        for group in ("models", "deployments"):
            for line in shown(group, "list").splitlines():
                assert len(line) <= 80
        assert "● live" in shown("deployments", "list")

    def test_stored_text_cannot_steer_the_terminal(self, registry):
        """Control characters and markup are shown as text."""
        odd = "[red]\x1b[2J\nname"
        number = model(registry, odd)
        one = deployment(registry, number, odd, reason=odd, description=odd)
        for arguments in (
            ["models", "list"],
            ["models", "show", number],
            ["models", "history", number],
            ["deployments", "list"],
            ["deployments", "show", one],
            ["deployments", "lineage", one],
        ):
            text = shown(*arguments)
            assert "\x1b" not in text
            assert "[red]" in text


class TestProjectsAndFlows:
    def test_projects(self, filled):
        """A project is listed and shown, with its flows."""
        assert "linac" in shown("projects", "list")
        assert "track, served by Injector 2.0" in shown("projects", "show", "linac")
        answer = found("projects", "show", "linac")
        assert [flow["flow_name"] for flow in answer["flows"]] == ["chain", "track"]
        assert "project created" in shown("projects", "history", "linac")

    def test_flows(self, filled):
        """Flows are listed with what serves them, and their whole ids."""
        text = shown("flows", "list")
        assert "linac/track" in text
        assert "f-track" in text
        answer = found("flows", "list", "--project", "linac")
        assert {item["flow_id"] for item in answer} == {"f-chain", "f-track"}
        assert "flow 'track' registered" in shown("flows", "history", "track")

    @pytest.mark.parametrize("name", ["chain", "linac/chain", "f-chain"])
    def test_a_parent_is_a_tree(self, filled, name):
        """Subflows by position, with what feeds them; where a flow takes part."""
        text = shown("flows", "show", name)
        assert text.index("1. one (linac/track)") < text.index("steps = 10")
        assert text.index("2. two (linac/track)") < text.index("beam ←")
        answer = found("flows", "show", name)
        assert [item["position"] for item in answer["subflows"]] == [1, 2]
        uses = found("flows", "show", "track")["uses"]
        assert [(use["name"], use["position"]) for use in uses] == [
            *(("one", 1), ("two", 2))
        ]
        assert "linac/chain: 1. one" in shown("flows", "show", "track")


class TestWrongInputs:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["models", "show", "Injektor"], "Did you mean 'Injector'"),
            (["models", "show", "99"], "no model with model_id 99"),
            (["models", "show", "9" * 30], "model_id"),
            (["models", "history", "99"], "no model with model_id 99"),
            (["deployments", "show", "99"], "no deployment with deployment_id 99"),
            (["deployments", "show", "Injector"], "names no deployment"),
            (["deployments", "show", "Injector/9"], "'1.0', '2.0', '3.0'"),
            (["deployments", "show", "Injector@nope"], "'candidate', 'latest', 'live'"),
            (["deployments", "show", "Linac@live"], "live"),
            (["deployments", "show", "Nothing@live"], "no model"),
            (["deployments", "history", "99"], "no deployment"),
            (["deployments", "lineage", "99"], "no deployment"),
            (["projects", "show", "linak"], "Did you mean 'linac'"),
            (["projects", "history", "linak"], "no project"),
            (["flows", "show", "trakc"], "Did you mean 'track'"),
            (["flows", "show", "linac/nothing"], "no flow"),
            (["models", "list", "laboratry = 'slac'"], "no field 'laboratry'"),
            (["models", "list", "laboratory = "], "At character"),
            (["deployments", "list", "--sort", "nothing"], "no order by 'nothing'"),
            (["deployments", "list", "--page", "nothing"], "page"),
            (["deployments", "list", "--model", "nothing"], "no model"),
        ],
    )
    def test_what_is_not_there_is_named(self, filled, arguments, words):
        """One message on the error stream, with what there is; status 1."""
        outcome = run(*arguments)
        assert outcome.exit_code == 1, outcome.output
        assert words in outcome.stderr
        assert outcome.stdout == ""

    def test_a_description_that_several_have_needs_a_number(self, registry):
        """The message lists the numbers."""
        numbers = [model(registry, "Twin"), model(registry, "Twin", "desy")]
        for arguments in (
            ["models", "show", "Twin"],
            ["deployments", "show", "Twin/1"],
        ):
            outcome = run(*arguments)
            assert outcome.exit_code == 1
            assert all(f"'{number}'" in outcome.stderr for number in numbers)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["models", "list", "--limit", "0"],
            ["models", "list", "--limit", "many"],
            ["deployments", "list", "--limit", "10001"],
            ["deployments", "history", "1", "--limit", "-1"],
            ["models", "show"],
            ["flows", "nothing"],
        ],
    )
    def test_wrong_usage_ends_with_status_2(self, arguments):
        """Options and arguments are checked before the registry is asked."""
        assert run(*arguments).exit_code == 2

    def test_every_command_has_help(self):
        """`--help` works for each, and says something."""
        for group in ("models", "deployments", "projects", "flows"):
            assert run(group, "--help").exit_code == 0
            for name in cli.get_command(None, group).commands:
                outcome = run(group, name, "--help")
                assert outcome.exit_code == 0
                assert len(outcome.stdout.splitlines()) > 4
