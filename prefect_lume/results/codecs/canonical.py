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

# UTF-8 takes at most 4 bytes for each character.
_SURELY_SHORT: Final = SHORT_TEXT // 4


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
    try:
        if kind is dict:
            return _canonical_dict(tree, load_blob)
        if kind is list:
            return _canonical_list(tree, load_blob)
    except RecursionError as exc:
        raise DecodingError("", "stored values are nested too deep.") from exc
    return _leaf(tree)


def _canonical_dict(tree: dict[str, Any], load_blob: LoadBlob | None) -> Any:
    digest = None
    fields: Mapping[str, Any] = tree
    if MARK in tree:
        if tree[MARK] == "tree":
            return canonical(_load(tree, load_blob), load_blob=load_blob)
        fields, digest = _counting(tree), content_hash(tree)
    kept: dict[str, Any] = {}
    for key, item in fields.items():
        kind = type(item)
        # Leaves are dealt with here: a call costs as much again.
        if kind is float:
            kept[key] = item + 0.0
        elif kind is str:
            kept[key] = item if len(item) <= _SURELY_SHORT else _text(item)
        elif kind is dict:
            kept[key] = _canonical_dict(item, load_blob)
        elif kind is list:
            kept[key] = _canonical_list(item, load_blob)
        else:
            kept[key] = item
    if digest is not None:
        kept["sha256"] = digest
    return kept


def _canonical_list(tree: list[Any], load_blob: LoadBlob | None) -> list[Any]:
    kept: list[Any] = []
    for item in tree:
        kind = type(item)
        if kind is dict:
            kept.append(_canonical_dict(item, load_blob))
        elif kind is list:
            kept.append(_canonical_list(item, load_blob))
        else:
            kept.append(_leaf(item))
    return kept


def _leaf(item: Any) -> Any:
    kind = type(item)
    if kind is float:
        return item + 0.0
    if kind is str and len(item) > _SURELY_SHORT:
        return _text(item)
    return item


def _counting(tree: dict[str, Any]) -> Mapping[str, Any]:
    """Return the fields of an envelope that count."""
    codec = registry.CODECS.get(str(tree[MARK]))
    if codec is None:
        raise DecodingError("", f"unknown codec {clip(repr(tree[MARK]), 60)}")
    return codec.canonical(tree)


def _text(text: str) -> Any:
    data = text.encode("utf-8")
    if len(data) <= SHORT_TEXT:
        return text
    return {MARK: "str", "sha256": sha256_bytes(data)}


def _load(tree: dict[str, Any], load_blob: LoadBlob | None) -> Any:
    return load_tree(Fields(tree, (), 0), Decoder(load_blob))
