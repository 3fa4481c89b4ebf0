"""Containers that grow too large or too deep for a document leave it as a whole.

MongoDB allows 16 MB and 100 levels in a document. A list or dict that would take more
than :data:`LARGEST` bytes there, or hold more than :data:`DEEPEST` levels, becomes a
blob of JSON; the innermost such container goes first, so that as much as possible
stays in the document and can be queried.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.results.codecs.base import Codec, Fields, Path
from prefect_lume.results.codecs.keys import MARK

#: A container of more bytes than this (as BSON) leaves the document.
LARGEST: Final = 1 << 20
#: A container of more levels than this leaves the document.
DEEPEST: Final = 60

_DOCUMENT: Final = 12 << 20


class TreeCodec(Codec):
    """A list or dict that left the document: its tree as JSON in a blob."""

    name = "tree"

    def encode(self, value: Any, encoder: Any, path: Path, depth: int) -> Any:
        """Return the envelope of a *tree* (not of a value) and keep its JSON."""
        data = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode("utf-8")
        digest = sha256_bytes(data)
        encoder.blobs[digest] = data
        return self.envelope(blob=digest, size=len(data))

    def decode(self, fields: Fields, decoder: Any) -> Any:
        tree = load_tree(fields, decoder)
        return decoder.decode(tree, fields.path, fields.depth)


def load_tree(fields: Fields, decoder: Any) -> Any:
    """Return the tree that a ``tree`` envelope stands for."""
    tree = json.loads(str(fields.payload(decoder), "utf-8"))
    if not isinstance(tree, list | dict):
        raise fields.error("holds neither a list nor a dict")
    return tree


def fit(trees: Mapping[str, Any], blobs: dict[str, Any]) -> dict[str, Any]:
    """Return a document's fields, small and flat enough for any database.

    Args:
        trees: The fields' trees.
        blobs: Receives the JSON of what leaves them.
    """
    largest = LARGEST
    while True:
        spiller = _Spiller(largest)
        walked = {key: spiller.walk(tree, inside=False) for key, tree in trees.items()}
        size = sum(size + len(name) for name, (_, size, _) in walked.items())
        if size <= _DOCUMENT or largest < _ENVELOPE_SIZE:
            blobs.update(spiller.blobs)
            return {name: tree for name, (tree, _, _) in walked.items()}
        largest //= 4


class _Spiller:
    """Moves containers out of a tree, the innermost first."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.blobs: dict[str, Any] = {}

    def walk(self, tree: Any, *, inside: bool) -> tuple[Any, int, int]:
        """Return a tree, its size as BSON and its levels."""
        kind = type(tree)
        if kind is str:
            return tree, 5 + (len(tree) if tree.isascii() else len(tree.encode())), 0
        if kind is not dict and kind is not list:
            return tree, 8, 0
        size, levels = 5, 0
        kept: Any
        if kind is list:
            kept = []
            for item in tree:
                shown, inner, below = self.walk(item, inside=False)
                kept.append(shown)
                size += inner + 9
                levels = max(levels, below)
        else:
            kept = {}
            for key, item in tree.items():
                kept[key], inner, below = self.walk(item, inside=MARK in tree)
                size += inner + 2 + len(key.encode())
                levels = max(levels, below)
        # A plain field of an envelope belongs to it: the envelope leaves as a whole.
        if (size > self.largest or levels >= DEEPEST) and (not inside or MARK in kept):
            return _TREE.encode(kept, self, (), 0), _ENVELOPE_SIZE, 1
        return kept, size, levels + 1


_TREE: Final = TreeCodec()
_ENVELOPE_SIZE: Final = 256

CODECS: Final = (_TREE,)
TYPES: Final[Mapping[type, Codec]] = {}
NAMES: Final[Mapping[str, Codec]] = {}
