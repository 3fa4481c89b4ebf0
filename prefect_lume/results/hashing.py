"""The hash that tells whether two results are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from prefect_lume._fingerprint import (
    canonical_json,
    join_json,
    sha256_bytes,
    sha256_tree,
)
from prefect_lume.results.codecs import canonical, encode_for_hash
from prefect_lume.results.codecs.encoder import SHORT_TEXT

__all__ = ["canonical", "hash_trees", "unique_hash"]


def unique_hash(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of some named values' content.

    The order of keys does not matter. Arrays count by dtype (not byte order), shape
    and bytes, tables by their schema and column values, files by their content. All
    NaN are equal, and so are 0.0 and -0.0 (outside arrays); 1, 1.0 and True are not.
    The hash does not depend on the process, the platform, the threshold, or the
    versions of the libraries that made the values.

    Args:
        parts: Name → value, of any kind that can be stored.

    Returns:
        64 hexadecimal digits.

    Raises:
        EncodingError: A value cannot be stored; the error says which.

    Example:
        >>> unique_hash({"a": 1, "b": [0.0]}) == unique_hash({"b": [-0.0], "a": 1})
        True
        >>> unique_hash({"a": 1}) == unique_hash({"a": 1.0})
        False
    """
    return hash_trees(
        {name: encode_for_hash(value, path=name) for name, value in parts.items()}
    )


def hash_trees(trees: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> str:
    """Return the hash of :func:`unique_hash` for values that are encoded already.

    Args:
        trees: Name → tree, of which nothing large has left as a whole (as
            :func:`prefect_lume.results.codecs.encode_for_hash` returns it).
        texts: Some of the names → their trees as ASCII JSON, where that was written
            already: most of them are their own canonical form.
    """
    known = texts or {}
    parts = {
        name: known[name]
        if name in known and _is_canonical(known[name])
        else canonical_json(canonical(tree)).decode("utf-8", "surrogatepass")
        for name, tree in trees.items()
    }
    if all(name.isascii() for name in parts):
        return sha256_bytes(join_json(parts).encode("utf-8", "surrogatepass"))
    return sha256_tree({name: canonical(tree) for name, tree in trees.items()})


def _is_canonical(text: str) -> bool:
    """Tell quickly that a tree's JSON is that of its canonical form, too.

    It is, if it holds no envelope, no long text, no -0.0 and no escaped character.
    """
    return len(text) <= SHORT_TEXT and not _OTHER.search(text)


_OTHER: Final = re.compile(r"\\|-0\.0|__lume__")
