"""Codecs of numpy arrays and scalars."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._optional import require
from prefect_lume.errors import clip
from prefect_lume.results.codecs.base import Codec, Fields, Path, refusal
from prefect_lume.results.codecs.dtypes import (
    Layout,
    canonical_dtype,
    check_shape,
    describe,
    parse,
)

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder

_PLAIN_TYPES: Final = {"ndarray", "memmap", "recarray", "matrix"}
_LARGEST_CHARACTER: Final = 0x10FFFF
#: Arrays are searched and hashed in parts of so many bytes, to take no more memory.
_PIECE: Final = 1 << 20


class ArrayCodec(Codec):
    """A numpy array: little-endian bytes in C order, without gaps."""

    name = "array"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        _check_type(value, path)
        if value.dtype.kind in "OT":
            return _OBJECTS.encode(value, encoder, path, depth)
        described = describe(value.dtype, path)
        data, content = array_payload(value, described)
        return self.envelope(
            dtype=described,
            shape=list(value.shape),
            **encoder.payload(data, content),
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        layout = parse(fields.tree("dtype"))
        shape = check_shape(fields.items("shape"))
        return read_array(fields, decoder, layout, shape)

    def canonical(self, envelope: Mapping[str, Any]) -> Mapping[str, Any]:
        """Leave the byte order out: the bytes are little-endian always."""
        kept = dict(super().canonical(envelope))
        kept["dtype"] = canonical_dtype(kept.get("dtype"))
        return kept


class ObjectArrayCodec(Codec):
    """A numpy array of Python objects, or of strings of any length."""

    name = "object-array"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        variable = value.dtype.kind == "T"
        if variable and hasattr(value.dtype, "na_object"):
            raise refusal(path, "a string array with missing values cannot be stored.")
        members = value.reshape(-1).tolist()
        return self.envelope(
            dtype="str" if variable else "object",
            shape=list(value.shape),
            items=encoder.sequence(members, path, depth, owner=value),
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        numpy = require("numpy", "Loading this array")
        shape = check_shape(fields.items("shape"))
        items = fields.items("items")
        kind = fields.text("dtype")
        if math.prod(shape) != len(items) or kind not in {"object", "str"}:
            raise fields.error("has a shape or dtype that does not fit its items")
        found = numpy.empty(len(items), dtype=object)
        for position, item in enumerate(items):
            place = (*fields.path, position)
            found[position] = decoder.eager().decode(item, place, fields.depth + 1)
        if kind == "str":
            if not all(type(item) is str for item in found):
                raise fields.error("holds items that are no strings")
            found = found.astype(numpy.dtypes.StringDType())
        return found.reshape(shape)


class ScalarCodec(Codec):
    """A numpy scalar, which comes back as one; its value can be queried."""

    name = "numpy-scalar"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        described = describe(value.dtype, path) if value.dtype.itemsize else "|S1"
        plain = _plain_value(value)
        if plain is None:
            data, content = array_payload(require("numpy").asarray(value), described)
            return self.envelope(dtype=described, **encoder.payload(data, content))
        return self.envelope(
            dtype=described, value=encoder.encode(plain, path, depth + 1)
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        numpy = require("numpy", "Loading this number")
        layout = parse(fields.tree("dtype"))
        if not fields.has("value"):
            return read_array(fields, decoder, layout, ())[()]
        plain = decoder.eager().decode(
            fields.tree("value"), (*fields.path, "value"), fields.depth + 1
        )
        if type(plain) not in _PLAIN_OF_KIND.get(layout.wanted.kind, ()):
            raise fields.error("has a value that does not fit its dtype")
        if layout.wanted.kind in "US":
            found = numpy.dtype(layout.wanted).type(plain)
        elif layout.wanted.kind in "mM":
            found = numpy.array(plain, "<i8").view(layout.stored)[()]
        else:
            found = numpy.array(plain, layout.wanted.newbyteorder("="))[()]
        if _plain_value(found) != plain and plain == plain:
            raise fields.error("has a value that does not fit its dtype")
        return found

    def canonical(self, envelope: Mapping[str, Any]) -> Mapping[str, Any]:
        """Leave the byte order out."""
        kept = dict(super().canonical(envelope))
        kept["dtype"] = canonical_dtype(kept.get("dtype"))
        return kept


_PLAIN_OF_KIND: Final[Mapping[str, tuple[type, ...]]] = {
    "b": (bool,),
    "i": (int,),
    "u": (int,),
    "f": (float,),
    "c": (complex,),
    "U": (str,),
    "S": (bytes,),
    "m": (int,),
    "M": (int,),
}


def _plain_value(scalar: Any) -> Any:
    """Return the Python value that holds all of a numpy scalar, or ``None``."""
    kind = scalar.dtype.kind
    if kind in "mM":
        return int(scalar.view("<i8" if scalar.dtype.isnative else ">i8"))
    if kind == "U":
        return str(scalar)
    if kind == "S":
        return bytes(scalar)
    if kind in "biu" or scalar.dtype.char in "efdFD":
        return scalar.item()
    return None


def array_payload(array: Any, described: Any) -> tuple[Any, str | None]:
    """Return an array's bytes as they are stored, and its content's hash.

    Returns:
        A one-dimensional view (of the array's own memory where it can be), and the
        hash that counts when it is not that of the bytes: the bits of a NaN differ
        between machines and must not.
    """
    numpy = require("numpy", "Storing an array")
    layout = parse(described)
    packed = numpy.asarray(array).astype(layout.stored, order="C", copy=False)
    padded = "/x87" in str(described)
    if padded:
        packed = _without_padding(packed)
    data = _bytes_of(packed)
    view = memoryview(data) if data.size else memoryview(b"")
    return view, _hash_plain(packed, padded=padded)


def _without_padding(array: Any) -> Any:
    """Return a copy in which the six bytes behind each x87 number are zero."""
    copied = array.copy()
    _bytes_of(copied).reshape(-1, 16)[:, 10:] = 0
    return copied


def _bytes_of(array: Any) -> Any:
    return array.reshape(-1).view("u1")


def _pieces(array: Any) -> Iterator[Any]:
    """Yield a contiguous array's elements in parts of about :data:`_PIECE` bytes."""
    flat = array.reshape(-1)
    step = max(1, _PIECE // flat.itemsize)
    for start in range(0, flat.size, step):
        yield flat[start : start + step]


def _hash_plain(array: Any, *, padded: bool) -> str | None:
    """Return the hash with one bit pattern for NaN, or ``None`` without any NaN."""
    if not any(_holds_nan(piece) for piece in _pieces(array)):
        return None
    digest = hashlib.sha256()
    for piece in _pieces(array):
        plain = _plain_nans(piece) if _holds_nan(piece) else piece
        digest.update(_bytes_of(_without_padding(plain) if padded else plain))
    return digest.hexdigest()


def _plain_nans(array: Any) -> Any:
    """Return a copy with one bit pattern for NaN."""
    numpy = require("numpy")
    copied = array.copy()
    if array.dtype.names is not None:
        for name in array.dtype.names:
            if _holds_nan(array[name]):
                copied[name] = _plain_nans(array[name])
        return copied
    parts = (copied.real, copied.imag) if array.dtype.kind == "c" else (copied,)
    for part in parts:
        part[numpy.isnan(part)] = numpy.nan
    return copied


def _holds_nan(array: Any) -> bool:
    if array.dtype.names is not None:
        return any(_holds_nan(array[name]) for name in array.dtype.names)
    return array.dtype.kind in "fc" and bool(require("numpy").isnan(array).any())


def read_array(
    fields: Fields, decoder: Decoder, layout: Layout, shape: tuple[int, ...]
) -> Any:
    """Return the array of an envelope's payload, its size checked first.

    The array is the payload's own memory if that can be written to (a bytearray) and
    holds what is wanted as it is.
    """
    numpy = require("numpy", "Loading this array")
    data = fields.payload(decoder)
    size = memoryview(data).nbytes
    if math.prod(shape) * layout.itemsize != size:
        raise fields.error(
            f"has {size} bytes, which is not what its shape and dtype need"
        )
    if not size:
        return numpy.empty(shape, layout.wanted)
    found = numpy.frombuffer(data, layout.stored).reshape(shape)
    for piece in _pieces(found):
        _check_values(piece, fields)
    if layout.stored != layout.wanted:
        return found.astype(layout.wanted)
    return found if found.flags.writeable else found.copy()


def _check_values(array: Any, fields: Fields) -> None:
    """Refuse bytes that are no booleans or characters."""
    if array.dtype.names is not None:
        for name in array.dtype.names:
            _check_values(array[name], fields)
    elif array.dtype.kind == "b":
        if int(array.view("u1").max(initial=0)) > 1:
            raise fields.error("holds booleans that are neither 0 nor 1")
    elif array.dtype.kind == "U":
        codes = _compact(array).view("<u4")
        if codes.size and int(codes.max()) > _LARGEST_CHARACTER:
            raise fields.error("holds characters that do not exist")


def _compact(array: Any) -> Any:
    return require("numpy").ascontiguousarray(array)


def _check_type(value: Any, path: Path) -> None:
    kind = type(value)
    if kind.__name__ not in _PLAIN_TYPES or not kind.__module__.startswith("numpy"):
        raise refusal(
            path,
            f"arrays of the class {clip(kind.__qualname__, 60)!r} cannot be stored "
            "without losing what it adds (a unit, a mask...). Store "
            "numpy.asarray(value), and the rest beside it.",
        )


_ARRAY, _OBJECTS, _SCALAR = ArrayCodec(), ObjectArrayCodec(), ScalarCodec()

CODECS: Final = (_ARRAY, _OBJECTS, _SCALAR)
TYPES: Final[Mapping[type, Codec]] = {}
NAMES: Final[Mapping[str, Codec]] = {
    "numpy.ndarray": _ARRAY,
    "numpy.generic": _SCALAR,
    "numpy.str_": _SCALAR,
    "numpy.bytes_": _SCALAR,
    "numpy.float64": _SCALAR,
    "numpy.complex128": _SCALAR,
}
