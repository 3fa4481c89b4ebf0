"""Completion in shells: the script, the commands, and that both are quick."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap

import pytest
from click.testing import CliRunner

from prefect_lume.cli._main import COMMANDS, cli

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
