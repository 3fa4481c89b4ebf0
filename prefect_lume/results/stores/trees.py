"""Documents as text, and which blobs they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_MARK: Final = "__lume__"
_HASH: Final = re.compile(r"[0-9a-f]{64}")


def to_json(tree: Any) -> str:
    r"""Return a tree as ASCII JSON with sorted keys; it reads back exactly.

    Example:
        >>> to_json({"b": 1.0, "a": "é"})
        '{"a":"\\u00e9","b":1.0}'
    """
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)


def blobs_of(tree: Any, get_blob: Callable[[str], bytes | bytearray]) -> Iterator[str]:
    """Yield the hashes of the blobs that a document needs.

    Args:
        tree: The document.
        get_blob: Loads a part of the document that is a blob itself, to look into.
    """
    if isinstance(tree, Mapping):
        digest = tree.get("blob")
        if _MARK in tree and isinstance(digest, str) and _HASH.fullmatch(digest):
            yield digest
            if tree[_MARK] == "tree":
                yield from blobs_of(json.loads(get_blob(digest)), get_blob)
        for value in tree.values():
            yield from blobs_of(value, get_blob)
    elif isinstance(tree, list):
        for item in tree:
            yield from blobs_of(item, get_blob)
