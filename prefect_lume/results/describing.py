"""Stored values in few words, for tables and messages."""

from __future__ import annotations

from collections.abc import Mapping
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
        return clip(_array(value), limit)
    if isinstance(value, Mapping):
        names = ", ".join(map(str, value))
        return clip(f"{len(value)} keys: {names}" if value else "{}", limit)
    if isinstance(value, list | tuple):
        text = repr(value) if len(value) <= 8 else ""
        if text and len(text) <= limit:
            return text
        return clip(f"{type(value).__name__} of {len(value)}", limit)
    if isinstance(value, bytes | bytearray):
        return f"{size_text(len(value))} of bytes"
    return clip(repr(value), limit)


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
    if value.shape == ():
        return repr(value.item()) if hasattr(value, "item") else repr(value)
    shape = " x ".join(map(str, value.shape))
    text = f"{value.dtype}[{shape}]"
    if value.dtype.kind in "iuf" and value.size:
        text += f" {value.min():.6g} … {value.max():.6g}"
    return text


def _envelope(envelope: Mapping[str, Any]) -> str:
    name, size = str(envelope.get(MARK)), envelope.get("size", 0)
    shape = envelope.get("shape")
    if isinstance(shape, list):
        return f"{envelope.get('dtype')}[{' x '.join(map(str, shape))}]"
    if "rows" in envelope:
        return f"{name}, {envelope['rows']} rows"
    return f"{name}, {size_text(size) if isinstance(size, int) else size}"
