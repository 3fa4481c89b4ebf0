"""Codecs of numbers, text and bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from prefect_lume.results.codecs.base import INT64, Codec, Fields, Path, refusal
from prefect_lume.results.codecs.lazy import StoredBytes

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder

_HEX: Final = re.compile(r"-?0x[0-9a-f]+")
_NOT_FINITE: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_LONG_INT: Final = 1024


class IntCodec(Codec):
    """An integer past 64 bits, as hexadecimal text; subclasses as plain integers."""

    name = "int"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        number = int(value)
        if -INT64 <= number < INT64:
            return number
        text = hex(number)
        if len(text) <= _LONG_INT:
            return self.envelope(value=text)
        return self.envelope(**encoder.payload(text.encode("ascii")))

    def decode(self, fields: Fields, decoder: Decoder) -> int:
        if fields.has("value"):
            text = fields.text("value")
        else:
            text = str(fields.payload(decoder), "ascii")
        if not _HEX.fullmatch(text):
            raise fields.error("needs a hexadecimal number such as '0x1f' as 'value'")
        return int(text, 16)


class FloatCodec(Codec):
    """A float that JSON has no text for; subclasses as plain floats."""

    name = "float"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        number = float(value)
        if math.isfinite(number):
            return number
        text = "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
        return self.envelope(value=text)

    def decode(self, fields: Fields, decoder: Decoder) -> float:
        text = fields.text("value")
        if text not in _NOT_FINITE:
            raise fields.error("needs 'nan', 'inf' or '-inf' as 'value'")
        return _NOT_FINITE[text]


class ComplexCodec(Codec):
    """A complex number, as its two floats."""

    name = "complex"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        number = complex(value)
        return self.envelope(
            real=encoder.encode(number.real, path, depth + 1),
            imag=encoder.encode(number.imag, path, depth + 1),
        )

    def decode(self, fields: Fields, decoder: Decoder) -> complex:
        parts = [
            decoder.decode(fields.tree(key), (*fields.path, key), fields.depth + 1)
            for key in ("real", "imag")
        ]
        if not all(type(part) is float for part in parts):
            raise fields.error("needs floats as 'real' and 'imag'")
        return complex(parts[0], parts[1])


class DecimalCodec(Codec):
    """A decimal number, as its text: digits and exponent are kept."""

    name = "decimal"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        return self.envelope(value=str(Decimal(value)))

    def decode(self, fields: Fields, decoder: Decoder) -> Decimal:
        return Decimal(fields.text("value"))


class TextCodec(Codec):
    """Long text, as a payload of UTF-8; short text stays a plain string."""

    name = "str"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        if type(value) is not str:
            return encoder.encode(str.__str__(value), path, depth)
        return self.envelope(**encoder.payload(value.encode("utf-8")))

    def decode(self, fields: Fields, decoder: Decoder) -> str:
        return str(fields.payload(decoder), "utf-8")


class BytesCodec(Codec):
    """Bytes, as a payload."""

    name = "bytes"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        if isinstance(value, memoryview):
            if not value.contiguous:
                raise refusal(
                    path, "the memoryview is not contiguous. Store bytes(view)."
                )
            plain = value.c_contiguous and len(value.format) == 1 and value.nbytes
            value = value.cast("B") if plain else bytes(value)
        return self.envelope(**encoder.payload(value))

    def decode(self, fields: Fields, decoder: Decoder) -> bytes:
        return bytes(fields.payload(decoder))


class StoredBytesCodec(BytesCodec):
    """Bytes that are a blob already: the envelope that they would have."""

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        return self.envelope(blob=value.sha256, size=value.size)


class ByteArrayCodec(Codec):
    """A bytearray, as a payload."""

    name = "bytearray"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        return self.envelope(**encoder.payload(bytes(value)))

    def decode(self, fields: Fields, decoder: Decoder) -> bytearray:
        data = fields.payload(decoder)
        return data if type(data) is bytearray else bytearray(data)


_INT, _FLOAT, _TEXT, _BYTES = IntCodec(), FloatCodec(), TextCodec(), BytesCodec()
_COMPLEX, _DECIMAL, _BYTEARRAY = ComplexCodec(), DecimalCodec(), ByteArrayCodec()

CODECS: Final = (_INT, _FLOAT, _COMPLEX, _DECIMAL, _TEXT, _BYTES, _BYTEARRAY)
TYPES: Final[Mapping[type, Codec]] = {
    int: _INT,
    float: _FLOAT,
    complex: _COMPLEX,
    Decimal: _DECIMAL,
    str: _TEXT,
    bytes: _BYTES,
    memoryview: _BYTES,
    bytearray: _BYTEARRAY,
    StoredBytes: StoredBytesCodec(),
}
NAMES: Final[Mapping[str, Codec]] = {}
