"""From values to trees."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any, Final

from prefect_lume._fingerprint import (
    ascii_json,
    canonical_json,
    join_json,
    sha256_bytes,
)
from prefect_lume.errors import EncodingError, InvalidInputError, clip
from prefect_lume.results.codecs import registry
from prefect_lume.results.codecs.base import (
    DEFAULT_THRESHOLD,
    INT64,
    MAX_DEPTH,
    Path,
    refusal,
)
from prefect_lume.results.codecs.keys import MARK, escape_key
from prefect_lume.results.codecs.lazy import Lazy

#: Text of at most so many bytes always stays in the tree.
SHORT_TEXT: Final = 1024

_SCALARS: Final = frozenset({type(None), bool, int, float, str})

_ALLOWED: Final = (
    "Allowed are None, bool, int, float, complex, Decimal, str, bytes, list, tuple, "
    "set, dict, datetime, date, time, timedelta, UUID, Path, Enum, dataclasses, "
    "pydantic models, numpy arrays and scalars, pandas DataFrame, Series and Index, "
    "pyarrow Table, xarray DataArray and Dataset, pint Quantity, FileReference and "
    "ResultReference."
)
_REMEDY: Final = (
    "Store what it holds as one of these, leave it out, or save it as a file and "
    "store the FileReference."
)


@dataclass(frozen=True)
class Encoded:
    """A value as it is stored.

    Attributes:
        tree: JSON types only: None, bool, int within 64 bit, finite float, str,
            list, and dict with string keys.
        blobs: SHA-256 of a payload → the payload, to be written before the document.
            A payload may be a view of the value's own memory: write it before the
            value is changed.
        texts: Of a document, each field as ASCII JSON, if it was written already.
    """

    tree: Any
    blobs: dict[str, bytes | memoryview] = field(default_factory=dict)
    texts: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    def json(self) -> str:
        """Return the tree as ASCII JSON with sorted keys."""
        return ascii_json(self.tree) if self.texts is None else join_json(self.texts)


class Encoder:
    """Makes trees of values, and collects what leaves them.

    Attributes:
        threshold: Payloads of more bytes leave the tree.
        hashing: Only the trees' hash is wanted: payloads are not kept.
        blobs: The payloads that left the tree.
    """

    def __init__(self, threshold: int, *, hashing: bool = False) -> None:
        self.threshold = -1 if hashing else threshold
        self.hashing = hashing
        self.blobs: dict[str, bytes | memoryview] = {}
        self._open: set[int] = set()

    def encode(self, value: Any, path: Path, depth: int) -> Any:
        """Return the tree of one value.

        Args:
            value: The value.
            path: Where it is, for messages.
            depth: How many containers are around it.

        Raises:
            EncodingError: The value, or something in it, cannot be stored.
        """
        kind = type(value)
        if kind in _SCALARS:
            return self._scalar(value, path, depth)
        if isinstance(value, Enum):
            return self.encode(value.value, path, depth)
        if kind is dict:
            return self.mapping(value.items(), value, path, depth)
        if kind is list:
            return self.sequence(value, path, depth)
        if kind is Lazy:
            return self._lazy(value, path, depth)
        codec = registry.find(value)
        if codec is None:
            raise refusal(
                path,
                f"a value of type {clip(_type_name(kind), 120)} cannot be stored. "
                f"{_ALLOWED} {_REMEDY}",
            )
        return codec.encode(value, self, path, depth)

    def _scalar(self, value: Any, path: Path, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self.text(value, path)
        if kind is int and not -INT64 <= value < INT64:
            return registry.CODECS["int"].encode(value, self, path, depth)
        if kind is float and not math.isfinite(value):
            return registry.CODECS["float"].encode(value, self, path, depth)
        return value

    def text(self, value: str, path: Path) -> Any:
        """Return the tree of a string: itself, or a payload when it is long."""
        try:
            size = len(value) if value.isascii() else len(value.encode("utf-8"))
        except UnicodeEncodeError as exc:
            raise refusal(
                path,
                f"the text holds a lone surrogate at position {exc.start}, which is "
                "no Unicode character. Store bytes, or replace it: "
                "text.encode('utf-8', 'replace').decode()",
            ) from exc
        if size <= max(self.threshold, SHORT_TEXT):
            return value
        return registry.CODECS["str"].encode(value, self, path, 0)

    def mapping(
        self, items: Iterable[tuple[Any, Any]], owner: object, path: Path, depth: int
    ) -> dict[str, Any]:
        """Return the tree of a dict's items.

        Args:
            items: The pairs.
            owner: The object that holds them, to recognise a cycle.
            path: Where it is.
            depth: How many containers are around it.
        """
        self._enter(owner, path, depth)
        tree: dict[str, Any] = {}
        for key, item in items:
            if type(key) is str and key.isidentifier() and key != MARK:
                stored = plain = key
            else:
                plain = self._plain_key(key, path)
                stored = escape_key(plain)
            kind = type(item)
            # What most items are is dealt with here: a call costs as much again.
            if (
                (kind is float and -inf < item < inf)
                or (kind is str and len(item) <= SHORT_TEXT and item.isascii())
                or (kind is int and -INT64 <= item < INT64)
                or kind is bool
                or item is None
            ):
                tree[stored] = item
            else:
                tree[stored] = self.encode(item, (*path, plain), depth + 1)
        self._open.discard(id(owner))
        return tree

    def sequence(
        self, items: Iterable[Any], path: Path, depth: int, owner: object = None
    ) -> list[Any]:
        """Return the trees of a list's items, in their order."""
        owner = items if owner is None else owner
        self._enter(owner, path, depth)
        tree: list[Any] = []
        for position, item in enumerate(items):
            kind = type(item)
            if (
                (kind is float and -inf < item < inf)
                or (kind is int and -INT64 <= item < INT64)
                or (kind is str and len(item) <= SHORT_TEXT and item.isascii())
                or kind is bool
            ):
                tree.append(item)
            else:
                tree.append(self.encode(item, (*path, position), depth + 1))
        self._open.discard(id(owner))
        return tree

    def payload(
        self, data: bytes | memoryview, content: str | None = None
    ) -> dict[str, Any]:
        """Return the fields that stand for some bytes in an envelope.

        Args:
            data: The bytes, one-dimensional.
            content: The hash that counts for ``unique_hash``, when it is not that of
                the bytes.
        """
        digest = sha256_bytes(data)
        size = memoryview(data).nbytes
        extra = {} if content in (None, digest) else {"content": content}
        if size <= self.threshold:
            text = base64.b64encode(data).decode("ascii")
            return {"data": text, "sha256": digest, **extra}
        if not self.hashing:
            self.blobs[digest] = data
        return {"blob": digest, "size": size, **extra}

    def _lazy(self, value: Lazy, path: Path, depth: int) -> Any:
        """Return the envelope that a lazy value came from, or what is in a tree."""
        if value.codec == "tree":
            return self.encode(value.open(), path, depth)
        try:
            return json.loads(canonical_json(value.envelope))
        except (TypeError, ValueError, RecursionError) as exc:
            raise refusal(
                path,
                "the value that is not loaded yet has an envelope that is damaged. "
                "Call load() to see what is wrong with it.",
            ) from exc

    def _enter(self, owner: object, path: Path, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise refusal(
                path,
                f"values are nested more than {MAX_DEPTH} deep. Store them flat.",
            )
        if id(owner) in self._open:
            raise refusal(
                path,
                "the value contains itself. Store a value without a cycle.",
            )
        self._open.add(id(owner))

    @staticmethod
    def _plain_key(key: Any, path: Path) -> str:
        """Return a dict's key as a plain string, or refuse it."""
        if not isinstance(key, str):
            raise refusal(
                path,
                f"{_shown_key(key)} is of type "
                f"{_type_name(type(key))}; keys must be strings. Use "
                "str(key), or store the items as a list of pairs.",
            )
        plain = str.__str__(key) if type(key) is not str else key
        try:
            plain.encode("utf-8")
        except UnicodeEncodeError as exc:
            raise refusal(
                path,
                f"the key {clip(ascii(plain), 60)} holds a lone surrogate, which is no "
                "Unicode character.",
            ) from exc
        return plain


def encode(
    value: Any, *, path: str = "value", threshold: int = DEFAULT_THRESHOLD
) -> Encoded:
    """Return a value as JSON types and the payloads that left them. Writes nothing.

    Args:
        value: What is to be stored.
        path: The label of the value in messages.
        threshold: Payloads (array bytes, tables, bytes, text) of more bytes than
            this become blobs; smaller ones stay in the tree.

    Returns:
        The tree and the blobs.

    Raises:
        EncodingError: Something in the value cannot be stored; ``path`` says where.
        InvalidInputError: The threshold is negative.

    Example:
        >>> encode({"a.b": (1, 2)}).tree
        {'a%2Eb': {'__lume__': 'tuple', 'v': 1, 'items': [1, 2]}}
    """
    if threshold < 0:
        raise InvalidInputError(
            f"The threshold is a number of bytes, 0 or more, not {threshold}."
        )
    encoder = Encoder(threshold)
    return Encoded(_guarded(encoder, value, path), encoder.blobs)


def encode_for_hash(value: Any, *, path: str = "value") -> Any:
    """Return a value's tree with all payloads replaced by their hashes."""
    return _guarded(Encoder(0, hashing=True), value, path)


def _guarded(encoder: Encoder, value: Any, path: str) -> Any:
    try:
        return encoder.encode(value, (path,), 0)
    except RecursionError as exc:
        raise EncodingError(path, "values are nested too deep. Store them flat.") from (
            exc
        )


def _shown_key(key: object) -> str:
    # The repr of other objects may be long, or fail.
    small = isinstance(key, int) and abs(key) < INT64
    return f"the key {key!r}" if small or isinstance(key, float | None) else "a key"


def _type_name(kind: type) -> str:
    module = kind.__module__
    name = kind.__qualname__
    return repr(name if module == "builtins" else f"{module}.{name}")
