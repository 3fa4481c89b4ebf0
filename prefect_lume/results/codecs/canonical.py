"""What of a stored tree counts for its hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.errors import DecodingError, clip
from prefect_lume.results.codecs import registry
from prefect_lume.results.codecs.base import Fields, LoadBlob, content_hash
from prefect_lume.results.codecs.decoder import Decoder
from prefect_lume.results.codecs.encoder import SHORT_TEXT
from prefect_lume.results.codecs.keys import MARK
from prefect_lume.results.codecs.spill import load_tree

_LONGEST_UTF8: Final = 4


def canonical(tree: Any, *, load_blob: LoadBlob | None = None) -> Any:
    """Return a tree in which only what counts is left.

    Two trees of the same content have the same canonical tree, wherever their
    payloads lie: a payload is replaced by the hash of its content, an envelope's
    version is dropped, and ``-0.0`` becomes ``0.0``.

    Args:
        tree: A stored tree.
        load_blob: Needed only for a tree out of which a large list or dict was
            moved as a whole.

    Returns:
        A new tree of JSON types. Key order is left to
        :func:`prefect_lume._fingerprint.canonical_json`.

    Raises:
        DecodingError: A part of the tree lies in a blob that cannot be loaded.

    Example:
        >>> canonical({"__lume__": "bytes", "v": 1, "data": "YQ==", "sha256": "ca97"})
        {'__lume__': 'bytes', 'sha256': 'ca97'}
    """
    kind = type(tree)
    if kind is str:
        return _text(tree)
    if kind is float:
        return tree + 0.0
    if kind is list:
        # A comprehension would be one more frame for each level.
        items = []
        for item in tree:
            items.append(canonical(item, load_blob=load_blob))  # noqa: PERF401
        return items
    if kind is not dict:
        return tree
    if tree.get(MARK) == "tree":
        return canonical(_load(tree, load_blob), load_blob=load_blob)
    kept = {}
    for key, item in _counting(tree).items():
        kept[key] = canonical(item, load_blob=load_blob)
    digest = content_hash(tree) if MARK in tree else None
    return kept if digest is None else {**kept, "sha256": digest}


def _counting(tree: dict[str, Any]) -> Mapping[str, Any]:
    """Return the fields that count."""
    if MARK not in tree:
        return tree
    codec = registry.CODECS.get(str(tree[MARK]))
    if codec is None:
        raise DecodingError("", f"unknown codec {clip(repr(tree[MARK]), 60)}")
    return codec.canonical(tree)


def _text(text: str) -> Any:
    if len(text) * _LONGEST_UTF8 <= SHORT_TEXT:
        return text
    data = text.encode("utf-8")
    if len(data) <= SHORT_TEXT:
        return text
    return {MARK: "str", "sha256": sha256_bytes(data)}


def _load(tree: dict[str, Any], load_blob: LoadBlob | None) -> Any:
    return load_tree(Fields(tree, (), 0), Decoder(load_blob))
