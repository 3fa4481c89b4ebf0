"""YAML that was made to hurt: bombs, depth, size, cycles, floods of problems."""

from __future__ import annotations

import io

import pytest

from prefect_lume.composition import load_yaml
from prefect_lume.composition._yaml import MOST_BYTES
from prefect_lume.errors import CompositionError

_HEAD = "name: a\nproject_name: p\ncomposing_flows:\n  - name: b\n    parameters:\n"


def _bomb() -> str:
    rows = ["      p0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [
        f"      p{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)
    ]
    return _HEAD + "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_bomb(), "more than 200000 values"),
        (_HEAD + "      p: &a [*a]\n", "100 levels"),
        (_HEAD + "      p: &a [*a, *a, *a]\n", "100 levels"),
        (
            _HEAD + "      p: " + "[" * 5000 + "]" * 5000 + "\n",
            "nested deeper than 100",
        ),
        (_HEAD + "      p: " + "{a: " * 500 + "}" * 500 + "\n", "deeper than 100"),
        (_HEAD + "      p: " + "9" * 5000 + "\n", "A number of 5000 digits"),
        ("#" * (MOST_BYTES + 1) + "\n", "larger than 1 MB"),
    ],
    ids=["bomb", "cycle", "wide-cycle", "lists", "mappings", "digits", "size"],
)
@pytest.mark.timeout(60)  # What is not limited never ends.
def test_hostile_yaml_ends_quickly_in_a_problem(text, words):
    """Nothing that YAML can express takes long or ends in another error."""
    with pytest.raises(CompositionError, match=words):
        load_yaml(text)


def test_a_stream_without_end_is_cut():
    """Of a stream, only as much is read as may be loaded."""

    class Endless(io.RawIOBase):
        def read(self, size=-1):
            assert size > 0
            return b"#" * size

    with pytest.raises(CompositionError, match="larger than 1 MB"):
        load_yaml(Endless())


def test_a_flood_of_problems_makes_a_short_message():
    """At most a hundred problems are listed."""
    text = _HEAD + "  - 1\n" * 5000
    with pytest.raises(CompositionError) as caught:
        load_yaml(text.replace("    parameters:\n", ""))
    assert len(caught.value.problems) == 101
    assert "4900 more" in str(caught.value)
    assert len(str(caught.value)) < 30_000


def test_a_long_value_is_cut_in_the_message():
    """A megabyte in the wrong place does not become a megabyte of message."""
    with pytest.raises(CompositionError) as caught:
        load_yaml(_HEAD.replace("name: b", f"name: {'9' * 3000}"))
    assert len(str(caught.value)) < 1000
