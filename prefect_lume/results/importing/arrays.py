"""Numpy arrays of what a pickle says about them, once all of it is checked."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._optional import require
from prefect_lume.errors import clip
from prefect_lume.results.importing.opcodes import (
    ArrayState,
    DTypeState,
    ScalarState,
    read_pickle,
    refusal,
)

if TYPE_CHECKING:
    import numpy as np

_PURPOSE: Final = "Reading a pickled array"
_CODE: Final = re.compile(
    r"(b1|[iu][1248]|f2|f4|f8|f12|f16|c8|c16|c24|c32|M8|m8|O[48]|([USV])(\d{1,9}))"
)
_UNIT: Final = re.compile(r"generic|[YMWDhms]|ms|us|ns|ps|fs|as|μs")
_MOST_DIMENSIONS: Final = 32
_MOST_FIELDS: Final = 1000
_DEEPEST: Final = 16
_MOST_OBJECTS: Final = 1_000_000
_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})


def load_array(data: bytes) -> Any:
    """Return the numpy array, or numpy scalar, that a pickle holds.

    Nothing that the pickle names is imported or called; see
    :mod:`prefect_lume.results.importing.opcodes`.

    Args:
        data: The pickle, of protocol 2 to 5.

    Returns:
        An array, which may be read-only: numbers, truth values, text, bytes, dates,
        records, or objects that are plain values and arrays again.

    Raises:
        DecodingError: It is malformed, or holds anything else.
        MissingDependencyError: numpy is not installed.

    Example:
        >>> import pickle
        >>> import numpy as np
        >>> load_array(pickle.dumps(np.arange(3), protocol=2))
        array([0, 1, 2])
    """
    require("numpy", _PURPOSE)
    found = read_pickle(data)
    if not isinstance(found, ArrayState | ScalarState):
        raise refusal(f"it holds a {type(found).__name__}, not an array")
    try:
        return _Maker().value(found, 0)
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise refusal(f"it describes no array ({clip(error, 120)})") from error


class _Maker:
    """Makes the arrays of one pickle."""

    def __init__(self) -> None:
        self._numpy: Any = require("numpy", _PURPOSE)
        self._objects = 0

    def value(self, value: Any, depth: int) -> Any:
        self._objects += 1
        if depth > _DEEPEST or self._objects > _MOST_OBJECTS:
            raise refusal("it is nested too deep, or holds too many objects")
        if type(value) in _PLAIN:
            return value
        if isinstance(value, ArrayState):
            return self._array(value, depth)
        if isinstance(value, ScalarState):
            return self._scalar(value)
        if type(value) in {list, tuple}:
            return type(value)(self.value(item, depth + 1) for item in value)
        if type(value) is dict:
            return {key: self.value(item, depth + 1) for key, item in value.items()}
        raise refusal(f"an array in it holds a {type(value).__name__}")

    def _array(self, array: ArrayState, depth: int) -> np.ndarray[Any, Any]:
        if array.state is None:
            raise refusal("an array has no content")
        shape, described, fortran, content = array.state
        dims = _dimensions(shape)
        count = math.prod(dims)
        dtype = self._dtype(described, depth)
        found: np.ndarray[Any, Any]
        if dtype.hasobject:
            # Objects are listed in C order, whatever the memory's order was.
            return self._object_array(content, count, depth).reshape(dims)
        if not isinstance(content, bytes | bytearray):
            raise refusal("the content of an array is no bytes")
        if len(content) != count * dtype.itemsize:
            raise refusal(
                f"{len(content)} bytes do not fill the shape {dims} of {str(dtype)!r}"
            )
        if not content:
            if count:
                raise refusal("its elements have no size")
            return self._numpy.empty(dims, dtype)  # type: ignore[no-any-return]
        found = self._numpy.frombuffer(content, dtype)
        return found.reshape(dims, order="F" if fortran is True else "C")

    def _object_array(
        self, content: Any, count: int, depth: int
    ) -> np.ndarray[Any, Any]:
        if type(content) is not list or len(content) != count:
            raise refusal("the objects of an array do not fill its shape")
        found: np.ndarray[Any, Any] = self._numpy.empty(count, object)
        for position, item in enumerate(content):
            found[position] = self.value(item, depth + 1)
        return found

    def _scalar(self, scalar: ScalarState) -> Any:
        dtype = self._dtype(scalar.dtype, 0)
        content = scalar.content
        if dtype.hasobject or not isinstance(content, bytes):
            raise refusal("a scalar in it is no number")
        if not content or len(content) != dtype.itemsize:
            raise refusal("the bytes of a scalar do not fit its dtype")
        return self._numpy.frombuffer(content, dtype)[0]

    def _dtype(self, described: Any, depth: int) -> np.dtype[Any]:
        if not isinstance(described, DTypeState) or depth > _DEEPEST:
            raise refusal("an array has no dtype")
        code, state = described.code, described.state
        parts = _CODE.fullmatch(code)
        if parts is None or state is None or len(state) not in {8, 9}:
            raise refusal(f"the dtype {clip(repr(code), 40)} is not known")
        order, subarray, names, fields, size = state[1:6]
        if order not in {"<", ">", "|", "="}:
            raise refusal("a dtype has no byte order")
        if subarray is not None:
            return self._subarray(subarray, depth)
        if names is not None or fields is not None:
            return self._record(names, fields, size, depth)
        if code in {"M8", "m8"}:
            return self._numpy.dtype(order + code + _unit(state))  # type: ignore[no-any-return]
        found: np.dtype[Any] = self._numpy.dtype(order + code)
        if parts[2] and size != found.itemsize:
            raise refusal("the size of a dtype does not fit its code")
        return found

    def _subarray(self, subarray: Any, depth: int) -> np.dtype[Any]:
        base, shape = subarray
        found = self._dtype(base, depth + 1)
        if found.hasobject:
            raise refusal("it holds records of objects")
        dims = _dimensions(shape if isinstance(shape, tuple) else (shape,))
        return self._numpy.dtype((found, dims))  # type: ignore[no-any-return]

    def _record(self, names: Any, fields: Any, size: Any, depth: int) -> np.dtype[Any]:
        if (
            type(names) is not tuple
            or type(fields) is not dict
            or not 0 < len(names) <= _MOST_FIELDS
            or not all(type(fields.get(name)) is tuple for name in names)
            or not _is_int(size)
        ):
            raise refusal("the fields of a record are not described")
        formats, offsets, titles = [], [], []
        for name in names:
            described, offset, *title = fields[name]
            inner = self._dtype(described, depth + 1)
            if inner.hasobject or not _is_int(offset):
                raise refusal("it holds records of objects")
            if not 0 <= offset <= size - inner.itemsize:
                raise refusal("a field lies outside its record")
            if not all(type(text) is str for text in title):
                raise refusal("the title of a field is no text")
            formats.append(inner)
            offsets.append(offset)
            titles.append(title[0] if title else None)
        described = {"names": names, "formats": formats, "offsets": offsets}
        if any(titles):
            described["titles"] = titles
        found: np.dtype[Any] = self._numpy.dtype({**described, "itemsize": size})
        return found


def _unit(state: tuple[Any, ...]) -> str:
    """Return the unit of a date's dtype as numpy writes it, for example ``[25s]``."""
    if len(state) != 9:
        return ""
    _, (unit, count, divisor, _) = state[8]
    name = unit.decode("utf-8") if isinstance(unit, bytes) else unit
    if not isinstance(name, str) or _UNIT.fullmatch(name) is None:
        raise refusal("the unit of a date is not known")
    if not _is_int(count) or not 0 < count < 2**31 or divisor != 1:
        raise refusal("the unit of a date is not known")
    return "" if name == "generic" else f"[{count}{name}]"


def _dimensions(shape: Any) -> tuple[int, ...]:
    if (
        type(shape) is not tuple
        or len(shape) > _MOST_DIMENSIONS
        or not all(_is_int(size) and 0 <= size < 2**62 for size in shape)
    ):
        raise refusal("an array has no shape")
    return shape


def _is_int(value: object) -> bool:
    return type(value) is int
