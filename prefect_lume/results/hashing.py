"""The hash that tells whether two results are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_lume._fingerprint import sha256_tree
from prefect_lume.results.codecs import canonical, encode_for_hash

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


def hash_trees(trees: Mapping[str, Any]) -> str:
    """Return the hash of :func:`unique_hash` for values that are encoded already.

    Args:
        trees: Name → tree, of which nothing large has left as a whole (as
            :func:`prefect_lume.results.codecs.encode_for_hash` returns it).
    """
    return sha256_tree({name: canonical(tree) for name, tree in trees.items()})
