"""Stored values in few words, for tables and messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import PurePath
from typing import Any, Final

from prefect_lume.errors import clip
from prefect_lume.results.codecs.keys import MARK
from prefect_lume.results.codecs.lazy import Lazy


class _Missing:
    """Stands for a value that is not there."""

    def __repr__(self) -> str:
        return "(missing)"


MISSING: Final = _Missing()
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_STORED_DTYPE: Final = re.compile(r"[<|]([biufc])(\d+)", re.ASCII)
_KINDS: Final = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}


def describe(value: Any, limit: int = 60) -> str:
    """Return a value in few words: its digits if it is small, else what it is.

    Args:
        value: Any value of a result, lazily loaded or not.
        limit: The most characters.

    Example:
        >>> describe(1.5), describe([1, 2]), describe({"a": 1, "b": 2})
        ('1.5', '[1, 2]', '2 keys: a, b')
        >>> describe("long " * 100, limit=12)
        "'long long …"
    """
    if isinstance(value, Lazy):
        return clip(_envelope(value.envelope), limit)
    if hasattr(value, "columns") and hasattr(value, "shape"):
        rows, columns = value.shape[0], len(value.columns)
        return clip(f"table, {rows} rows, {columns} columns", limit)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        single = value.shape == () and hasattr(value, "item")
        return describe(value.item(), limit) if single else clip(_array(value), limit)
    if isinstance(value, Mapping):
        names = ", ".join(map(str, value))
        return clip(f"{len(value)} keys: {names}" if value else "{}", limit)
    if isinstance(value, list | tuple):
        text = repr(value) if len(value) <= 8 else ""
        if text and len(text) <= limit:
            return text
        return clip(f"{type(value).__name__} of {len(value)}", limit)
    if isinstance(value, bytes | bytearray):
        return f"bytes, {size_text(len(value))}"
    # str() where it cannot be taken for text, which stands in quotes.
    shown = str(value) if isinstance(value, date | PurePath) else repr(value)
    return clip(shown, limit)


def one_line(text: object) -> str:
    r"""Return text as it can be shown on a terminal, whatever was stored.

    Line breaks, and characters that would steer the terminal, are written as escapes.

    Example:
        >>> print(one_line("two\nlines, \x1b[31mred"))
        two\nlines, \x1b[31mred
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in str(text)
    )


def counted(number: int, noun: str) -> str:
    """Return a number of things, in the plural unless it is one.

    Example:
        >>> counted(1, "result"), counted(2, "result")
        ('1 result', '2 results')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_text(size: int) -> str:
    """Return a number of bytes as a person would say it.

    Example:
        >>> size_text(512), size_text(8 << 20)
        ('512 B', '8.0 MiB')
    """
    amount = float(size)
    for unit in _UNITS[:-1]:
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} {_UNITS[-1]}"


def _array(value: Any) -> str:
    shape = " x ".join(map(str, value.shape))
    text = f"{_dtype_name(value.dtype)}[{shape}]"
    if value.dtype.kind not in "iuf" or not value.size:
        return text
    least = value.min()
    # The least of numbers among which is a NaN is NaN.
    real = value if least == least else value[value == value]
    if real.size:
        text += f" {real.min():.6g} … {real.max():.6g}"
    return text if real is value else f"{text}, with NaN"


def _dtype_name(dtype: Any) -> str:
    """Return a dtype's name, or the word for one with fields."""
    if getattr(dtype, "names", None):
        return f"({', '.join(dtype.names)})"
    return str(dtype)


def _stored_dtype_name(dtype: Any) -> str:
    """Return the same for the dtype that a stored array's envelope tells."""
    if isinstance(dtype, Mapping) and isinstance(dtype.get("names"), list):
        return f"({', '.join(map(str, dtype['names']))})"
    hit = _STORED_DTYPE.fullmatch(str(dtype))
    if hit is None:
        return str(dtype)
    kind = _KINDS[hit[1]]
    return kind if hit[1] == "b" else f"{kind}{8 * int(hit[2])}"


def _envelope(envelope: Mapping[str, Any]) -> str:
    name, size = str(envelope.get(MARK)), envelope.get("size", 0)
    shape = envelope.get("shape")
    if isinstance(shape, list):
        name = _stored_dtype_name(envelope.get("dtype"))
        return f"{name}[{' x '.join(map(str, shape))}]"
    if "rows" in envelope:
        return f"{name}, {envelope['rows']} rows"
    return f"{name}, {size_text(size) if isinstance(size, int) else size}"
