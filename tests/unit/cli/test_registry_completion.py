"""Completion in shells: the script, the commands, and that both are quick."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap

import click
import pytest
from click.testing import CliRunner

from prefect_lume.cli._main import COMMANDS, cli
from prefect_lume.config import configure, open_context

#: Asks the script's function as bash does, with a stand-in for the command itself.
_ASK = """\
eval "$SCRIPT"
prefect_lume_stand_in() { printf 'plain,%s\\n' "${ANSWERS[@]}"; }
env() { prefect_lume_stand_in; }
compopt() { echo compopt "$@"; }
COMP_WORDS=(prefect-lume deployments show x); COMP_CWORD=3
ANSWERS=('Beam line @ 250 pC/' 'plain@live' "it's")
_prefect_lume_completion prefect-lume
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell):
    outcome = CliRunner().invoke(cli, ["completion", shell])
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def complete(*words):
    """Return what the command line offers for the last word."""
    environment = {
        "_PREFECT_LUME_COMPLETE": "zsh_complete",
        "COMP_WORDS": " ".join(["prefect-lume", *words]),
        "COMP_CWORD": str(len(words)),
    }
    arguments = [sys.executable, "-c", _COMPLETE]
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, check=True
    )
    *lines, modules = done.stdout.splitlines()
    return lines[1::3], set(modules.split())


_COMPLETE = textwrap.dedent("""\
    import sys
    from prefect_lume.cli._main import cli
    try:
        cli(prog_name="prefect-lume", args=[])
    except SystemExit:
        print(*sys.modules)
""")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell):
    """The script defines the function and ties it to the command."""
    text = script(shell)
    assert "_prefect_lume_completion" in text
    assert f"_PREFECT_LUME_COMPLETE={shell}_complete" in text


@pytest.mark.parametrize("shell", ["tcsh", "", "BASH "])
def test_another_shell_is_refused(shell):
    """Shells for which there is no script are named with those there are."""
    outcome = CliRunner().invoke(cli, ["completion", shell])
    assert outcome.exit_code == 2
    assert "'bash', 'fish', 'zsh'" in outcome.stderr


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_escapes_names_and_goes_on_after_a_model():
    """Blanks and quotes are escaped; after MODEL/ no blank is put; "@" ends no word."""
    done = subprocess.run(
        ["bash", "-c", _ASK],
        env={"SCRIPT": script("bash"), "COMP_WORDBREAKS": " @=", "PATH": "/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "compopt -o nospace",
        r"Beam\ line\ @\ 250\ pC/",
        "plain@live",
        r"it\'s",
    ]
    assert "COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}" in script("bash")


def test_commands_are_completed_without_loading_them():
    """What commands there are is known without Prefect, SQLAlchemy or any command."""
    names, modules = complete("")
    assert names == sorted(COMMANDS)
    assert not modules & {"prefect", "sqlalchemy", "pydantic", "rich"}
    names, modules = complete("results", "in")
    assert names == ["indices"]
    assert "prefect_lume.cli.results.indices" not in modules


def test_options_are_completed():
    """After a dash come the options of the command."""
    names, _ = complete("runs", "list", "--pi")
    assert names == ["--pipeline"]


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Ask for names as a shell does, in a registry of two models."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    configure()
    registry = open_context().model_db_service()
    for name in ("LCLS injector", "100%_x"):
        number = registry.store_model(
            author="a", laboratory="l", facility="f", beampath="b", description=name
        )
        first = registry.store_deployment(
            model_id=number,
            version="1.0",
            source="s",
            sha256="ab" * 32,
            package_import_name="x",
        )
        registry.set_alias(number, "candidate", first)
    registry.store_project("linac")
    registry.store_flow(flow_id="f", flow_name="track", project_name="linac")

    def ask(*words):
        group = cli.get_command(None, words[0])
        command = group.get_command(None, words[1])
        context = click.Context(command)
        argument = command.params[0]
        return [item.value for item in argument.shell_complete(context, words[2])]

    return ask


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("models", "show", "LC"), ["LCLS injector"]),
        (("models", "show", "100%_"), ["100%_x"]),
        (("models", "show", "100__"), []),
        (("deployments", "show", "LC"), ["LCLS injector/", "LCLS injector@live"]),
        (("deployments", "promote", "LCLS injector/"), ["LCLS injector/1.0"]),
        (("deployments", "alias", "1@c"), ["1@candidate"]),
        (("deployments", "show", "1@l"), ["1@latest", "1@live"]),
        (("deployments", "show", "9@"), []),
        (("projects", "show", "li"), ["linac"]),
        (("flows", "show", "linac/"), ["linac/track"]),
        (("flows", "show", "x"), []),
    ],
)
def test_names_are_completed(offered, words, names):
    """Models, deployments by version and alias, projects and flows."""
    assert offered(*words) == names


def test_where_there_is_no_registry_nothing_is_offered(tmp_path, monkeypatch):
    """Completion makes no database, and no error ends up in the shell's line."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "none"))
    command = cli.get_command(None, "models").get_command(None, "show")
    context = click.Context(command)
    assert command.params[0].shell_complete(context, "") == []
    assert not (tmp_path / "none").exists()
    context.params["services"] = "no-such-block"
    assert command.params[0].shell_complete(context, "") == []
