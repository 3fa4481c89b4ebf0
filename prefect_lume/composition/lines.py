"""Where things stand in a flow-of-flows file: paths, places and line numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from prefect_lume.errors import CompositionError, Problem

#: The way to one value: keys and list indices from the top of the file.
Path: TypeAlias = tuple[str | int, ...]

_MOST_PROBLEMS = 100


def place(path: Path) -> str:
    """Return a path as text, the way it is written in Python.

    Example:
        >>> place(("composing_flows", 1, "mapped_parameters", "text"))
        'composing_flows[1].mapped_parameters.text'
    """
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


class LineMap:
    """The line of every value of one YAML file.

    Attributes:
        source: The file, as it is named in messages.
    """

    def __init__(self, lines: Mapping[Path, int], source: str = "") -> None:
        self._lines = dict(lines)
        self.source = source

    def at(self, path: Path) -> int | None:
        """Return the 1-based line of a value, or of the nearest one that holds it."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return self._lines.get(())

    def __repr__(self) -> str:
        return f"LineMap({self.source!r}, {len(self._lines)} values)"


def problem_at(path: Path, message: str, lines: LineMap | None = None) -> Problem:
    """Return a problem that knows its place and, inside a file, its line."""
    return Problem(message, place(path), lines.at(path) if lines else None)


def refuse(problems: Iterable[Problem], source: str = "") -> CompositionError:
    """Return the one error that reports all problems, in the order of the file.

    At most a hundred of them are listed, so that a wrong file of any size makes a
    message that can be read.
    """
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    more = len(ordered) - _MOST_PROBLEMS
    if more > 0:
        ordered = [*ordered[:_MOST_PROBLEMS], Problem(f"... and {more} more problems.")]
    return CompositionError(ordered, source)
