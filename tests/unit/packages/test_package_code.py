"""What is read from a syntax tree, and that nothing is run for it."""

from __future__ import annotations

import pytest
from prefect.flows import load_flow_from_entrypoint

from prefect_lume.errors import PackageError
from prefect_lume.packages.code import ModuleSource

EVERY_WAY = """
import prefect
import prefect as p
import prefect.flows
from prefect import flow, task
from prefect import flow as prefect_flow
from prefect.flows import flow as inner_flow

TITLE = "by constant"

@flow
def plain_one(): ...

@flow()
def called(): ...

@flow(name="literal")
def a(): ...

@flow(name=TITLE)
def b(): ...

@flow(name=None)
def no_name(): ...

@prefect.flow(name="module")
async def c(): ...

@p.flow
def by_alias(): ...

@prefect_flow(log_prints=True)
def renamed(): ...

@prefect.flows.flow
def deep(): ...

@inner_flow
def deeper(): ...

if True:
    @flow
    def inside_if(): ...
else:
    @flow
    def inside_else(): ...

try:
    @flow
    def inside_try(): ...
except ImportError:
    pass

def _work(): ...

wrapped = flow(_work, name="wrapped")
wrapped_later: prefect.Flow = flow(name="wrapped later")(_work)

@task
def not_a_flow(): ...

def outer():
    @flow
    def hidden(): ...

class Holder:
    @flow
    def method(self): ...
"""

FOUND = {
    "plain-one": "plain_one",
    "called": "called",
    "literal": "a",
    "by constant": "b",
    "no-name": "no_name",
    "module": "c",
    "by-alias": "by_alias",
    "renamed": "renamed",
    "deep": "deep",
    "deeper": "deeper",
    "inside-if": "inside_if",
    "inside-else": "inside_else",
    "inside-try": "inside_try",
    "wrapped": "wrapped",
    "wrapped later": "wrapped_later",
}


def test_every_way_to_define_a_flow_is_found():
    """Decorators, aliases, names and assignments are read as Prefect would."""
    assert ModuleSource("m.py", EVERY_WAY).flows() == FOUND


def test_the_names_are_those_that_prefect_gives(tmp_path):
    """What is read without running is what Prefect says after running."""
    path = tmp_path / "every_way.py"
    path.write_text(EVERY_WAY)
    for name, attribute in FOUND.items():
        if attribute != "inside_else":
            assert load_flow_from_entrypoint(f"{path}:{attribute}").name == name


@pytest.mark.parametrize(
    "text",
    [
        "def flow(f): return f\n@flow\ndef a(): ...",
        "from other import flow\n@flow\ndef a(): ...",
        "from .prefect import flow\n@flow\ndef a(): ...",
        "import other as prefect\n@prefect.flow\ndef a(): ...",
        "from prefect import flow\nmake = flow(name='x')",
    ],
)
def test_what_only_looks_like_a_flow_is_not_one(text):
    """A decorator counts when it is Prefect's."""
    assert ModuleSource("m.py", text).flows() == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IMAGE = 'a'", "a"),
        ("IMAGE: str = 'a'", "a"),
        ("IMAGE = 'a'\nIMAGE = 'b'", "b"),
        ("IMAGE = None", None),
        ("OTHER = 'a'", None),
        ("", None),
        ("IMAGE = (\n    'a'\n    'b'\n)", "ab"),
    ],
)
def test_a_literal_is_read(text, expected):
    """The last assignment of plain text counts; none is None."""
    assert ModuleSource("m.py", text).literal("IMAGE") == expected


@pytest.mark.parametrize("value", ["open('x').read()", "f'{1}'", "5", "a + 'b'"])
def test_a_value_that_only_running_can_tell_is_refused(value):
    """The error names the line."""
    with pytest.raises(PackageError, match=r"m\.py \(line 2\): IMAGE must be plain"):
        ModuleSource("m.py", f"\nIMAGE = {value}").literal("IMAGE")


@pytest.mark.parametrize(
    "text", ["def", "a = 1\0", "(" * 5000, "x = " + "-" * 100_000 + "1"]
)
def test_what_cannot_be_parsed_is_refused(text):
    """Broken and hostile sources end in an error that names the file."""
    with pytest.raises(PackageError, match=r"m\.py is not Python"):
        ModuleSource("m.py", text)
