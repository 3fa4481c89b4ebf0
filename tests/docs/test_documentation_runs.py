"""What the documentation shows is executed, and what exists is documented."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import click
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

import prefect_lume
from prefect_lume.cli._main import COMMANDS, cli
from prefect_lume.storage import sql

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
REGISTRY = ("deployments", "flows", "models", "projects")
NO_DOCTEST = {"prefect_lume.cli.__main__", "prefect_lume.migrations.env"}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(prefect_lume.__path__, "prefect_lume.")
    if module.name not in NO_DOCTEST
    and not module.name.startswith(
        ("prefect_lume.migrations.versions", "prefect_lume._examples")
    )
)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each page and module runs in a folder of its own."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.chdir(tmp_path)
    yield
    # A file of the same name in the next folder is another one.
    sql.close_all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_a_page_runs(page):
    """Every Python block of a documentation page runs, in the page's order."""
    sybil = Sybil(
        parsers=[PythonCodeBlockParser(), SkipParser()],
        path=str(page.parent),
        pattern=page.name,
    )
    for example in sybil.parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name):
    """Every `>>>` example of a module's docstrings gives what it shows."""
    module = importlib.import_module(name)
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert outcome.failed == 0


def _subcommands(command):
    """Return the commands of a group by name; none of any other command."""
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command)
    names = command.list_commands(context)
    return [(name, command.get_command(context, name)) for name in names]


def _check_section(page, heading, command):
    """Check that a command's section names all of its options."""
    assert heading in page
    section = page.split(heading)[1].split("\n##" if "###" in heading else "\n## ")[0]
    for option in command.params:
        flags = [flag for flag in option.opts if flag.startswith("-")]
        assert all(f"`{flag}`" in section for flag in flags), (heading, flags)


def test_every_command_is_documented_and_has_help():
    """Each command has a section in docs/cli.md, a help line, and exists."""
    page = (ROOT / "docs" / "cli.md").read_text()
    for name, (module, line) in COMMANDS.items():
        command = importlib.import_module(module).command
        assert command.name == name
        assert command.get_short_help_str(100) == line
        _check_section(page, f"\n## {name}\n", command)
        for inner, leaf in _subcommands(command):
            assert inner == leaf.name
            if name in {"results", "runs", "import", *REGISTRY}:
                _check_section(page, f"\n### {name} {inner}\n", leaf)
    assert set(cli.list_commands(None)) == set(COMMANDS)


def test_links_between_pages_lead_somewhere():
    """Each relative link of README and docs names a file that exists."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_public_names_exist():
    """Each name of the lazy root can be imported and is listed by dir()."""
    for name in prefect_lume.__all__:
        assert getattr(prefect_lume, name) is not None
        assert name in dir(prefect_lume)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = prefect_lume.nothing_here
