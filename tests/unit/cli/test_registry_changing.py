"""`models`, `deployments`, `projects`, `flows` on the command line: their changes."""

from __future__ import annotations

import json
import uuid

import pytest
from click.testing import CliRunner

from prefect_lume.cli._main import cli
from prefect_lume.config import configure, open_context
from prefect_lume.errors import NotFoundError
from prefect_lume.registry import SubflowEntry


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test has an embedded folder of its own, and an actor."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.setenv("PREFECT_LUME_ACTOR", "the shift")
    configure()


@pytest.fixture
def registry():
    return open_context().model_db_service()


def run(*arguments, **more):
    return CliRunner().invoke(cli, [str(item) for item in arguments], **more)


def done(*arguments):
    outcome = run(*arguments)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


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
    """Model 1: version 1.0 was live, 2.0 is, 3.0 was never; a project with a flow."""
    one = registry.store_model(
        author="a", laboratory="l", facility="f", beampath="b", description="Injector"
    )
    first = deployment(registry, one, "1.0")
    registry.store_project("linac")
    registry.store_project("empty")
    registry.store_flow(
        flow_id="f-track", flow_name="track", project_name="linac", deployment_id=first
    )
    deployment(registry, one, "2.0")
    third = deployment(registry, one, "3.0", is_live=False)
    registry.set_alias(one, "candidate", third)
    return registry


def state(registry):
    """Return all that a command could have changed."""
    return (
        registry.get_models(),
        registry.get_deployments(),
        registry.get_projects(),
        registry.get_flows(),
        registry.get_history(),
    )


#: What asks before it is done, and what it asks about.
GUARDED = [
    (["deployments", "promote", "1/3.0"], "in place of 2"),
    (["deployments", "demote", "Injector"], "not live any more"),
    (["deployments", "rollback", "1"], "rolled back to deployment 1"),
    (["deployments", "retire", "1/1.0"], "retired"),
    (["deployments", "delete", "1/3.0", "--force"], "deleted"),
    (["deployments", "alias", "1/2.0", "candidate"], "candidate 3 → 2"),
    (["deployments", "unalias", "1", "candidate"], "candidate 3 → none"),
    (["models", "delete", "1", "--force"], "model deleted"),
    (["flows", "delete", "track"], "flow 'track' deleted"),
    (["projects", "delete", "empty"], "project deleted"),
]
#: What is done at once.
PLAIN = [
    (["deployments", "tag", "1@live", "stage=test"], "stage none → 'test'"),
    (["deployments", "describe", "1@live", "Faster."], "'' → 'Faster.'"),
    (["deployments", "alias", "1/2.0", "2026-beamtime"], "2026-beamtime none → 2"),
    (["models", "tag", "1", "team=injector"], "team none → 'injector'"),
    (["projects", "create", "new", "--description", "text"], "project created"),
    (
        [
            *("models", "create", "--author=a", "--laboratory=l", "--facility=f"),
            *("--beampath=b", "--description=Other"),
        ],
        "model registered",
    ),
]


class TestEveryChange:
    @pytest.mark.parametrize(("arguments", "words"), GUARDED + PLAIN)
    def test_a_dry_run_tells_all_and_changes_nothing(self, filled, arguments, words):
        """It says what would be done, by whom and why; everything is as before."""
        before = state(filled)
        text = done(*arguments, "--dry-run", "--reason", "to see")
        assert text.startswith("Would be done: ")
        assert words in text
        assert "by the shift: to see" in text
        answer = json.loads(done(*arguments, "--dry-run", "--json"))
        assert answer["dry_run"] is True
        assert answer["events"][0]["actor"] == "the shift"
        assert state(filled) == before

    @pytest.mark.parametrize(("arguments", "words"), GUARDED)
    def test_nobody_to_ask_is_an_error(self, filled, arguments, words):
        """Without a terminal and without --yes it is shown and refused."""
        before = state(filled)
        outcome = run(*arguments)
        assert outcome.exit_code == 1
        assert words in outcome.stderr
        assert "--yes" in outcome.stderr
        assert outcome.stdout == ""
        assert state(filled) == before

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [([*a, "--yes"], w) for a, w in GUARDED] + PLAIN,
    )
    def test_it_is_done_and_told(self, filled, arguments, words):
        """With --yes, or where no question is due: the change with who and why."""
        text = done(*arguments, "--reason", "reviewed")
        assert words in text
        assert "by the shift: reviewed" in text
        (event, *_) = filled.get_history(limit=1)
        assert (event.actor, event.reason) == ("the shift", "reviewed")

    @pytest.mark.parametrize(("answer", "is_done"), [("y\n", True), ("n\n", False)])
    def test_an_answer_decides(self, filled, monkeypatch, answer, is_done):
        """On a terminal it asks; no is no."""
        monkeypatch.setattr("prefect_lume.cli.results._running.sys", _Terminal)
        outcome = run("deployments", "rollback", "1", input=answer)
        assert outcome.exit_code == (0 if is_done else 1)
        assert "Roll Injector back?" in outcome.stderr
        assert filled.get_live_deployment(1).version == ("1.0" if is_done else "2.0")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["deployments", "promote", "1/2.0"],
            ["deployments", "restore", "1/1.0"],
            ["deployments", "describe", "1/1.0", ""],
            ["deployments", "alias", "1/3.0", "candidate"],
            ["projects", "create", "linac"],
        ],
    )
    def test_what_is_so_already_is_no_error(self, filled, arguments):
        """Nothing is asked, nothing is written."""
        before = state(filled)
        assert "nothing to do" in done(*arguments)
        assert json.loads(done(*arguments, "--json"))["events"] == []
        assert state(filled) == before

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["deployments", "retire", "1/2.0"], "live one of model 1"),
            (["deployments", "retire", "1/3.0"], "alias 'candidate'"),
            (["deployments", "delete", "1/2.0"], "live one of model 1"),
            (["deployments", "delete", "1/3.0"], "candidate"),
            (["models", "delete", "1"], "live deployment"),
            (["projects", "delete", "linac"], "1 flow"),
            (["deployments", "alias", "1/1.0", "live"], "reserved"),
            (["deployments", "alias", "1/1.0", "v3"], "version or a number"),
            (["deployments", "alias", "1/1.0", "a b"], "letters, digits"),
            (["deployments", "unalias", "1", "nope"], "'candidate'"),
            (["deployments", "promote", "1/9"], "Known: '1.0', '2.0', '3.0'"),
            (["deployments", "demote", "9"], "no model"),
            (["deployments", "describe", "1/1.0", "x" * 4001], "4,000"),
            (["flows", "delete", "nothing"], "no flow"),
            (["projects", "delete", "nothing"], "no project"),
        ],
    )
    @pytest.mark.parametrize("how", ["--dry-run", "--yes"])
    def test_what_refuses_it_refuses_a_dry_run_too(self, filled, arguments, words, how):
        """The error is the same, and nothing has changed."""
        before = state(filled)
        if how == "--yes" and arguments[1] == "describe":
            how = "--json"
        outcome = run(*arguments, how)
        assert outcome.exit_code == 1
        assert words in outcome.stderr
        assert state(filled) == before


class _Terminal:
    """Stands for a process whose input is a terminal."""

    class stdin:  # noqa: N801 - the name in sys.
        @staticmethod
        def isatty():
            return True


class TestLive:
    def test_the_first_live_one_needs_no_question(self, filled):
        """Where nothing is replaced, nothing is asked."""
        filled.demote(1)
        assert "made live" in done("deployments", "promote", "1/3.0")

    def test_a_dry_run_names_the_flows_that_follow(self, filled):
        """What a promotion or a roll-back moves besides is told."""
        text = done("deployments", "promote", "1/3.0", "--dry-run")
        assert "flow linac/track follows, from 2.0" in text
        answer = json.loads(done("deployments", "rollback", "1", "--dry-run", "--json"))
        assert answer["flows"] == ["linac/track"]
        assert filled.get_flow(flow_name="track").deployment.version == "2.0"

    def test_a_flow_in_a_flow_of_flows_keeps_its_deployment(self, filled):
        """What takes part elsewhere is not deleted, by force neither."""
        filled.store_flow_of_flows(
            parent_flow_id="f-chain",
            parent_flow_name="chain",
            project_name="linac",
            subflows=[SubflowEntry("f-track", "one", 1)],
        )
        for arguments in (
            ["deployments", "delete", "1/2.0", "--force"],
            ["models", "delete", "1", "--force"],
            ["flows", "delete", "track"],
        ):
            outcome = run(*arguments, "--yes")
            assert outcome.exit_code == 1
            assert "chain" in outcome.stderr
        assert len(filled.get_deployments()) == 3


class TestTags:
    def test_tags_are_set_and_removed(self, filled):
        """KEY=VALUE sets, --remove removes; values may hold signs."""
        done("deployments", "tag", "1@live", "a=1", "b=x=y z", "c=")
        done("deployments", "tag", "1@live", "a=2", "--remove", "c")
        assert filled.get_live_deployment(1).tags == {"a": "2", "b": "x=y z"}

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["stage"],
            ["=test"],
            ["a=1", "a=2"],
            ["a=1", "--remove", "a"],
        ],
    )
    def test_what_is_no_tag_is_refused(self, filled, arguments):
        """The message shows how tags are written."""
        for group, name in (("models", "1"), ("deployments", "1@live")):
            outcome = run(group, "tag", name, *arguments)
            assert outcome.exit_code == 2
            assert "KEY" in outcome.stderr or "key" in outcome.stderr


@pytest.fixture
def package(tmp_path):
    """A model package with one flow."""
    name = f"lume_cli_{uuid.uuid4().hex[:8]}"
    root = tmp_path / "package"
    (root / name).mkdir(parents=True)
    (root / "environment.yml").write_text("dependencies: [python]\n")
    (root / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "4.0"\n'
        f"[project.entry-points.orchestration]\n"
        f'"{name}.flow" = "{name}.flow:track"\n'
    )
    (root / name / "__init__.py").write_text("")
    (root / name / "flow.py").write_text(
        f"from prefect import flow\n@flow(name='{name}')\ndef track() -> int:\n"
        "    return 2\n"
    )
    return root


class TestCreate:
    def test_a_package_becomes_a_deployment(self, filled, package):
        """A dry run stores nothing; then it is stored with all that was said of it."""
        arguments = ["deployments", "create", "Injector", package, "--project", "linac"]
        more = ["--alias", "beamtime", "--tag", "stage=test", "--description", "First."]
        more += ["--parent", "1/3.0", "--not-live"]
        before = state(filled)
        assert "registered" in done(*arguments, *more, "--dry-run")
        assert state(filled) == before
        done(*arguments, *more)
        found = filled.get_deployment_by_alias(1, "beamtime")
        assert (found.version, found.tags) == ("4.0", {"stage": "test"})
        assert (found.description, found.parent_deployment_id) == ("First.", 3)

    def test_taking_the_place_of_the_live_one_is_asked(self, registry, package):
        """A new version that becomes live in place of another one needs a yes."""
        number = registry.store_model(
            author="a", laboratory="l", facility="f", beampath="b", description="Other"
        )
        registry.store_project("linac")
        deployment(registry, number, "0.1")
        arguments = ["deployments", "create", number, package, "--project", "linac"]
        outcome = run(*arguments)
        assert outcome.exit_code == 1
        assert "in place of" in outcome.stderr
        assert registry.get_live_deployment(number).version == "0.1"
        done(*arguments, "--yes", "--reason", "reviewed")
        assert registry.get_live_deployment(number).version == "4.0"

    @pytest.mark.parametrize(
        ("source", "options", "words"),
        [
            ("nowhere.tar.gz", [], "nowhere.tar.gz"),
            (None, ["--project", "unknown"], "unknown"),
            (None, ["--parent", "9"], "deployment"),
            (None, ["--alias", "live"], "reserved"),
        ],
    )
    def test_what_is_wrong_is_named(self, filled, package, source, options, words):
        """Nothing is stored, and the message says why."""
        before = state(filled)
        arguments = ["deployments", "create", "1", source or package, "--not-live"]
        outcome = run(*arguments, "--project", "linac", *options)
        assert outcome.exit_code == 1, outcome.output
        assert words in outcome.stderr
        assert state(filled) == before

    def test_an_unknown_model_is_refused_first(self, package):
        """The model is looked for before the package."""
        arguments = ["create", "Nothing", package, "--project", "linac"]
        outcome = run("deployments", *arguments)
        assert outcome.exit_code == 1
        assert "no model" in outcome.stderr


class TestRename:
    def test_a_project_is_renamed_with_its_flows(self, filled):
        """A dry run changes nothing; its history and flows go with it."""
        before = state(filled)
        arguments = ["projects", "rename", "linac", "injector"]
        text = done(*arguments, "--dry-run")
        assert "'linac' → 'injector'" in text
        assert state(filled) == before
        done(*arguments, "--yes", "--reason", "the new name")
        assert filled.get_flow(flow_name="track").project_name == "injector"
        with pytest.raises(NotFoundError):
            filled.get_project("linac")

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (("linac", "empty"), "'empty' already"),
            (("nothing", "other"), "no project"),
            (("linac", ""), "new_name"),
        ],
    )
    def test_what_cannot_be_is_refused(self, filled, names, words):
        """A name that is taken, one that is not there, none."""
        outcome = run("projects", "rename", *names, "--yes")
        assert outcome.exit_code == 1
        assert words in outcome.stderr
