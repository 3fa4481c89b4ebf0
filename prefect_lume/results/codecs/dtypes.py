"""numpy dtypes as JSON, read back without asking numpy what a text may mean."""

from __future__ import annotations

import math
import re
from typing import Any, Final, NamedTuple

from prefect_lume._optional import require
from prefect_lume.results.codecs.base import Path, refusal

_SIMPLE: Final = re.compile(
    r"([<>|])(?:"
    r"(b1|i[1248]|u[1248]|f[248]|c8|c16)"
    r"|([SUV])([0-9]{1,9})"
    r"|[mM]8(?:\[[0-9]{0,9}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
    r")"
)
_LONG_BITS: Final = {63: "x87", 112: "quad"}
_LONG_SIZE: Final = {"f": 16, "c": 32}
_MOST_FIELDS: Final = 10_000
_DEEPEST: Final = 16
_ADVICE: Final = "Convert it to a dtype of fixed size first."


class Layout(NamedTuple):
    """How a stored array's bytes are read.

    Attributes:
        stored: The dtype of the payload: little-endian, without gaps.
        wanted: The dtype of the array that comes back.
        itemsize: Bytes of one element in the payload.
    """

    stored: Any
    wanted: Any
    itemsize: int


def describe(dtype: Any, path: Path) -> Any:
    """Return a numpy dtype as JSON: a text, or a dict of fields.

    Raises:
        EncodingError: Arrays of that dtype cannot be stored.
    """
    if dtype.names is not None:
        return _describe_fields(dtype, path)
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": describe(base, path), "shape": list(shape)}
    if dtype.char in "gG" and dtype.itemsize != 8 * (1 + (dtype.char == "G")):
        return _describe_long(dtype, path)
    text = "<f8" if dtype.char == "g" else "<c16" if dtype.char == "G" else dtype.str
    if dtype.itemsize == 0 or not _SIMPLE.fullmatch(text):
        raise refusal(path, f"arrays of dtype {dtype!r} cannot be stored. {_ADVICE}")
    return text


def _describe_long(dtype: Any, path: Path) -> str:
    numpy = require("numpy")
    kind = _LONG_BITS.get(numpy.finfo(numpy.longdouble).nmant)
    size = _LONG_SIZE[dtype.kind]
    if kind is None or dtype.itemsize != size or not dtype.isnative:
        raise refusal(path, f"arrays of dtype {dtype!r} cannot be stored. {_ADVICE}")
    return f"<{dtype.kind}{size}/{kind}"


def _describe_fields(dtype: Any, path: Path) -> dict[str, Any]:
    names, formats, titles = [], [], []
    for name in dtype.names:
        entry = dtype.fields[name]
        format_ = describe(entry[0], path)
        if "/" in str(format_):
            raise refusal(path, "an array field cannot be a longdouble. Use float64.")
        names.append(name)
        formats.append(format_)
        titles.append(entry[2] if len(entry) > 2 else None)
    if any(not isinstance(title, str | None) for title in titles):
        raise refusal(path, "the titles of array fields must be strings.")
    if not names or dtype.itemsize == 0:
        raise refusal(
            path, f"arrays of dtype {dtype!r} hold no bytes: nothing to store."
        )
    fields: dict[str, Any] = {"names": names, "formats": formats}
    if any(titles):
        fields["titles"] = titles
    return {**fields, "align": True} if dtype.isalignedstruct else fields


def canonical_dtype(described: Any) -> Any:
    """Return a described dtype without its byte order and gaps."""
    if isinstance(described, str):
        return described.replace(">", "<", 1)
    if not isinstance(described, dict):  # A damaged one, of a value not loaded yet.
        return described
    kept = {key: item for key, item in described.items() if key != "align"}
    for key in ("base", "formats"):
        if isinstance(kept.get(key), list):
            kept[key] = [canonical_dtype(item) for item in kept[key]]
        elif key in kept:
            kept[key] = canonical_dtype(kept[key])
    return kept


def parse(described: Any, level: int = 0) -> Layout:
    """Return the dtypes that a described dtype stands for.

    Raises:
        ValueError: It is no dtype that arrays are stored with.
    """
    numpy = require("numpy")
    if level > _DEEPEST:
        raise ValueError("the dtype is nested too deep")
    if isinstance(described, str):
        if "/" in described:
            return _parse_long(described)
        if not _SIMPLE.fullmatch(described):
            raise ValueError(f"{described[:40]!r} is no dtype of a stored array")
        wanted = numpy.dtype(described)
        if wanted.itemsize == 0:
            raise ValueError("the dtype has no bytes")
        return Layout(wanted.newbyteorder("<"), wanted, wanted.itemsize)
    if not isinstance(described, dict):
        raise TypeError("a dtype is a text or a dict")
    if "base" in described:
        shape = check_shape(described.get("shape"))
        base = parse(described["base"], level + 1)
        size = base.itemsize * math.prod(shape)
        if not 0 < size < 1 << 31:
            raise ValueError("the dtype's sub-array has a size that is not allowed")
        return Layout(
            numpy.dtype((base.stored, shape)), numpy.dtype((base.wanted, shape)), size
        )
    return _parse_fields(described, level)


def _parse_fields(described: dict[str, Any], level: int) -> Layout:
    numpy = require("numpy")
    names, formats = described.get("names"), described.get("formats")
    align = described.get("align", False)
    if (
        not isinstance(names, list)
        or not isinstance(formats, list)
        or not isinstance(align, bool)
        or not 0 < len(names) == len(formats) <= _MOST_FIELDS
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError("the dtype's fields need as many 'names' as 'formats'")
    inner = [parse(item, level + 1) for item in formats]
    size = sum(item.itemsize for item in inner)
    if size >= 1 << 31:
        raise ValueError("the dtype's fields are too large")
    stored = numpy.dtype(
        {"names": names, "formats": [item.stored for item in inner]}, align=False
    )
    named: dict[str, Any] = {"names": names, "formats": [item.wanted for item in inner]}
    if "titles" in described:
        named["titles"] = _titles(described["titles"], len(names))
    return Layout(stored, numpy.dtype(named, align=align), size)


def _titles(titles: Any, count: int) -> list[str | None]:
    if (
        not isinstance(titles, list)
        or len(titles) != count
        or not all(isinstance(title, str | None) for title in titles)
    ):
        raise ValueError("the dtype needs as many 'titles' as 'names'")
    return titles


def _parse_long(described: str) -> Layout:
    numpy = require("numpy")
    kind = _LONG_BITS.get(numpy.finfo(numpy.longdouble).nmant)
    for letter, size in _LONG_SIZE.items():
        if described == f"<{letter}{size}/{kind}":
            dtype = numpy.dtype("longdouble" if letter == "f" else "clongdouble")
            if dtype.itemsize == size:
                return Layout(dtype, dtype, size)
    raise ValueError(f"{described[:40]!r} is no dtype that this machine has")


def check_shape(shape: Any) -> tuple[int, ...]:
    """Return a stored shape.

    Raises:
        ValueError: It is no list of sizes.
    """
    if not isinstance(shape, list) or len(shape) > 64:
        raise ValueError("a shape is a list of at most 64 sizes")
    for size in shape:
        if type(size) is not int or not 0 <= size < 1 << 62:
            raise ValueError("a shape holds sizes from 0")
    return tuple(shape)
