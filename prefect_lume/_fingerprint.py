"""SHA-256 of bytes, files and plain trees, in one canonical form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK = 1 << 20
# Making the encoder takes longer than encoding a small tree.
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode
_ASCII = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def sha256_bytes(data: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of some bytes as 64 hexadecimal digits.

    Example:
        >>> sha256_bytes(b"")[:8]
        'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def sha256_stream(stream: BinaryIO) -> str:
    """Return the SHA-256 of what is left in a binary stream, read in 1 MiB steps."""
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, read in 1 MiB steps."""
    with Path(path).open("rb") as stream:
        return sha256_stream(stream)


def canonical_json(tree: Any) -> bytes:
    """Return plain data as JSON bytes in which equal trees have equal bytes.

    Keys are sorted and white space is left out. The tree holds dicts with string
    keys, lists, strings, finite numbers, booleans and None only; NaN and infinities
    are refused (encode them first).

    Example:
        >>> canonical_json({"b": 1, "a": [1.5, None]})
        b'{"a":[1.5,null],"b":1}'
    """
    return _CANONICAL(tree).encode("utf-8", "surrogatepass")


def ascii_json(tree: Any) -> str:
    r"""Return plain data as ASCII JSON with sorted keys; it reads back exactly.

    Example:
        >>> ascii_json({"b": 1.0, "a": "é"})
        '{"a":"\\u00e9","b":1.0}'
    """
    return _ASCII(tree)


def join_json(texts: Mapping[str, str]) -> str:
    """Return the JSON object whose values are JSON texts already.

    Example:
        >>> join_json({"b": "1.0", "a": "[]"}) == ascii_json({"a": [], "b": 1.0})
        True
    """
    fields = [f"{_key(name)}:{texts[name]}" for name in sorted(texts)]
    return "{" + ",".join(fields) + "}"


@lru_cache(maxsize=1024)
def _key(name: str) -> str:
    return _ASCII(name)


def sha256_tree(tree: Any) -> str:
    """Return the SHA-256 of plain data: key order does not matter.

    Example:
        >>> sha256_tree({"a": 1, "b": 2}) == sha256_tree({"b": 2, "a": 1})
        True
    """
    return sha256_bytes(canonical_json(tree))
