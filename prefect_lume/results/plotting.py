"""A picture of a result: what of its values one would rather look at than read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._optional import require
from prefect_lume.results.codecs.lazy import Lazy
from prefect_lume.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PANELS: Final = 6
_MOST_LINES: Final = 8
#: Points of a line; more would not be seen.
_MOST_POINTS: Final = 2000
#: Both sides of an array from here on: it is drawn as an image.
_IMAGE: Final = 16
#: Arrays of more bytes are not read for a picture.
_LARGEST: Final = 256 << 20
_COLUMNS: Final = 2
#: Lists of fewer numbers are read, not looked at.
_SHORTEST: Final = 8


def plot_result(result: Result) -> Figure | None:
    """Return a figure of a result's arrays and tables.

    Outputs come first, then inputs, six panels at most. Rows of numbers are drawn as
    lines (a long line by the least and greatest value of each stretch), larger
    two-dimensional arrays as images, tables as one line per numeric column; of complex
    numbers the absolute value.

    Args:
        result: A result, lazily loaded or not. Values past 256 MiB are left out.

    Returns:
        A matplotlib figure that belongs to no window, or None when the result holds
        nothing to draw.

    Raises:
        MissingDependencyError: matplotlib is not installed (extra ``demo``).
        IntegrityError: A value that is read now is not what was stored once.
    """
    panels = []
    for path, value in _candidates(result):
        panels += [(path, value)] if _drawable(value) else []
        if len(panels) == _MOST_PANELS:
            break
    if not panels:
        return None
    require("matplotlib", "A plot of a result")
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axis, (path, value) in zip(axes, panels, strict=False):
        _draw(figure, axis, value)
        axis.set_title(path, fontsize=10)
        axis.locator_params(axis="x", nbins=5)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return figure


def plot_png(result: Result) -> bytes | None:
    """Return the figure of :func:`plot_result` as a PNG file's content, or None."""
    figure = plot_result(result)
    if figure is None:
        return None
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _candidates(result: Result) -> Iterator[tuple[str, Any]]:
    for root in ("outputs", "inputs"):
        yield from _leaves(getattr(result, root), root)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    elif isinstance(value, Lazy):
        wanted = value.codec in {"array", "dataframe", "series", "tree"}
        if wanted and value.size <= _LARGEST:
            loaded = value.load()
            # A list or dict that left its document: what it holds is not looked into.
            yield (path, _as_array(loaded))
    else:
        yield path, _as_array(value)


def _as_array(value: Any) -> Any:
    """Return a list of numbers as an array; anything else as it is."""
    numbers = (int, float)
    if (
        isinstance(value, list)
        and len(value) >= _SHORTEST
        and all(isinstance(v, numbers) and not isinstance(v, bool) for v in value)
    ):
        return require("numpy", "A plot of a result").array(value, dtype=float)
    return value


def _drawable(value: Any) -> bool:
    if hasattr(value, "select_dtypes"):
        return len(value) >= _SHORTEST and bool(value.select_dtypes("number").shape[1])
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    shape = getattr(value, "shape", ())
    return kind in set("biufc") and 1 <= len(shape) <= 2 and max(shape) >= _SHORTEST


def _draw(figure: Figure, axis: Any, value: Any) -> None:
    if hasattr(value, "select_dtypes"):
        _draw_table(axis, value)
        return
    numpy = require("numpy", "A plot of a result")
    array = numpy.abs(value) if value.dtype.kind == "c" else numpy.asarray(value)
    if array.ndim == 2 and min(array.shape) >= _IMAGE:
        shown = array[:: -(-array.shape[0] // 1000), :: -(-array.shape[1] // 1000)]
        image = axis.imshow(
            shown, aspect="auto", extent=(0, array.shape[1], array.shape[0], 0)
        )
        figure.colorbar(image, ax=axis)
        return
    rows = array.reshape(1, -1) if array.ndim == 1 else array
    if rows.shape[0] > rows.shape[1]:
        rows = rows.T
    for row in rows[:_MOST_LINES]:
        axis.plot(*_thinned(numpy, row), linewidth=1, alpha=0.7)
    axis.set_xlabel("index", fontsize=8)


def _draw_table(axis: Any, table: Any) -> None:
    numpy = require("numpy", "A plot of a result")
    for name, column in list(table.select_dtypes("number").items())[:_MOST_LINES]:
        values = column.to_numpy(dtype=float, na_value=float("nan"))
        axis.plot(*_thinned(numpy, values), linewidth=1, label=str(name))
    axis.legend(fontsize=7)
    axis.set_xlabel("row", fontsize=8)


def _thinned(numpy: Any, row: Any) -> tuple[Any, Any]:
    """Return positions and values of a line: the extremes of each stretch."""
    positions = numpy.arange(row.size)
    stretch = -(-row.size // (_MOST_POINTS // 2))
    if row.size <= _MOST_POINTS:
        return positions, row
    count = row.size // stretch
    parts = row[: count * stretch].reshape(count, stretch)
    low, high = parts.min(axis=1), parts.max(axis=1)
    starts = positions[: count * stretch : stretch]
    return starts.repeat(2), numpy.stack([low, high], axis=1).reshape(-1)
