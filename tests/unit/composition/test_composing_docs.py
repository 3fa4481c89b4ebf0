"""The examples of docs/composing.md load and run, and its tables are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prefect_lume.composition import (
    ComposingFlow,
    FlowOfFlowsSpec,
    MappedParameter,
    load_yaml,
)

PAGE = Path(__file__).parents[3] / "docs" / "composing.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, flags=re.M | re.S)


@pytest.mark.parametrize("text", [body for kind, body in BLOCKS if kind == "yaml"])
def test_yaml_examples_load(text):
    """Each YAML block is a whole flow-of-flows."""
    assert load_yaml(text).composing_flows


def test_python_examples_run_and_print_what_the_page_shows(capsys):
    """Each Python block runs as it stands, and the output is the one shown."""
    codes = [body for kind, body in BLOCKS if kind == "python"]
    assert len(codes) >= 4
    found: dict = {}
    for code in codes:
        names: dict = {}
        exec(compile(code, str(PAGE), "exec"), names)
        found |= names
    (shown,) = [body for kind, body in BLOCKS if kind == "text"]
    printed = re.sub(r"version \w+", "version {version}", capsys.readouterr().out)
    assert printed.strip() == shown.strip()


@pytest.mark.parametrize("part", [FlowOfFlowsSpec, ComposingFlow, MappedParameter])
def test_every_key_is_in_a_table_of_the_page(part):
    """A key that the format has is a key that the page explains."""
    missing = [key for key in part.model_fields if f"\n| `{key}` |" not in TEXT]
    assert missing == []


def test_upstreams_file_stands_on_the_page(upstream_file):
    """The page shows the file that the tests load, to the letter."""
    assert upstream_file.read_text() in TEXT
