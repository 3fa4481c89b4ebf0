"""Which codec stores what: by a value's type, and by an envelope's name."""

from __future__ import annotations

from typing import Any, Final

from prefect_lume.results.codecs import (
    arrays,
    containers,
    labelled,
    objects,
    pandas_values,
    quantities,
    scalars,
    spill,
    tables,
    times,
)
from prefect_lume.results.codecs.base import Codec

_FAMILIES: Final = (
    scalars,
    times,
    containers,
    objects,
    arrays,
    pandas_values,
    tables,
    labelled,
    quantities,
    spill,
)

#: Envelope name → codec.
CODECS: Final[dict[str, Codec]] = {
    codec.name: codec for family in _FAMILIES for codec in family.CODECS
}

_BY_TYPE: Final[dict[type, Codec]] = {
    kind: codec for family in _FAMILIES for kind, codec in family.TYPES.items()
}

# Types of heavy packages are known by name, so that nothing imports them.
_BY_NAME: Final[dict[str, Codec]] = {
    name: codec for family in _FAMILIES for name, codec in family.NAMES.items()
}


def find(value: Any) -> Codec | None:
    """Return the codec that stores a value, or ``None``: nearest base class first."""
    for kind in type(value).__mro__:
        codec = _BY_TYPE.get(kind) or _BY_NAME.get(_public_name(kind))
        if codec is not None:
            return codec
    return objects.find(value)


def _public_name(kind: type) -> str:
    package = kind.__module__.partition(".")[0]
    return f"{package}.{kind.__name__}"
