"""From trees back to values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from prefect_lume.errors import DecodingError, LumeError, clip, name_list
from prefect_lume.results.codecs import registry
from prefect_lume.results.codecs.base import (
    INT64,
    MAX_DEPTH,
    Codec,
    Fields,
    LoadBlob,
    Path,
    show_path,
)
from prefect_lume.results.codecs.keys import MARK, escape_key, unescape_key
from prefect_lume.results.codecs.lazy import Lazy

# Envelopes inside envelopes take a few levels more than the values they hold.
_MARGIN = 16
_SCALARS = frozenset({type(None), bool, int, float, str})
_MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    OSError,
    MemoryError,
    NotImplementedError,
)


class Decoder:
    """Makes values of trees.

    Attributes:
        load_blob: SHA-256 → bytes, or ``None`` when no blobs can be loaded.
        lazy: Values whose payload is a blob come back as :class:`Lazy`.
    """

    def __init__(self, load_blob: LoadBlob | None, *, lazy: bool = False) -> None:
        self.load_blob = load_blob
        self.lazy = lazy

    def decode(self, tree: Any, path: Path, depth: int) -> Any:
        """Return the value of one tree.

        Raises:
            DecodingError: The tree is not one that this version can read.
            IntegrityError: A payload is not what its hash says.
        """
        kind = type(tree)
        if kind in _SCALARS:
            return _checked(tree, path)
        if kind is not list and not isinstance(tree, Mapping):
            raise DecodingError(
                show_path(path), f"a {kind.__name__} is no part of a stored document."
            )
        if depth > MAX_DEPTH + _MARGIN:
            raise DecodingError(
                show_path(path), f"stored values are nested more than {MAX_DEPTH} deep."
            )
        if kind is list:
            values = []
            for position, item in enumerate(tree):
                values.append(self.decode(item, (*path, position), depth + 1))
            return values
        if MARK in tree:
            return self._envelope(tree, path, depth)
        found = {}
        for key, item in tree.items():
            plain = self._key(key, path)
            found[plain] = self.decode(item, (*path, plain), depth + 1)
        return found

    def eager(self) -> Decoder:
        """Return a decoder that loads blobs at once, as values inside values need."""
        return Decoder(self.load_blob) if self.lazy else self

    def _envelope(self, tree: Mapping[str, Any], path: Path, depth: int) -> Any:
        fields = Fields(tree, path, depth)
        name = tree[MARK]
        if not isinstance(name, str):
            raise fields.error("has a name that is no string")
        codec = registry.CODECS.get(name)
        if codec is None:
            raise DecodingError(
                show_path(path),
                f"unknown codec {clip(repr(name), 60)}; this version of prefect-lume "
                f"reads {name_list(registry.CODECS, 60)}. A newer one may know it.",
            )
        version = fields.integer("v", 1)
        if version > codec.version:
            raise DecodingError(
                show_path(path),
                f"the codec {name!r} has version {version}; this version of "
                f"prefect-lume reads up to {codec.version}. Install a newer one.",
            )
        late = self.lazy and ("blob" in tree or (codec.nested and _holds_blob(tree)))
        if not late:
            return self._value(codec, fields)

        def load(*, lazy: bool) -> Any:
            return (self if lazy else self.eager())._value(codec, fields)

        return Lazy(tree, load)

    def _value(self, codec: Codec, fields: Fields) -> Any:
        try:
            return codec.decode(fields, self)
        except LumeError:
            raise
        except RecursionError as exc:
            raise fields.error("is nested too deep") from exc
        except _MALFORMED as exc:
            raise DecodingError(
                show_path(fields.path),
                f"the stored {codec.name!r} envelope is malformed ({clip(exc, 120)}).",
            ) from exc

    @staticmethod
    def _key(key: object, path: Path) -> str:
        if not isinstance(key, str):
            raise DecodingError(show_path(path), "a key that is no string.")
        plain = unescape_key(key)
        if escape_key(plain) != key:
            raise DecodingError(
                show_path(path), f"the key {clip(ascii(key), 60)} is not escaped."
            )
        return plain


def _holds_blob(tree: Any) -> bool:
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping):
            if MARK in item and "blob" in item:
                return True
            pending.extend(item.values())
        elif type(item) is list:
            pending.extend(item)
    return False


def _checked(tree: Any, path: Path) -> Any:
    kind = type(tree)
    if kind is int and not -INT64 <= tree < INT64:
        raise DecodingError(show_path(path), "an integer past 64 bits.")
    if kind is float and not math.isfinite(tree):
        raise DecodingError(show_path(path), f"the bare number {tree}.")
    return tree


def decode(
    tree: Any,
    *,
    load_blob: LoadBlob | None = None,
    path: str = "",
    lazy: bool = False,
) -> Any:
    """Return the value that :func:`~prefect_lume.results.codecs.encode` stored.

    Args:
        tree: The stored tree.
        load_blob: Returns the bytes of a blob by its SHA-256. What it raises is
            raised as it is.
        path: The label of the tree in messages.
        lazy: Values whose payload is a blob come back as
            :class:`~prefect_lume.results.codecs.Lazy`, to be loaded later.

    Returns:
        The value.

    Raises:
        DecodingError: The tree is malformed, or of a newer version.
        IntegrityError: A payload is not what its hash says.

    Example:
        >>> decode({"__lume__": "tuple", "v": 1, "items": [1, 2]})
        (1, 2)
    """
    try:
        return Decoder(load_blob, lazy=lazy).decode(tree, (path,) if path else (), 0)
    except RecursionError as exc:
        raise DecodingError(path, "stored values are nested too deep.") from exc
