"""Codecs of the containers that JSON does not have, and of dict-like values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._fingerprint import canonical_json
from prefect_lume.results.codecs.base import Codec, Fields, Path

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder


class TupleCodec(Codec):
    """A tuple. A named tuple comes back as a plain one."""

    name = "tuple"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        return self.envelope(items=encoder.sequence(value, path, depth))

    def decode(self, fields: Fields, decoder: Decoder) -> tuple[Any, ...]:
        values = []
        for position, item in enumerate(fields.items("items")):
            place = (*fields.path, position)
            values.append(decoder.decode(item, place, fields.depth + 1))
        return tuple(values)


class SetCodec(Codec):
    """A set of plain values, its members in one fixed order."""

    name = "set"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        items = encoder.sequence(list(value), path, depth, owner=value)
        return self.envelope(items=sorted(items, key=canonical_json))

    def decode(self, fields: Fields, decoder: Decoder) -> set[Any] | frozenset[Any]:
        return set(_TUPLE.decode(fields, decoder.eager()))


class FrozenSetCodec(SetCodec):
    """A frozenset of plain values."""

    name = "frozenset"

    def decode(self, fields: Fields, decoder: Decoder) -> frozenset[Any]:
        return frozenset(_TUPLE.decode(fields, decoder.eager()))


class MappingCodec(Codec):
    """A mapping or list subclass: comes back as a plain dict or list."""

    name = "dict"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        if isinstance(value, list):
            return encoder.sequence(value, path, depth)
        return encoder.mapping(value.items(), value, path, depth)

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        """Refuse: a dict is never an envelope."""
        raise fields.error("does not exist: dicts are stored as they are")


_TUPLE, _SET, _FROZENSET = TupleCodec(), SetCodec(), FrozenSetCodec()
MAPPING: Final = MappingCodec()

CODECS: Final = (_TUPLE, _SET, _FROZENSET)
TYPES: Final[Mapping[type, Codec]] = {
    tuple: _TUPLE,
    set: _SET,
    frozenset: _FROZENSET,
    dict: MAPPING,
    list: MAPPING,
    MappingProxyType: MAPPING,
}
NAMES: Final[Mapping[str, Codec]] = {}
