"""What of a result is shown: words, flat values, pictures."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from prefect_lume.results import ImpactResult, Result
from prefect_lume.results.codecs import decode, encode
from prefect_lume.results.describing import describe, size_text
from prefect_lume.results.flattening import flatten, header, plain
from prefect_lume.results.plotting import plot_png, plot_result


def lazily(value):
    encoded = encode(value, threshold=0)
    return decode(encoded.tree, load_blob=encoded.blobs.__getitem__, lazy=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.5, "1.5"),
        (np.float64(2), "2.0"),
        (np.arange(6.0).reshape(2, 3), "float64[2 x 3] 0 … 5"),
        (np.zeros(0), "float64[0]"),
        (pd.DataFrame({"a": [1]}), "table, 1 rows, 1 columns"),
        ({}, "{}"),
        ([0] * 9, "list of 9"),
        (b"1234", "bytes, 4 B"),
        (lazily(np.zeros((2, 3))), "float64[2 x 3]"),
        (lazily(pd.DataFrame({"a": [1, 2]})), "dataframe, 2 rows"),
        (lazily(b"a" * 2048), "bytes, 2.0 KiB"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_value_is_described_in_few_words(value, words):
    """Small values by their digits, large ones by what they are."""
    assert describe(value) == words


def test_sizes_are_read_easily():
    """Bytes in the unit that suits them."""
    assert [size_text(n) for n in (0, 1023, 1536, 3 << 30, 5 << 50)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "3.0 GiB",
        "5120.0 TiB",
    ]


def test_values_are_flat_and_plain():
    """Every value has its path, own fields too; what JSON cannot say is told."""
    result = ImpactResult(
        project_name="p",
        inputs={"a": {"b": np.float64(1.5)}, "odd": float("inf")},
        outputs={"list": [1, (2, None)], "array": np.zeros(3), "raw": b"x"},
        config={"k": True},
    )
    values = {path: plain(value) for path, value in flatten(result)}
    assert json.loads(json.dumps(values)) == {
        "inputs.a.b": 1.5,
        "inputs.odd": "inf",
        "outputs.list": [1, [2, None]],
        "outputs.array": "float64[3] 0 … 0",
        "outputs.raw": "bytes, 1 B",
        "config.k": True,
    }
    assert json.dumps(header(result))
    assert header(result)["result_type"] == "Impact"


class TestPictures:
    def panels(self, **outputs):
        figure = plot_result(Result(project_name="p", outputs=outputs))
        if figure is None:
            return None
        return [a.get_title() for a in figure.axes if a.get_visible() and a.get_title()]

    def test_arrays_and_tables_get_a_panel_each(self):
        """Lines, images, tables and lists of numbers are drawn, lazily loaded too."""
        frame = pd.DataFrame({"x": range(9), "name": ["a"] * 9})
        assert self.panels(
            line=np.arange(10),
            image=np.ones((20, 30)),
            waves=lazily(np.exp(1j * np.ones((3, 5000)))),
            table=frame,
            numbers=[float(n) for n in range(8)],
        ) == [
            "outputs.line",
            "outputs.image",
            "outputs.waves",
            "outputs.table",
            "outputs.numbers",
        ]

    def test_what_is_read_rather_than_looked_at_has_none(self):
        """Numbers, text, short lists and cubes are no picture."""
        cube, text = np.zeros((9, 9, 9)), np.array(["a"] * 9)
        assert self.panels(n=1, s="a", short=[1, 2], cube=cube, text=text) is None
        assert plot_png(Result(project_name="p")) is None

    def test_there_are_six_panels_at_most(self):
        """A result of many arrays stays a picture that can be looked at."""
        assert len(self.panels(**{f"a{n}": np.zeros(9) for n in range(20)})) == 6

    def test_a_long_line_keeps_its_extremes(self):
        """A single peak among a million points is seen."""
        line = np.zeros(1_000_000)
        line[123_456] = 7.0
        figure = plot_result(Result(project_name="p", outputs={"line": line}))
        drawn = figure.axes[0].lines[0]
        assert max(drawn.get_ydata()) == 7.0
        assert len(drawn.get_ydata()) <= 2002

    def test_the_picture_is_a_png(self):
        """The bytes are those of a PNG file."""
        result = Result(project_name="p", outputs={"a": np.arange(10)})
        assert plot_png(result).startswith(b"\x89PNG\r\n")
