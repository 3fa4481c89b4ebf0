"""The codec of pint's quantities: a magnitude and the text of its units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._optional import require
from prefect_lume.errors import clip
from prefect_lume.results.codecs.base import Codec, Fields, Path, refusal

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder

# pint's own parser takes any arithmetic, and would compute 9 ** 9 ** 9 ** 9.
_UNIT: Final = re.compile(
    r"([^\W\d]\w{0,99})(?: \*\* (-?[0-9]{1,9}(?:\.[0-9]{1,17})?))?"
)
_TIMES: Final = " * "
_MOST_UNITS: Final = 100


class QuantityCodec(Codec):
    """A pint Quantity, which comes back as one of the application's registry."""

    name = "quantity"
    nested = True

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        if type(value).__name__ != "Quantity":
            raise refusal(
                path,
                f"quantities of the class {clip(type(value).__qualname__, 60)!r} "
                "cannot be stored. Store the value and its error as two quantities.",
            )
        magnitude = value.magnitude
        if not _is_number(magnitude):
            raise refusal(
                path,
                f"a quantity of {clip(type(magnitude).__qualname__, 60)!r} cannot be "
                "stored. Use one of numbers, or of a numpy array.",
            )
        return self.envelope(
            magnitude=encoder.encode(magnitude, (*path, "magnitude"), depth + 1),
            units=units_text(dict(value.unit_items()), path),
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        registry = require("pint", "Loading this quantity").get_application_registry()
        magnitude = decoder.eager().decode(
            fields.tree("magnitude"), (*fields.path, "magnitude"), fields.depth + 1
        )
        if not _is_number(magnitude):
            raise fields.error("needs a number or an array as 'magnitude'")
        return registry.Quantity(magnitude, _read_units(fields, registry))


def units_text(units: Mapping[str, Any], path: Path) -> str:
    """Return units as text that does not depend on how a registry shows them.

    Args:
        units: pint's name of a unit → its exponent.
        path: Where the quantity is.

    Example:
        >>> units_text({"second": -2, "meter": 1}, ())
        'meter * second ** -2'
    """
    parts = []
    for name, exponent in sorted(units.items()):
        number = float(exponent)
        short = int(number) if number.is_integer() else number
        part = name if short == 1 else f"{name} ** {short}"
        if number != exponent or not _UNIT.fullmatch(part):
            raise refusal(
                path,
                f"the unit {clip(name, 60)!r} to the power of {clip(exponent, 40)} "
                "cannot be stored. Convert the quantity to other units.",
            )
        parts.append(part)
    return _TIMES.join(parts)


def _read_units(fields: Fields, registry: Any) -> Any:
    text = fields.text("units")
    parts = text.split(_TIMES) if text else []
    if len(parts) > _MOST_UNITS:
        raise fields.error("has too many 'units'")
    units = registry.Unit("")
    for part in parts:
        hit = _UNIT.fullmatch(part)
        if hit is None:
            raise fields.error("has 'units' that are not written as units are")
        name, exponent = hit.groups()
        try:
            unit = registry.parse_units(name, as_delta=False)
        except AttributeError as exc:
            raise fields.error(
                f"is in the unit {clip(name, 60)!r}, which the application's registry "
                "of pint does not define. Define it there (see "
                "pint.set_application_registry), then load it again"
            ) from exc
        if exponent is not None:
            number = float(exponent)
            unit = unit ** (int(number) if number.is_integer() else number)
        units = units * unit
    return units


def _is_number(magnitude: Any) -> bool:
    if type(magnitude) in {int, float, complex, Decimal}:
        return True
    numpy = require("numpy") if type(magnitude).__module__ == "numpy" else None
    return numpy is not None and isinstance(magnitude, numpy.ndarray | numpy.number)


_QUANTITY: Final = QuantityCodec()

CODECS: Final = (_QUANTITY,)
TYPES: Final[Mapping[type, Codec]] = {}
NAMES: Final[Mapping[str, Codec]] = {"pint.Quantity": _QUANTITY}
