"""In what two or more results differ, value by value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from prefect_lume._optional import require
from prefect_lume.errors import InvalidInputError, LumeError, clip, name_list
from prefect_lume.results.arrays_compared import Distance, array_distance
from prefect_lume.results.codecs import encode_for_hash
from prefect_lume.results.codecs.lazy import Lazy
from prefect_lume.results.describing import MISSING, describe
from prefect_lume.results.flattening import below
from prefect_lume.results.result import Result

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["missing", "type", "shape", "value"]

#: The parts of a result that are compared unless others are named.
PARTS: Final = ("inputs", "outputs")
_NUMBERS: Final = (int, float, complex)


@dataclass(frozen=True)
class Difference:
    """One value in which results differ.

    Attributes:
        path: Where it is, for example ``"outputs.sigma_x"`` or ``"outputs.list[2]"``.
        kind: ``"missing"`` in one of them at least; ``"type"``, ``"shape"`` (of
            arrays and tables, or a list's length) or ``"value"``.
        values: What each result has there, in words or digits.
        absolute: The largest absolute difference from the first result, where the
            values are numbers or arrays of them.
        relative: The largest difference relative to the first result's value.
    """

    path: str
    kind: Kind
    values: tuple[str, ...]
    absolute: float | None = None
    relative: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare_results` found.

    Attributes:
        hashes: The results' unique hashes, in the order in which they were given.
        differences: In the order in which the values come in the results.
        equal: How many values agree in all results, within the tolerance.
    """

    hashes: tuple[str, ...]
    differences: tuple[Difference, ...]
    equal: int

    def __bool__(self) -> bool:
        """Tell whether there is a difference."""
        return bool(self.differences)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {
            "unique_hashes": list(self.hashes),
            "equal": self.equal,
            "differences": [
                {
                    "path": one.path,
                    "kind": one.kind,
                    "values": list(one.values),
                    "absolute": one.absolute,
                    "relative": one.relative,
                }
                for one in self.differences
            ],
        }

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table: one row per difference, one column per result.

        Raises:
            MissingDependencyError: pandas is not installed (extra ``tables``).
        """
        pandas = require("pandas", "A table of differences")
        names = [value[:12] for value in self.hashes]
        names = names if len(set(names)) == len(names) else list(self.hashes)
        rows = [
            [d.path, d.kind, *d.values, d.absolute, d.relative]
            for d in self.differences
        ]
        columns = ["path", "kind", *names, "absolute", "relative"]
        frame: pd.DataFrame = pandas.DataFrame(rows, columns=columns)
        return frame


def compare_results(
    results: Sequence[Result],
    *,
    rel_tol: float = 0.0,
    abs_tol: float = 0.0,
    parts: Sequence[str] = PARTS,
) -> Comparison:
    """Return in what two or more results differ.

    The first result is what the others are compared with. Numbers agree if
    ``|a - b| <= max(rel_tol * max(|a|, |b|), abs_tol)`` (the rule of
    :func:`math.isclose`), in arrays and tables element by element; 1 and 1.0 agree,
    and so do two NaN. Large values of lazily loaded results are read only if their
    hashes differ.

    Args:
        results: Two or more results.
        rel_tol: The relative tolerance, 0 or more.
        abs_tol: The absolute tolerance, 0 or more.
        parts: The fields of the documents that are compared.

    Returns:
        The differences; false if there is none.

    Raises:
        InvalidInputError: There are fewer than two results, one is none, a tolerance
            is negative or not a number, or none of the results has one of the parts.
        IntegrityError: A value that is read now is not what was stored once.

    Example:
        >>> first = Result(project_name="p", outputs={"sigma": 1.0, "n": 3})
        >>> other = Result(project_name="p", outputs={"sigma": 1.1, "n": 3})
        >>> found = compare_results([first, other])
        >>> [(d.path, d.values) for d in found.differences], found.equal
        ([('outputs.sigma', ('1.0', '1.1'))], 1)
        >>> bool(compare_results([first, other], rel_tol=0.1))
        False
    """
    if len(results) < 2:
        raise InvalidInputError("Comparing needs two results or more.")
    for result in results:
        if not isinstance(result, Result):
            raise InvalidInputError(
                f"Results are compared, such as load() returns, not "
                f"{clip(repr(result), 80)}."
            )
    given: tuple[object, ...] = (rel_tol, abs_tol)
    if not all(isinstance(tol, int | float) and tol >= 0 for tol in given):
        raise InvalidInputError(
            f"Tolerances are numbers from 0, not rel_tol={rel_tol!r}, "
            f"abs_tol={abs_tol!r}."
        )
    walker = _Walker(rel_tol, abs_tol)
    fields = [result.field_values() for result in results]
    found: list[Difference] = []
    for part in [parts] if isinstance(parts, str) else parts:
        values = [field.get(part, MISSING) for field in fields]
        if all(value is MISSING for value in values):
            known = name_list(name for field in fields for name in field)
            raise InvalidInputError(
                f"None of the results has a field {clip(repr(part), 80)}: compare "
                f"{known}."
            )
        found += walker.walk(values, part)
    hashes = tuple(result.unique_hash for result in results)
    return Comparison(hashes, tuple(found), walker.equal)


class _Walker:
    """Walks through the values of several results side by side."""

    def __init__(self, rel_tol: float, abs_tol: float) -> None:
        self.rel_tol = rel_tol
        self.abs_tol = abs_tol
        self.equal = 0

    def walk(self, values: list[Any], path: str) -> Iterator[Difference]:
        """Yield the differences at a place and below it."""
        if any(value is MISSING for value in values):
            if not all(value is MISSING for value in values):
                yield _difference(path, "missing", values)
            return
        if _same_blob(values):
            self.equal += 1
            return
        values = [v.load() if isinstance(v, Lazy) else v for v in values]
        if all(isinstance(value, Mapping) for value in values):
            for key in dict.fromkeys(key for value in values for key in value):
                inner = [value.get(key, MISSING) for value in values]
                yield from self.walk(inner, below(path, key))
        elif all(isinstance(value, list | tuple) for value in values):
            if len({len(value) for value in values}) > 1:
                yield _difference(path, "shape", values)
                return
            for place, items in enumerate(zip(*values, strict=True)):
                yield from self.walk(list(items), f"{path}[{place}]")
        elif all(_is_table(value) for value in values):
            yield from self._tables(values, path)
        else:
            yield from self._leaf(values, path)

    def _tables(self, values: list[Any], path: str) -> Iterator[Difference]:
        """Compare tables by their lengths and columns, and their index."""
        if len({len(value) for value in values}) > 1:
            yield _difference(path, "shape", values)
            return
        columns = dict.fromkeys(str(c) for value in values for c in value.columns)
        parts = [{str(c): v[c] for c in v.columns} for v in values]
        for column in columns:
            inner = [part.get(column, MISSING) for part in parts]
            yield from self.walk(_arrays(inner), f"{path}.{column}")
        yield from self.walk(_arrays([v.index for v in values]), f"{path}.index")

    def _leaf(self, values: list[Any], path: str) -> Iterator[Difference]:
        first, distances = values[0], []
        for other in values[1:]:
            kind, distance = self._pair(first, other)
            if kind is not None:
                yield _difference(path, kind, values)
                return
            distances.append(distance)
        if all(distance.close for distance in distances):
            self.equal += 1
            return
        yield Difference(
            path,
            "value",
            tuple(describe(value) for value in values),
            _largest(distance.absolute for distance in distances),
            _largest(distance.relative for distance in distances),
        )

    def _pair(self, first: Any, other: Any) -> tuple[Kind | None, Distance]:
        """Return what makes two values incomparable, or how far apart they are."""
        if _is_number(first) and _is_number(other):
            return None, self._numbers(first, other)
        if _is_array(first) and _is_array(other):
            if first.shape != other.shape:
                return "shape", Distance(close=False)
            numeric = first.dtype.kind in "biufc" and other.dtype.kind in "biufc"
            if numeric:
                return None, array_distance(first, other, self.rel_tol, self.abs_tol)
        elif type(first) is not type(other):
            return "type", Distance(close=False)
        return None, Distance(close=_same(first, other))

    def _numbers(self, first: Any, other: Any) -> Distance:
        if first == other or (first != first and other != other):
            return Distance(close=True)
        try:
            return self._apart(first, other)
        except OverflowError:  # Whole numbers past what a float can tell.
            return Distance(close=False)

    def _apart(self, first: Any, other: Any) -> Distance:
        absolute = abs(first - other)
        largest = max(abs(first), abs(other))
        close = absolute <= max(self.rel_tol * largest, self.abs_tol)
        # An infinite difference is within no tolerance.
        if not math.isfinite(absolute):
            return Distance(close=False)
        relative = absolute / abs(first) if first else None
        return Distance(bool(close), float(absolute), relative and float(relative))


def _difference(path: str, kind: Kind, values: Sequence[Any]) -> Difference:
    return Difference(path, kind, tuple(describe(value) for value in values))


def _largest(numbers: Iterator[float | None]) -> float | None:
    return max((number for number in numbers if number is not None), default=None)


def _same(first: Any, other: Any) -> bool:
    """Tell whether two values of one type are the same, by what would be stored."""
    try:
        return bool(encode_for_hash(first) == encode_for_hash(other))
    except LumeError:
        return first is other


def _same_blob(values: list[Any]) -> bool:
    first = values[0]
    return isinstance(first, Lazy) and all(
        isinstance(value, Lazy) and value.envelope == first.envelope for value in values
    )


def _arrays(columns: list[Any]) -> list[Any]:
    return [c if c is MISSING else _plain(c.to_numpy()) for c in columns]


def _plain(array: Any) -> Any:
    return array.tolist() if array.dtype == object else array


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, _NUMBERS):
        return True
    return hasattr(value, "dtype") and value.shape == () and value.dtype.kind in "iufc"


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ == "ndarray"


def _is_table(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "to_numpy")
