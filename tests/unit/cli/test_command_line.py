"""The command line: help, errors, checks, compositions."""

import json
import uuid

import pytest
from click.testing import CliRunner

from prefect_lume import __version__
from prefect_lume.cli._main import cli
from prefect_lume.cli.compose import parse_parameters
from prefect_lume.config import configure
from prefect_lume.errors import InvalidInputError

YAML = """\
name: chain
project_name: test
composing_flows:
  - name: first
  - name: second
    mapped_parameters:
      x: {parent_flow_name: first, map_type: raw}
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test has an embedded folder of its own."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    configure()


def run(*arguments):
    """Run a command line as a person would."""
    return CliRunner().invoke(cli, [str(item) for item in arguments])


def test_help_lists_the_commands():
    """`--help` shows each command with its line."""
    outcome = run("--help")
    assert outcome.exit_code == 0
    for name in ("check", "compose", "db", "demo"):
        assert f"\n  {name} " in outcome.output


def test_version_is_the_packages():
    """`--version` shows the package's version."""
    assert run("--version").output == f"prefect-lume, version {__version__}\n"


def test_unknown_command_is_refused():
    """A command that does not exist ends with status 2 and names it."""
    outcome = run("demmo")
    assert outcome.exit_code == 2
    assert "demmo" in outcome.output


def test_an_error_is_one_message_without_traceback(tmp_path):
    """An error of ours is printed on the error stream, with status 1."""
    outcome = run("compose", tmp_path / "absent.yaml")
    assert outcome.exit_code == 1
    assert "absent.yaml" in outcome.stderr
    assert "Traceback" not in outcome.output
    assert outcome.stdout == ""


def test_debug_raises_the_error(tmp_path):
    """With --debug the error is raised, so that its traceback is seen."""
    outcome = run("--debug", "compose", tmp_path / "absent.yaml")
    assert type(outcome.exception).__name__ == "NotFoundError"


def test_unknown_flows_are_named_with_their_lines(tmp_path):
    """Every unknown subflow is a problem with its line in the file."""
    path = tmp_path / "chain.yaml"
    path.write_text(YAML)
    outcome = run("compose", path)
    assert outcome.exit_code == 1
    assert "line 4" in outcome.stderr
    assert "line 5" in outcome.stderr
    assert "'first'" in outcome.stderr
    assert "'second'" in outcome.stderr


def test_compose_needs_one_source(tmp_path):
    """A file and --from-registry exclude each other; none is refused, too."""
    assert run("compose").exit_code == 2
    assert run("compose", "x.yaml", "--from-registry", "a/b").exit_code == 2


def test_unregistered_composition_is_not_found():
    """--from-registry of something unknown names it."""
    outcome = run("compose", "--from-registry", "nowhere/nothing")
    assert outcome.exit_code == 1
    assert "nothing" in outcome.stderr


def test_check_on_the_embedded_default():
    """`check` lists three services that work; --json is for a script."""
    outcome = run("check")
    assert outcome.exit_code == 0
    assert outcome.output.count(" ok ") == 3
    rows = json.loads(run("check", "--json").output)
    assert [row["service"] for row in rows] == ["registry", "results", "files"]
    assert all(row["ok"] for row in rows)


def test_db_upgrade_and_current():
    """`db upgrade` makes the tables once; `db current` shows the revision."""
    before = json.loads(run("db", "current", "--json").output)
    assert before[0]["revision"] is None
    first = run("db", "upgrade").output
    assert f"no tables → {before[0]['head']}" in first
    assert "already" in run("db", "upgrade").output
    assert "up to date" in run("db", "current").output


@pytest.fixture
def flows_module(tmp_path, monkeypatch):
    """A registered package with two flows, and the file that chains them."""
    from prefect_lume.config import open_context
    from prefect_lume.models import Model

    name = f"lume_cli_{uuid.uuid4().hex[:8]}"
    root = tmp_path / "package"
    (root / name).mkdir(parents=True)
    (root / "environment.yml").write_text("dependencies: [python]\n")
    (root / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
        f"[project.entry-points.orchestration]\n"
        f'"{name}.flow" = "{name}.flow"\n'
    )
    (root / name / "__init__.py").write_text("")
    (root / name / "flow.py").write_text(
        "from prefect import flow\n"
        f"@flow(name='{name}-one')\ndef one(n: int = 2) -> int:\n    return n\n"
        f"@flow(name='{name}-two')\ndef two(x: int) -> int:\n    return x + 1\n"
    )
    open_context().scheduling_service().create_project("test")
    model = Model.create_model(
        author="a", laboratory="l", facility="f", beampath="b", description=name
    )
    model.store_deployment(root, "test")
    path = tmp_path / "chain.yaml"
    path.write_text(
        f"name: {name}-chain\nproject_name: test\ncomposing_flows:\n"
        f"  - {{name: one, flow_name: {name}-one}}\n"
        f"  - name: two\n    flow_name: {name}-two\n"
        "    mapped_parameters:\n"
        "      x: {parent_flow_name: one, map_type: raw}\n"
    )
    return path


def test_compose_draws_registers_and_runs(flows_module):
    """A registered chain is drawn, registered, run, and found in the registry."""
    outcome = run(
        "compose", flows_module, "--register", "--run", "-p", "one__n=5", "--json"
    )
    assert outcome.exit_code == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["stages"] == [["one"], ["two"]]
    assert set(report["flow_runs"]) == {"one", "two"}
    assert "✓ Running two" in outcome.stderr
    again = run("compose", "--from-registry", f"test/{report['name']}")
    assert again.exit_code == 0, again.stderr
    assert "x ◀─raw─── one" in again.output
    mermaid = run("compose", flows_module, "--mermaid").output
    assert mermaid.startswith(("flowchart", "graph"))


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("one__n=many", ["one__n", "integer"]),
        ("one__m=3", ["one__m", "Did you mean 'one__n'"]),
        ("one__n", ["name=value"]),
    ],
)
def test_compose_refuses_wrong_parameters(flows_module, parameter, words):
    """A parameter that does not fit is one message that names it, and nothing runs."""
    outcome = run("compose", flows_module, "--run", "-p", parameter)
    assert outcome.exit_code == 1
    assert all(word in outcome.stderr for word in words)
    assert "Running" not in outcome.stderr


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["a__n=3"], {"a__n": 3}),
        (["a__name=beam"], {"a__name": "beam"}),
        (['a__list=[1, "x"]'], {"a__list": [1, "x"]}),
        (["a__text=x=y"], {"a__text": "x=y"}),
        ([], {}),
    ],
)
def test_parameters_are_json_or_text(pairs, expected):
    """A value is JSON where it is JSON, and text otherwise."""
    assert parse_parameters(tuple(pairs)) == expected


@pytest.mark.parametrize("pair", ["n", "=3", ""])
def test_parameter_without_a_name_or_value_is_refused(pair):
    """The error shows the form of a parameter."""
    with pytest.raises(InvalidInputError, match="name=value"):
        parse_parameters((pair,))
